"""A run: its session, training loop, checkpoints and folder."""
