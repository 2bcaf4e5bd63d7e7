"""A volume as a stack of axial 2D samples."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from torch import Tensor

from transforms.windows import slice_window

AXIAL_ORIENTATION = "LPS"
"""Axes grow to the patient's left, posterior and superior: the orientation in which BraTS stores its volumes."""


def select_slices(volume: Tensor, first: int, end: int) -> Tensor:
    """Keep the axial slices `first` … `end - 1`.

    Args:
        volume: (C, H, W, D), D along the patient's inferior–superior axis.
    Returns:
        (C, H, W, end - first).
    """
    return volume[..., first:end]


def stack_slices(volume: Tensor) -> Tensor:
    """(C, H, W, D) → (D, C, H, W), contiguous, so that one slice is one block of memory."""
    return volume.permute(3, 0, 1, 2).contiguous()


class SelectSlicesd(MapTransform):
    """Dictionary version of `select_slices`; `slice_range` counts slices of 1 mm, see `slice_window`."""

    def __init__(self, keys: KeysCollection, slice_range: Sequence[int]) -> None:
        super().__init__(keys)
        self.slice_range = tuple(slice_range)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        selected = dict(data)
        for key in self.key_iterator(data):
            volume = data[key]
            selected[key] = select_slices(volume, *slice_window(self.slice_range, spacing_mm(volume), volume.shape[-1]))
        return selected


class StackSlicesd(MapTransform):
    """Dictionary version of `stack_slices`; also drops the metadata, which a cached training sample has no use for."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        return {**data, **{key: stack_slices(plain(data[key])) for key in self.key_iterator(data)}}


def spacing_mm(volume: MetaTensor) -> float:
    """Distance of the slices of a volume (…, D) in the orientation `AXIAL_ORIENTATION`."""
    return float(volume.pixdim[-1])


def plain(image: Tensor) -> Tensor:
    """The values of a `MetaTensor` without its metadata."""
    return image.as_tensor() if isinstance(image, MetaTensor) else torch.as_tensor(image)
