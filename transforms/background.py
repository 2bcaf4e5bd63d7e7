"""Which intensities of an image are background, and which no tissue: one answer for audit, training and prediction."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

SAMPLE_VOXELS = 2**18
"""So many, evenly spaced, show the intensities of an image as well as all do."""
FLAT_SHARE = 0.2
"""Of an image, filled by the one value of its background: 0.8 in BraTS, 0.45 in a box around the brain."""
FAINT, FAINT_SHARE = 0.01, 0.05
"""More than this share of the brain is not fainter than this part of its brightest; 0.009 is in 74 real images."""
FAINT_OF_DARK = 0.2
"""Less where the faint are no noise but the middle of a brain that was z-scored: 0.13."""
PADDING_SHARE = 0.01
DARK, LARGEST_NOISE = 0.1, 0.2
"""Parts of the brightest: noise is measured below the one, and ends at the other."""
SIX_SIGMA = 6 * 1.4826
"""Of normally distributed values, over the median of their magnitudes."""
BROKEN = 20.0
"""Times the brightest of the brain; no voxel of 74 real images reaches 5 times."""


class Background(NamedTuple):
    """What of an image's intensities shows no brain.

    Attributes:
        level: the background's value.
        noise: how far the background strays from it; 0 where it is one value, as in scans that BraTS publishes.
        above, below: tissue lies between these; what is beyond is padding or broken.
    """

    level: float
    noise: float = 0.0
    above: float = -math.inf
    below: float = math.inf

    @property
    def is_one_value(self) -> bool:
        """Whether every other value is brain."""
        return self == Background(self.level)

    def brain_in(self, voxels: NDArray[Any]) -> NDArray[np.bool_]:
        """Where the image that was looked at shows brain."""
        if self.is_one_value:
            return np.asarray(voxels != self.level)
        brain = np.abs(voxels - self.level) > self.noise
        if self.noise:
            brain = ndimage.binary_fill_holes(brain)
        return np.asarray(brain & (voxels > self.above) & (voxels < self.below))

    def in_words(self, voxels: NDArray[Any]) -> list[str]:
        """What is unusual about the image that was looked at, one line each; none where nothing is."""
        if self.is_one_value:
            return []
        words = []
        if self.noise:
            level = f"{self.level:.4g}" if abs(self.level) > self.noise else "0"
            words.append(f"the background is not one value; what is within {self.noise:.3g} of {level} is taken for it")
        if padding := np.count_nonzero(voxels == self.above):
            words.append(f"the background is {self.level:.4g} and, in {padding} voxels, {self.above:.4g}")
        if broken := np.count_nonzero((voxels < self.above) | (voxels >= self.below)):
            extreme = max(float(voxels.max()), float(voxels.min()), key=lambda value: abs(value - self.level))
            words.append(f"{extreme:.4g} is far beyond its intensities; {broken} such voxels are taken for background")
        return words


def find_background(voxels: NDArray[Any]) -> Background:
    """Tell background from brain in an image (H, W, D), by a sample of its voxels."""
    step = max(1, int((voxels.size / SAMPLE_VOXELS) ** (1 / 3)))
    sample = voxels[::step, ::step, ::step].ravel()
    lowest, highest = float(voxels.min()), float(voxels.max())
    values, counts = np.unique(sample, return_counts=True)
    flat = values[counts > FLAT_SHARE * sample.size]
    level = float(flat[-1] if flat.size else np.percentile(faces(voxels), 50, method="lower"))
    padded = bool(flat.size and lowest < level and np.mean(sample == lowest) > PADDING_SHARE)
    bright = np.abs(sample.astype(np.float64) - level)
    bright = bright[(bright > 0) & ((sample > lowest) | (not padded))]
    if not bright.size:
        return Background(level)
    brightest = float(np.percentile(bright, 99))
    noise = 0.0
    dark = bright[bright < DARK * brightest]
    faint = np.count_nonzero(dark < FAINT * brightest)
    if not flat.size or faint > max(FAINT_SHARE * bright.size, FAINT_OF_DARK * dark.size):
        measured = SIX_SIGMA * float(np.median(dark)) if dark.size else 0.0
        noise = min(max(measured, FAINT * brightest), LARGEST_NOISE * brightest)
    limit = BROKEN * brightest
    above = lowest if padded else level - limit if lowest < level - limit else -math.inf
    return Background(level, noise, above, level + limit if highest > level + limit else math.inf)


def faces(volume: NDArray[Any]) -> NDArray[Any]:
    """The voxels on the outside of a volume, in one row."""
    return np.concatenate([volume.take(end, axis).ravel() for axis in range(volume.ndim) for end in (0, -1)])
