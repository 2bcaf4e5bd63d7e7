"""A volume as a stack of axial 2D samples."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils import ensure_tuple_rep
from torch import Tensor

from transforms.boxes import any_signal, box_around
from transforms.windows import slice_window

AXIAL_ORIENTATION = "LPS"
"""Axes grow to the patient's left, posterior and superior: the orientation in which BraTS stores its volumes."""

LEFT = -3
"""The axis of (…, H, W, D) that runs to the patient's left."""


def select_slices(volume: Tensor, first: int, end: int) -> Tensor:
    """Keep the axial slices `first` … `end - 1`; those below or above the volume are zero.

    Args:
        volume: (C, H, W, D), D along the patient's inferior–superior axis.
    Returns:
        (C, H, W, end - first).
    """
    below, above = max(-first, 0), max(end - volume.shape[-1], 0)
    inside = volume[..., first + below : end - above]
    return torch.nn.functional.pad(inside, (below, above)) if below or above else inside


def brain_window(image: Tensor) -> tuple[int, int]:
    """The slices that show any brain: the first and the one after the last; all where none does.

    Args:
        image: (C, H, W, D), zero outside the brain.
    """
    *_, depth = box_around(any_signal(plain(image)))
    return (depth.start, depth.stop) if depth.stop else (0, image.shape[-1])


def with_neighbours(volume: Tensor, neighbours: int) -> Tensor:
    """Each slice's channels preceded by those of the slices below it and followed by those above it.

    Args:
        volume: (…, C, H, W, D).
        neighbours: how many on either side; beyond the volume they are zero.
    Returns:
        (…, (2 · neighbours + 1) · C, H, W, D), the lowest slice's channels first.
    """
    depth = volume.shape[-1]
    padded = torch.nn.functional.pad(volume, (neighbours, neighbours))
    return torch.cat([padded[..., first : first + depth] for first in range(2 * neighbours + 1)], dim=-4)


def stack_slices(volume: Tensor) -> Tensor:
    """(C, H, W, D) → (D, C, H, W), contiguous, so that one slice is one block of memory."""
    return volume.permute(3, 0, 1, 2).contiguous()


def with_mirror_image(volume: Tensor) -> Tensor:
    """A volume (…, C, H, W, D) followed by its mirror image from left to right: (…, 2 · C, H, W, D)."""
    return torch.cat((volume, volume.flip(LEFT)), dim=-4)


def own_channels(slices: Tensor, neighbours: int, channel_dim: int = 1, mirrored: bool = False) -> Tensor:
    """A slice's own modalities among the channels that `with_neighbours` and `with_mirror_image` give it."""
    modalities = slices.shape[channel_dim] // (2 * neighbours + 1) // (1 + mirrored)
    return slices.narrow(channel_dim, neighbours * modalities, modalities)


class SelectSlicesd(MapTransform):
    """Dictionary version of `select_slices`.

    Args:
        slice_range: counts slices of 1 mm, see `slice_window`; None for the slices that show any brain.
        image_key: the image, zero outside the brain, that tells them.
        neighbours: slices kept beyond the window on either side; one number, or one per key.
    """

    def __init__(
        self,
        keys: KeysCollection,
        slice_range: Sequence[int] | None,
        image_key: str = "image",
        neighbours: int | Sequence[int] = 0,
    ) -> None:
        super().__init__(keys)
        self.slice_range, self.image_key = slice_range, image_key
        self.neighbours = ensure_tuple_rep(neighbours, len(self.keys))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Select the slices of the volumes (C, H, W, D)."""
        selected = dict(data)
        for key, neighbours in self.key_iterator(data, self.neighbours):
            first, end = self._window(data[key], data)
            selected[key] = select_slices(data[key], first - neighbours, end + neighbours)
        return selected

    def _window(self, volume: MetaTensor, data: Mapping[Hashable, Any]) -> tuple[int, int]:
        if self.slice_range is None:
            return brain_window(data[self.image_key])
        return slice_window(self.slice_range, spacing_mm(volume), volume.shape[-1])


class StackSlicesd(MapTransform):
    """Dictionary version of `stack_slices`; also drops the metadata, which a cached training sample has no use for."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Stack the volumes (C, H, W, D)."""
        return {**data, **{key: stack_slices(plain(data[key])) for key in self.key_iterator(data)}}


def spacing_mm(volume: MetaTensor) -> float:
    """Distance of the slices of a volume (…, D) in the orientation `AXIAL_ORIENTATION`."""
    return float(volume.pixdim[-1])


def plain(image: Tensor) -> Tensor:
    """The values of a `MetaTensor` without its metadata."""
    return image.as_tensor() if isinstance(image, MetaTensor) else torch.as_tensor(image)
