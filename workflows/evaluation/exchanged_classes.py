"""Whether two label maps look as if one of them names the classes in another order."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from transforms.labels import CLASS_NAMES, NUM_CLASSES

LEAST_GAIN = 0.2
"""In mean Dice; so much better after exchanging classes, it is more likely their order than their quality."""


def confusion(prediction: NDArray[np.uint8], reference: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(reference class, predicted class) the number of voxels, from two maps of class indices of one shape."""
    pairs = np.bincount((reference * NUM_CLASSES + prediction).ravel(order="K"), minlength=NUM_CLASSES**2)
    return pairs.reshape(NUM_CLASSES, NUM_CLASSES)


def exchanged(cases: Sequence[NDArray[np.int64]]) -> str:
    """One line if another order of the predicted classes fits much better; empty otherwise.

    Args:
        cases: of each its `confusion`.
    """
    orders = [(0, *order) for order in itertools.permutations(range(1, NUM_CLASSES))]  # the first changes nothing
    means = [float(np.mean([_mean_dice(case[:, order]) for case in cases] or [0])) for order in orders]
    best = int(np.argmax(means))
    if means[best] - means[0] <= LEAST_GAIN:
        return ""
    changed = [CLASS_NAMES[index] for index in range(1, NUM_CLASSES) if orders[best][index] != index]
    return f"exchanging {' and '.join(changed)} raises the mean Dice from {means[0]:.2f} to {means[best]:.2f}"


def _mean_dice(counts: NDArray[np.int64]) -> float:
    """Of the tumour's classes that either map holds; 1 where neither holds any."""
    both, sizes = np.diag(counts)[1:], (counts.sum(0) + counts.sum(1))[1:]
    return float(np.mean(2 * both[sizes > 0] / sizes[sizes > 0])) if sizes.any() else 1.0
