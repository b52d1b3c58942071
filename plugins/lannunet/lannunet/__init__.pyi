"""The public API, by subject. See `__init__.py`."""

from .verbs import (
    Model as Model,
    Trained as Trained,
    evaluate as evaluate,
    load as load,
    plan as plan,
    read_dataset as read_dataset,
    train as train,
)
from .errors import (
    LannunetError as LannunetError,
    RunFailed as RunFailed,
    UserError as UserError,
)

# What models answer for an image
from .landmarks import Landmarks as Landmarks
from .segmentation import Segmentation as Segmentation
