"""Post-processing of a label map, in named steps that can be switched on one by one; argmax alone is the study's.

The steps work on whole tumour, three-dimensionally, with 26 neighbours: the classes of one tumour touch each other.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Hashable, Mapping
from typing import Any, cast

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import KeepLargestConnectedComponent, MapTransform, RemoveSmallObjects, Transform

from transforms.boxes import box_around
from transforms.labels import BACKGROUND, ENHANCING, NECROTIC_CORE
from transforms.slices import plain

TOUCHING = 3  # a component's voxels may touch by a corner
SMALL_COMPONENTS, LARGEST_COMPONENT, LITTLE_ENHANCING = "small components", "largest component", "little enhancing"
STEPS = (SMALL_COMPONENTS, LARGEST_COMPONENT, LITTLE_ENHANCING)


def cleaning_steps(
    smallest_component_mm3: float = 0,
    largest_component_only: bool = False,
    smallest_enhancing_mm3: float = 0,
    key: str = "label_map",
) -> dict[str, Transform]:
    """The steps that are switched on, in the order in which they are applied, by their names in `STEPS`.

    Args:
        smallest_component_mm3: connected tumours smaller than this become background; 0 keeps all.
        largest_component_only: all but the largest connected tumour become background.
        smallest_enhancing_mm3: enhancing tumour of less than this in the whole case becomes necrotic core, as the
            winner of BraTS 2020 did (Isensee et al. 2020, arXiv:2011.00848); 0 leaves it.
        key: what the steps change in a sample, partly in place: a `MetaTensor` (1, H, W, D) of class indices.
    Raises:
        ValueError: if a volume is below 0.
    """
    if smallest_component_mm3 < 0 or smallest_enhancing_mm3 < 0:
        raise ValueError("smallest_component_mm3 and smallest_enhancing_mm3 are volumes in mm³, 0 or above.")
    steps: dict[str, Transform] = {}
    if smallest_component_mm3:
        steps[SMALL_COMPONENTS] = RemoveSmallComponentsd(keys=key, smallest_mm3=smallest_component_mm3)
    if largest_component_only:
        steps[LARGEST_COMPONENT] = LargestComponentd(keys=key)
    if smallest_enhancing_mm3:
        steps[LITTLE_ENHANCING] = LittleEnhancingToNecrosisd(keys=key, smallest_mm3=smallest_enhancing_mm3)
    return steps


class LargestComponentd(MapTransform):
    """All but the largest connected tumour become background, in place.

    MONAI's `KeepLargestConnectedComponent` does it, within the box around all tumour: on a whole volume, most of which
    is background, it takes ten times as long.
    """

    def __init__(self, keys: KeysCollection) -> None:
        super().__init__(keys)
        self.keep = KeepLargestConnectedComponent(is_onehot=False, independent=False, connectivity=TOUCHING)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Clean the label maps (1, H, W, D)."""
        for key in self.key_iterator(data):
            label_map = plain(data[key])
            box = (slice(None), *box_around(label_map[0] != BACKGROUND))
            label_map[box] = torch.as_tensor(self.keep(label_map[box]))
        return dict(data)


class RemoveSmallComponentsd(MapTransform):
    """Connected tumours of less than `smallest_mm3`, whatever their classes, become background.

    MONAI's `RemoveSmallObjects` does it. Its own threshold in mm³ removes components of exactly that size too or not,
    by the version of scikit-image below it; half a voxel less means the same in all.
    """

    def __init__(self, keys: KeysCollection, smallest_mm3: float) -> None:
        super().__init__(keys)
        self.smallest_mm3 = smallest_mm3

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Clean the label maps (1, H, W, D), `MetaTensor`s."""
        return {**data, **{key: self._remove(data[key]) for key in self.key_iterator(data)}}

    def _remove(self, label_map: MetaTensor) -> MetaTensor:
        voxels: Any = math.ceil(self.smallest_mm3 / voxel_mm3(label_map)) - 0.5
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # MONAI names the threshold as older versions of scikit-image do
            removed = RemoveSmallObjects(voxels, connectivity=TOUCHING, independent_channels=False)(label_map)
        return cast(MetaTensor, removed)


class LittleEnhancingToNecrosisd(MapTransform):
    """Enhancing tumour of less than `smallest_mm3` in the whole case becomes necrotic core."""

    def __init__(self, keys: KeysCollection, smallest_mm3: float) -> None:
        super().__init__(keys)
        self.smallest_mm3 = smallest_mm3

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Clean the label maps (1, H, W, D), `MetaTensor`s."""
        return {**data, **{key: self._convert(data[key]) for key in self.key_iterator(data)}}

    def _convert(self, label_map: MetaTensor) -> MetaTensor:
        enhancing = label_map == ENHANCING
        enough = int(enhancing.sum()) * voxel_mm3(label_map) >= self.smallest_mm3
        return label_map if enough else cast(MetaTensor, torch.where(enhancing, NECROTIC_CORE, label_map))


def voxel_mm3(label_map: MetaTensor) -> float:
    """Volume of a voxel."""
    return float(np.prod(np.asarray(label_map.pixdim)))
