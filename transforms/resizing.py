"""Slices resized for the network, and what it says of them brought back at a quarter of the cost."""

from __future__ import annotations

from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import Resize, Resized
from monai.transforms.utils import scale_affine
from monai.utils import TraceKeys
from torch.nn import functional

from transforms.slices import plain


class ResizedSlices(Resize):
    """MONAI's trilinear `Resize` of height and width, whose inverse interpolates within slices only.

    As the number of slices stays, a trilinear interpolation reads a neighbouring slice for a weight of zero. Its
    bilinear sister takes slices as channels and goes along them in the order in which they lie in memory; the values
    differ by 2e-7 at most. The way in is MONAI's own, to the last bit, since training caches and weights go back to it.
    """

    def __init__(self, size_px: int) -> None:
        super().__init__(spatial_size=(size_px, size_px, -1), mode="trilinear")

    def inverse_transform(self, data: torch.Tensor, transform: Any) -> torch.Tensor:
        """(C, size_px, size_px, D) on its first grid (C, H, W, D)."""
        height, width, depth = transform[TraceKeys.ORIG_SIZE]
        linear = transform[TraceKeys.EXTRA_INFO]["mode"] == "trilinear"  # nearest, where a mask is brought back
        if not linear or depth != data.shape[3] or (height, width) == tuple(data.shape[1:3]):
            return super().inverse_transform(data, transform)
        slices = plain(data).float().contiguous().movedim(3, 1)  # (C, D, size_px, size_px), channels last in memory
        resized = functional.interpolate(slices, size=(height, width), mode="bilinear").movedim(1, 3)
        affine = scale_affine(data.shape[1:], (height, width, depth), align_corners=False)
        return MetaTensor(resized).copy_meta_from(self.track_transform_meta(data, affine=affine))


class ResizedSlicesd(Resized):
    """Dictionary version of `ResizedSlices`."""

    def __init__(self, keys: KeysCollection, size_px: int) -> None:
        super().__init__(keys, spatial_size=(size_px, size_px, -1), mode="trilinear")
        self.resizer = ResizedSlices(size_px)
