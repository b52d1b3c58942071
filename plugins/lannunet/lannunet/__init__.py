"""LannU-Net for programs: train, and find landmarks or segment in images that are in memory.

    model = lannunet.load("runs/wings", lannunet.Landmarks)
    found = model.predict(array, spacing=(0.1, 0.1))
    found.points, found.confidence, found.radius, found.names

`docs/python.md` shows more. What is listed in `__init__.pyi` is the whole face; each name is imported when it
is first asked for, so that `import lannunet` is quick.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
