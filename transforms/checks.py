"""What a sample must be so that the steps after it mean something; raised before they run."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

AFFINE_TOLERANCE_MM = 1e-3
VALUES_NAMED = 5


class RequireSignald(MapTransform):
    """Refuse an image (C, H, W, D) with a channel of one value only.

    Raises:
        ValueError: giving the channel's number, from 0, and the value.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        for key in self.key_iterator(data):
            for number, channel in enumerate(data[key]):
                lowest, highest = (float(value) for value in torch.aminmax(channel))
                if lowest == highest:
                    raise ValueError(f"{key} {number} is empty, every voxel is {lowest:g}; export it again.")
        return dict(data)


class KnownLabelsd(MapTransform):
    """Refuse a label map with a value that is not one of `values`.

    Raises:
        ValueError: naming the first of the others.
    """

    def __init__(self, keys: KeysCollection, values: Iterable[int]) -> None:
        super().__init__(keys)
        self.values = sorted(values)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        for key in self.key_iterator(data):
            label_map = data[key]
            unknown = ~torch.isin(torch.as_tensor(label_map), torch.as_tensor(self.values, dtype=label_map.dtype))
            if bool(unknown.any()):
                found = torch.unique(torch.as_tensor(label_map)[unknown])[:VALUES_NAMED].tolist()
                named, known = (", ".join(f"{value:g}" for value in row) for row in (found, self.values))
                raise ValueError(f"the label map holds {named}, which is no label of this data set ({known}).")
        return dict(data)


class SameGridd(MapTransform):
    """Refuse a sample whose files do not share shape and affine; what was done to the images since does not matter.

    Raises:
        ValueError: giving both shapes, or saying that the affines differ.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        present = [(key, data[key]) for key in self.key_iterator(data) if isinstance(data[key], MetaTensor)]
        for key, image in present[1:]:
            first_key, first = present[0]
            shapes = [tuple(int(n) for n in volume.meta["spatial_shape"]) for volume in (image, first)]
            if shapes[0] != shapes[1]:
                here, there = ("×".join(map(str, shape)) for shape in shapes)
                named = f"its {_named(key)} has {here} voxels, its {_named(first_key)} {there}"
                raise ValueError(f"{named}; give the one that belongs to it.")
            affines = [np.asarray(volume.meta["original_affine"]) for volume in (image, first)]
            if not np.allclose(*affines, atol=AFFINE_TOLERANCE_MM, rtol=0):
                named = f"its {_named(key)} and its {_named(first_key)} have different affines"
                raise ValueError(f"{named}; give the one that belongs to it, or register them first.")
        return dict(data)


def _named(key: Hashable) -> str:
    return {"image": "images", "label": "segmentation"}.get(str(key), str(key))
