"""Landmark localisation, as a LannU-Net task.

What is listed in `__init__.pyi`, by subject, is what plugins may import. Each name is imported when it is
first asked for.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
