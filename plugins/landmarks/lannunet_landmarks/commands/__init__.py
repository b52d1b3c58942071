"""The sub-commands that the task provides."""
