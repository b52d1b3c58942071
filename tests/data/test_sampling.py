import pickle

import numpy as np
import pytest

from lannunet_core.augment.spatial import SpatialTransform
from lannunet_core.data.sampling import FullImage


@pytest.mark.parametrize("size", [(64, 48), (33, 20, 17)])
def test_a_full_image_is_shown_as_it_is(size):
    sampling = pickle.loads(pickle.dumps(FullImage(size)))
    points = np.random.default_rng(0).uniform(0, 15, (5, len(size)))
    transform = SpatialTransform.identity(len(size))
    centre = sampling.centre(np.random.default_rng(0), size, points, np.zeros(5, np.int64), transform)
    np.testing.assert_allclose(transform.to_source(points, centre, sampling.output_size), points, atol=1e-12)
