"""The sub-commands that the task brings."""
