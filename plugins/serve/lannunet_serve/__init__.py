"""A local page for what a model predicts: inspect it, correct it, and save it to annotations."""
