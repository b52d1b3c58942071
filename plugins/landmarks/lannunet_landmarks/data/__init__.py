"""From annotations and images to training and evaluation samples."""
