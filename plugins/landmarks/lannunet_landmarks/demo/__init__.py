"""The demo on generated images of hands."""
