"""What a sample must be so that the steps after it mean something; raised before they run."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any, cast

import nibabel as nib
import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Orientation

from transforms.geometry import same_place
from transforms.labels import LABEL_TOLERANCE

VALUES_NAMED = 5
FILES = "files"
"""Under this key the metadata of an image may name the files of its channels, one per line."""


class RequireSignald(MapTransform):
    """Refuse an image (C, H, W, D) with a channel of one value only.

    Raises:
        ValueError: giving the channel's number, from 0, and the value.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Look at every channel; the sample stays as it is."""
        for key in self.key_iterator(data):
            for number, channel in enumerate(data[key]):
                lowest, highest = (float(value) for value in torch.aminmax(channel))
                if lowest == highest:
                    files = _files(data[key], key)
                    file = files[number] if number < len(files) else f"{key} {number}"
                    raise ValueError(f"{file}: is empty, every voxel is {lowest:g}; export it again.")
        return dict(data)


class KnownLabelsd(MapTransform):
    """Refuse a label map with a value that is not one of `values`, and round what interpolation left beside them.

    Raises:
        ValueError: naming the first of the others.
    """

    def __init__(self, keys: KeysCollection, values: Iterable[int]) -> None:
        super().__init__(keys)
        self.values = sorted(values)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Look at every voxel; a map whose values all lie within `LABEL_TOLERANCE` of whole numbers is rounded."""
        sample = dict(data)
        for key in self.key_iterator(data):
            label_map = sample[key] = _rounded(data[key])
            unknown = ~torch.isin(torch.as_tensor(label_map), torch.as_tensor(self.values, dtype=label_map.dtype))
            if bool(unknown.any()):
                found = torch.unique(torch.as_tensor(label_map)[unknown])[:VALUES_NAMED].tolist()
                named, known = (", ".join(f"{value:g}" for value in row) for row in (found, self.values))
                file = _files(label_map, key)[0]
                raise ValueError(
                    f"{file}: holds the label {named}; this data set has {known}; mend it or leave it out."
                )
        return sample


def _rounded(label_map: torch.Tensor) -> torch.Tensor:
    if not label_map.is_floating_point():
        return label_map
    whole = label_map.round()
    return whole if bool((whole - label_map).abs().max() <= LABEL_TOLERANCE) else label_map


class OnSameGridd(MapTransform):
    """Turn volumes as their files hold them onto the axes of the first, whatever was done to that one since.

    Raises:
        ValueError: giving both shapes, or saying that the affines differ, where turning does not make them one grid.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Compare all volumes with the first; those along its axes already stay as they are."""
        sample = dict(data)
        present = [key for key in self.key_iterator(data) if isinstance(data[key], MetaTensor)]
        for key in present[1:]:
            sample[key] = self._turned(sample[key], key, sample[present[0]], present[0])
        return sample

    def _turned(self, image: MetaTensor, key: Hashable, first: MetaTensor, first_key: Hashable) -> MetaTensor:
        here, there = (np.asarray(volume.meta["original_affine"], dtype=np.float64) for volume in (image, first))
        axes = "".join(nib.orientations.aff2axcodes(there))
        turned = image
        if "".join(nib.orientations.aff2axcodes(here)) != axes:
            turned = cast(MetaTensor, Orientation(axcodes=axes, labels=None)(image))
            here = np.asarray(turned.affine, dtype=np.float64)
        shapes = [tuple(map(int, shape)) for shape in (turned.shape[1:], first.meta["spatial_shape"])]
        if shapes[0] != shapes[1]:
            wide, wanted = ("×".join(map(str, shape)) for shape in shapes)
            named = f"{_files(image, key)[0]}: has {wide} voxels, its {_named(first_key)} {wanted}"
            raise ValueError(f"{named}; give the one that belongs to it.")
        if not same_place(here, there):
            named = f"{_files(image, key)[0]}: has another affine than its {_named(first_key)}"
            raise ValueError(f"{named}; give the one that belongs to it, or register them first.")
        return turned


def _files(image: object, key: Hashable) -> list[str]:
    meta = image.meta if isinstance(image, MetaTensor) else {}
    return str(meta.get(FILES) or meta.get("filename_or_obj") or _named(key)).split("\n")


def _named(key: Hashable) -> str:
    return {"image": "images", "label": "segmentation"}.get(str(key), str(key))
