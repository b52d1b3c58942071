"""From files to tensors: annotations, images, resizing, and the loaders of training and evaluation."""
