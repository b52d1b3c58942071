"""Whether a plugin keeps its contracts.

An author's test file is a class or two:

    from lannunet_core.testing import ArchitectureConformance

    class TestMyModel(ArchitectureConformance):
        plugin = "my-model"
        config = {"features": 8}

`Subject` says which attributes there are. pytest runs the class as it is, `run(TestMyModel())` does so
without pytest, and `lannunet plugins check my-model` runs the same on an installed plugin.

A plugin is tried in every installed task that it serves. For hooks that one task alone asks for, the task has
test classes of its own, in its package; it provides them, and the runs that plugins are tried in, with a
`Bench`. The functions here are what checks and benches are made of.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
