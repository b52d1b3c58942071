"""Images for the tasks of LannU-Net: the formats, and how an image becomes what a network sees.

What is listed in `__init__.pyi` is the public API.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
