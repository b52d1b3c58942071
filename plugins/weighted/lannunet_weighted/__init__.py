"""Weight maps as a LannU-Net plugin."""
