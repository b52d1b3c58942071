"""Labels and the loss."""
