"""From nnU-Net folders to training patches."""
