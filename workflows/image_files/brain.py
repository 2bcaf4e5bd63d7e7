"""What of an image is brain, and which of its intensities are shown as black and white."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

GREY_PERCENTILES = (1.0, 99.5)
"""Of a scan's brain, shown as black and white at first."""


def brain_mask(voxels: NDArray[Any]) -> NDArray[np.bool_]:
    """Where an image differs from its background, the value that is most frequent on the faces of the volume.

    The background of a z-scored copy is not zero.
    """
    values, counts = np.unique(faces(voxels), return_counts=True)
    return np.asarray(voxels != values[counts.argmax()])


def faces(volume: NDArray[Any]) -> NDArray[Any]:
    """The voxels on the outside of a volume, in one row."""
    return np.concatenate([volume.take(end, axis).ravel() for axis in range(volume.ndim) for end in (0, -1)])


def grey_limits(brain: NDArray[Any], percentiles: tuple[float, float] = GREY_PERCENTILES) -> tuple[float, float]:
    """Intensities to show as black and white, from those of the brain."""
    if not brain.size:
        return 0.0, 1.0
    low, high = map(float, np.percentile(brain, percentiles))
    return low, high if high > low else low + 1
