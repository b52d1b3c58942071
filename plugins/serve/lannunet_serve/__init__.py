"""A local page for predictions: view them, correct them, and save them as annotations."""
