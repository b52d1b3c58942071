"""Annotation formats of other programs for the task `landmarks`: one module per program."""
