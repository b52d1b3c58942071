"""Landmark localisation as a LannU-Net task."""
