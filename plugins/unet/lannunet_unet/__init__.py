"""U-Net as a LannU-Net plugin."""
