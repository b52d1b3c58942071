"""Finding plugins, choosing those of a run, and calling their hooks."""
