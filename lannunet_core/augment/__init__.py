"""Augmentation: a scheme draws a small transform; `on_device` (torch) or a plugin's `augmenter` applies
it."""
