"""Segmentation, also of partial annotations, as a LannU-Net task.

Plugins may import the names that `__init__.pyi` lists. Each name is imported when it is first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
