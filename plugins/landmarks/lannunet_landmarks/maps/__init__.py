"""Heatmaps as labels, their losses, and the way from maps to coordinates."""
