"""What networks learn and answer: heatmaps, losses, and from maps to coordinates."""
