"""Names of types. Importing this needs numpy only."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
