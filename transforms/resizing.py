"""Volumes resized for the network, and what it says of them brought back at a fraction of the cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import Resize, Resized
from monai.transforms.utils import scale_affine
from monai.utils import TraceKeys
from torch import Tensor
from torch.nn import functional

from transforms.slices import plain


class ResizedVolume(Resize):
    """MONAI's trilinear `Resize`, whose inverse interpolates along one axis and then within slices.

    A trilinear interpolation reads eight voxels for each, also where the number of slices stays and four of them have
    a weight of zero. Its bilinear sister takes slices as channels and goes along them in the order in which they lie in
    memory; the values differ by 2e-7 at most. That is so on a CPU; a GPU does it as MONAI does. The way in is MONAI's
    own, to the last bit, since training caches and weights go back to it.

    Args:
        spatial_size: (H, W, D); -1 keeps an axis as it is.
    """

    def __init__(self, spatial_size: Sequence[int]) -> None:
        super().__init__(spatial_size=spatial_size, mode="trilinear")

    def inverse_transform(self, data: torch.Tensor, transform: Any) -> torch.Tensor:
        """(C, H, W, D) on its first grid."""
        first_size = tuple(transform[TraceKeys.ORIG_SIZE])
        linear = transform[TraceKeys.EXTRA_INFO]["mode"] == "trilinear"  # nearest, where a mask is brought back
        if not linear or data.is_cuda or first_size == tuple(data.shape[1:]):
            resized: torch.Tensor = super().inverse_transform(data, transform)
            return resized
        affine = scale_affine(data.shape[1:], first_size, align_corners=False)
        on_first_grid = MetaTensor(interpolated(plain(data).float(), first_size))
        brought_back: torch.Tensor = on_first_grid.copy_meta_from(self.track_transform_meta(data, affine=affine))
        return brought_back


def interpolated(volume: Tensor, size: Sequence[int]) -> Tensor:
    """(C, …) at another size (H, W, D), linearly along each axis."""
    height, width, depth = size
    along = volume.contiguous()
    if depth != volume.shape[3]:
        rows = functional.interpolate(along.flatten(0, 2)[None], size=depth, mode="linear")
        along = rows.reshape(*volume.shape[:3], depth)
    slices = along.movedim(3, 1)  # (C, D, H, W), channels last in memory
    return functional.interpolate(slices, size=(height, width), mode="bilinear").movedim(1, 3)


class ResizedVolumed(Resized):
    """Dictionary version of `ResizedVolume`."""

    def __init__(self, keys: KeysCollection, spatial_size: Sequence[int]) -> None:
        super().__init__(keys, spatial_size=spatial_size, mode="trilinear")
        self.resizer = ResizedVolume(spatial_size)
