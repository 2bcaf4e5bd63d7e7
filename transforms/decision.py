"""A tumour that grows to where the best Dice of WT and TC is to be expected."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from numpy.typing import NDArray
from scipy import ndimage

from transforms.boxes import box_around, widened
from transforms.labels import BACKGROUND, ENHANCING, NECROTIC_CORE, OEDEMA, REGIONS
from transforms.slices import plain

LOWEST_THRESHOLD = 0.4
"""That of an expected Dice of 0.8. Networks of few patients are surer than they are right."""
FARTHEST_MM = 3
"""Along each axis, lest a tumour reach what was removed as no part of it."""
ROUNDING = 1e-3
"""Of voxel sizes that stand in a file as float32."""
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


def reach(spacing_mm: Sequence[float]) -> tuple[int, ...]:
    """How many voxels a tumour may grow along each axis; none along one whose voxels are longer than `FARTHEST_MM`."""
    return tuple(int(FARTHEST_MM / length + ROUNDING) for length in spacing_mm)


def grown(
    probabilities: NDArray[np.floating], found: NDArray[np.uint8], kept: NDArray[np.uint8], farthest: Sequence[int]
) -> NDArray[np.uint8]:
    """A tumour and in it a tumour core, each grown to the size with which the best Dice is to be expected.

    Both grow from voxel to voxel, the tumour not into what was found and not kept, and never shrink. What is new is
    oedema, in the core necrotic core, or enhancing tumour where that is more probable and reaches what was it before. A
    region that is not there does not appear.

    Args:
        probabilities: (4, H, W, D).
        found: (H, W, D) the most probable classes.
        kept: what post-processing has left of them.
        farthest: see `reach`.
    Returns:
        Class indices (H, W, D).
    """
    tumour = kept != BACKGROUND
    near = ndimage.maximum_filter(tumour.view(np.uint8), [2 * voxels + 1 for voxels in farthest]).astype(bool)
    near &= tumour | (found == BACKGROUND)
    whole = _reached(tumour, _taken(probabilities, "WT", near))
    core = np.isin(kept, REGIONS["TC"])
    whole_core = _reached(core, _taken(probabilities, "TC", whole))
    new = whole_core & ~core
    enhancing = kept == ENHANCING
    whole_enhancing = _reached(enhancing, new & (probabilities[ENHANCING] > probabilities[NECROTIC_CORE]))
    classes = np.where(whole & ~tumour, np.uint8(OEDEMA), kept)
    classes[new] = NECROTIC_CORE
    classes[whole_enhancing] = ENHANCING
    return classes


def _reached(start: NDArray[np.bool_], taken: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A region and what is connected with it of the voxels that it takes in, by faces, edges or corners."""
    reached: NDArray[np.bool_] = ndimage.binary_propagation(start, structure=np.ones((3, 3, 3)), mask=start | taken)
    return reached


def _taken(probabilities: NDArray[np.floating], region: str, within: NDArray[np.bool_]) -> NDArray[np.bool_]:
    belonging = np.where(within, probabilities[list(REGIONS[region])].sum(axis=0), 0)
    taken: NDArray[np.bool_] = belonging > expected_dice_threshold(belonging)
    return taken


class BestExpectedDiced(MapTransform):
    """Dictionary version of `grown`: changes the label map (1, H, W, D), a MetaTensor, under `keys` in place.

    Args:
        probabilities_key: (4, H, W, D).
        found_key: the most probable classes (1, H, W, D).
    """

    def __init__(self, keys: KeysCollection, probabilities_key: str, found_key: str) -> None:
        super().__init__(keys)
        self.probabilities_key, self.found_key = probabilities_key, found_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Let the tumour grow; a label map without tumour stays as it is."""
        for key in self.key_iterator(data):
            label_map = plain(data[key])
            tumour = box_around(label_map[0] != BACKGROUND)
            farthest = reach(data[key].pixdim.tolist())
            box = (slice(None), *widened(tumour, max(farthest), label_map.shape[1:]))
            probabilities, found, kept = (
                plain(volume)[box].cpu().numpy()
                for volume in (data[self.probabilities_key], data[self.found_key], label_map)
            )
            if kept.any():
                larger = grown(probabilities, found[0], kept[0], farthest)
                label_map[box] = torch.as_tensor(larger)[None].to(label_map.device)
        return dict(data)
