"""The networks of MONAI as a LannU-Net plugin."""
