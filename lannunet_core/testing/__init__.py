"""The conformance kit: tests of a plugin against its contracts.

An author's test file is a class or two:

    from lannunet_core.testing import ArchitectureConformance

    class TestMyModel(ArchitectureConformance):
        plugin = "my-model"
        config = {"features": 8}

The attributes are those of `Subject`. pytest runs the class; `run(TestMyModel())` runs it without pytest, and
`lannunet plugins check my-model` does so for an installed plugin.

A plugin is tested in every installed task that it supports. For hooks that only one task calls, the task has
its own test classes, in its package; its `Bench` provides them, and the runs in which plugins are tested. The
functions here are for writing checks and benches.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
