"""What of an image is brain, and which of its intensities are shown as black and white."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from transforms.background import find_background

GREY_PERCENTILES = (1.0, 99.5)
"""Of a scan's brain, shown as black and white at first."""


def brain_mask(voxels: NDArray[Any]) -> NDArray[np.bool_]:
    """Where an image shows brain, see `transforms.background`."""
    return find_background(voxels).brain_in(voxels)


def grey_limits(brain: NDArray[Any], percentiles: tuple[float, float] = GREY_PERCENTILES) -> tuple[float, float]:
    """Intensities to show as black and white, from those of the brain."""
    if not brain.size:
        return 0.0, 1.0
    low, high = map(float, np.percentile(brain, percentiles))
    return low, high if high > low else low + 1
