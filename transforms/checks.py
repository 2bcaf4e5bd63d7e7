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

from transforms.geometry import placed, same_place
from transforms.labels import LABEL_TOLERANCE

VALUES_NAMED = 5
FILES = "files"
"""Under this key the metadata of an image may name the files of its channels, one per line."""
CUT = "cut"
"""Under this key the metadata of a label map say that it may be cut to what is labelled."""


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
        """Look at every voxel; values within `LABEL_TOLERANCE` of whole numbers are rounded."""
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
    return torch.where((whole - label_map).abs() <= LABEL_TOLERANCE, whole, label_map)


class PlaceSegmentationd(MapTransform):
    """Put a label map (1, H, W, D) whose metadata say `CUT` where it lies on the grid of the files of `image_key`.

    Raises:
        ValueError: if it does not lie on that grid.
    """

    def __init__(self, keys: KeysCollection, image_key: str = "image") -> None:
        super().__init__(keys)
        self.image_key = image_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replace what is cut; all else stays as it is."""
        placed_maps = {}
        for key in self.key_iterator(data):
            label_map, image = data[key], data.get(self.image_key)
            if not isinstance(image, MetaTensor) or not label_map.meta.get(CUT):
                continue
            shape, affine = image.meta["spatial_shape"], np.asarray(image.meta["original_affine"])
            try:
                voxels = placed(np.asarray(label_map)[0], label_map.meta["original_affine"], tuple(shape), affine)
            except ValueError as error:
                raise ValueError(f"{_files(label_map, key)[0]}: {error}.") from error
            here = {"spatial_shape": np.array(shape), "original_affine": affine, "affine": torch.as_tensor(affine)}
            placed_maps[key] = MetaTensor(torch.as_tensor(voxels)[None], meta={**label_map.meta, **here})
        return {**data, **placed_maps}


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
