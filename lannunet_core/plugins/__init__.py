"""Find plugins, choose those of a run, and call their hooks."""
