"""Parts of a task's report: the page, its charts and pictures, and metrics with their intervals."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
