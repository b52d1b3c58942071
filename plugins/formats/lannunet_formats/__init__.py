"""Annotations of other programs, as formats of the task `landmarks`: one module per program."""
