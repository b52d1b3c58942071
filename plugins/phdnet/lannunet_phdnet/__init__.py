"""PHD-Net as a LannU-Net plugin."""
