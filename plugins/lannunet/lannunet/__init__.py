"""LannU-Net for programs: train models, and predict landmarks or label maps of images in memory.

    model = lannunet.load("runs/wings", lannunet.Landmarks)
    found = model.predict(array, spacing=(0.1, 0.1))
    found.points, found.confidence, found.radius, found.names

`docs/python.md` shows more. `__init__.pyi` lists all public names; each is imported at its first
use, so that `import lannunet` is fast.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
