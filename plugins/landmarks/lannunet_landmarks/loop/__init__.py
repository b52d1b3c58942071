"""The loop with an annotator: which images to annotate next, and merging what was annotated."""
