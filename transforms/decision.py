"""A label map of the regions with which the best Dice is to be expected, made of the one by argmax."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from transforms.boxes import box_around, inside
from transforms.labels import BACKGROUND, ENHANCING, NECROTIC_CORE, OEDEMA, REGIONS
from transforms.slices import plain

LOWEST_THRESHOLD = 0.4
"""That of an expected Dice of 0.8. Networks of few patients are surer than they are right: a lower one lost what it had
won (docs/experiments.md)."""
FARTHEST_VOXELS = 3
"""A tumour grows no farther beyond what argmax found, lest it reach what was removed as no part of it."""
CLASS_BETWEEN = {"WT": OEDEMA, "TC": NECROTIC_CORE, "ET": ENHANCING}
"""The class of a region's voxels that belong to no smaller region."""
MOST_STEPS = 50


def expected_dice_threshold(probabilities: NDArray[np.floating]) -> float:
    """The probability above which voxels are to be taken into a region, for its expected Dice to be the best.

    Voxels S overlap with a region of size Σ p in Σ_S p of them, so that a Dice of 2 Σ_S p / (Σ p + |S|) is to be
    expected, expectation by expectation. It is best for all voxels above half of that best Dice (Lipton et al. 2014,
    arXiv:1402.1892): a little below 0.5 where the probabilities are sure, lower where they are not. It is found by
    Dinkelbach's iteration, in which the Dice only grows; a few steps do.

    Args:
        probabilities: of belonging to the region, of all voxels where that may be.
    Returns:
        From `LOWEST_THRESHOLD` to 0.5.
    """
    size = probabilities.sum(dtype=np.float64)
    candidates = probabilities[probabilities > LOWEST_THRESHOLD]
    threshold = 0.5
    for _ in range(MOST_STEPS):
        taken = candidates[candidates > threshold]
        dice = 2 * taken.sum(dtype=np.float64) / (size + len(taken)) if len(taken) else 0.0
        better = max(dice / 2, LOWEST_THRESHOLD)
        if better == threshold:
            break
        threshold = better
    return float(threshold)


def grown(probabilities: NDArray[np.floating], found: NDArray[np.uint8], kept: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """WT, TC and ET, each of the size that lets the best Dice be expected, around a tumour that stays as it is.

    The tumour grows from voxel to voxel, and not into what was found and not kept. A voxel has the class of the
    smallest region that it belongs to; a region that is not there stays empty.

    Args:
        probabilities: (4, H, W, D).
        found: (H, W, D) the most probable classes.
        kept: what post-processing has left of them.
    Returns:
        Class indices (H, W, D).
    """
    tumour = kept != BACKGROUND
    near = ndimage.maximum_filter(tumour.view(np.uint8), 2 * FARTHEST_VOXELS + 1).astype(bool)
    near &= tumour | (found == BACKGROUND)
    classes = np.zeros_like(kept)
    for region, members in REGIONS.items():  # from the largest to the smallest
        if not np.isin(kept, members).any():
            break
        belonging = np.where(near, probabilities[list(members)].sum(axis=0), 0)
        taken = near & (belonging > expected_dice_threshold(belonging))
        if region == "WT":
            near = ndimage.binary_propagation(tumour, structure=np.ones((3, 3, 3)), mask=taken | tumour)
            taken = near
        classes[taken] = CLASS_BETWEEN[region]
    return classes


class BestExpectedDiced(MapTransform):
    """Dictionary version of `grown`: changes the label map (1, H, W, D) under `keys` in place.

    Args:
        probabilities_key: (4, H, W, D).
        found_key: the most probable classes (1, H, W, D).
    """

    def __init__(self, keys: KeysCollection, probabilities_key: str, found_key: str) -> None:
        super().__init__(keys)
        self.probabilities_key, self.found_key = probabilities_key, found_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        for key in self.key_iterator(data):
            label_map = plain(data[key])
            box = (slice(None), *_with_room(label_map[0] != BACKGROUND))
            probabilities, found, kept = (
                plain(volume)[box].cpu().numpy()
                for volume in (data[self.probabilities_key], data[self.found_key], label_map)
            )
            if kept.any():
                label_map[box] = torch.as_tensor(grown(probabilities, found[0], kept[0]))[None].to(label_map.device)
        return dict(data)


def _with_room(tumour: Tensor) -> tuple[slice, slice, slice]:
    """The box of (H, W, D) into which a tumour may grow."""
    start, end = box_around(tumour)
    return inside((np.maximum(start - FARTHEST_VOXELS, 0), np.minimum(end + FARTHEST_VOXELS, tumour.shape)))
