"""Augmentation: a scheme draws a small transform; `on_device` (torch) or an `augmenter` applies it."""
