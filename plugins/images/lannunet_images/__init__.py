"""Images for the tasks of LannU-Net: file formats, and the preparation of a network's input.

The names in `__init__.pyi` are the public API.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
