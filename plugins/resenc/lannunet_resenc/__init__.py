"""nnU-Net's U-Nets as a LannU-Net plugin."""
