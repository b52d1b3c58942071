"""What the report of a task is made of: a page, its charts and pictures, and figures with their intervals."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
