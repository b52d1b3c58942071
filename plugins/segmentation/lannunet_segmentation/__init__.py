"""The task `segmentation`: nnU-Net folders, volumes with voxels that nobody annotated, patches."""
