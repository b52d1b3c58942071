"""Training on partial annotations as LannU-Net plugins."""
