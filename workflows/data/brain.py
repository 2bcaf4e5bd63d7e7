"""What of an image is brain."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def brain_mask(voxels: NDArray) -> NDArray:
    """Where an image differs from its background, the value that is most frequent on the faces of the volume.

    The background of a z-scored copy is not zero.
    """
    values, counts = np.unique(_faces(voxels), return_counts=True)
    return voxels != values[counts.argmax()]


def _faces(volume: NDArray) -> NDArray:
    return np.concatenate([volume.take(end, axis).ravel() for axis in range(volume.ndim) for end in (0, -1)])
