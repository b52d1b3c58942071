"""Augmentation: a scheme draws a small transform, `on_device` (torch) or `with_imgaug` applies it."""
