"""The LannU-Net core: the engine that runs tasks and plugins, and knows none of them.

What is listed in `__init__.pyi`, by subject, is the whole public API: what tasks and plugins may import, and
what is promised to them. Each name is imported when it is first asked for, so that `import lannunet_core` is
quick. Beside it there is `lannunet_core.testing`, the conformance kit.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
