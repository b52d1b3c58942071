"""Records of a run as a LannU-Net plugin."""
