"""The LannU-Net core: the engine that runs tasks and plugins, and depends on none of them.

The public API is what `__init__.pyi` lists by subject: tasks and plugins may import it, and it is kept
stable. Each name is imported when it is first used, so that `import lannunet_core` is fast. The conformance
kit is `lannunet_core.testing`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
