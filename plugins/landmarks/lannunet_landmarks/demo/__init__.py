"""The demo on pictures of hands that the product draws itself."""
