"""Cropping to the brain before slices are resized: more detail for the same pixels, or one scale for all patients."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, cast

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import CropForeground, CropForegroundd, MapTransform
from monai.utils import ensure_tuple

from transforms.boxes import any_signal, box_around, corners
from transforms.slices import plain

BOX_START, BOX_END = "brain_box_start", "brain_box_end"
"""Keys under which `CropToBraind` leaves the box, for the label map to be cropped alike."""


class _AroundBrain(CropForeground):
    """MONAI's crop to the foreground, whose box is found faster; each axis is 0 to 0 where the image is empty."""

    def compute_bounding_box(self, img: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        return corners(box_around(any_signal(plain(img))))


class SquareAroundBrain(_AroundBrain):
    """MONAI's crop to the foreground with a box that is square in the slice's plane and keeps every slice.

    A square keeps the brain's proportions when all slices are resized to one size. Where it leaves the image it is
    filled with zeros; an image without any signal is kept whole.

    Args:
        margin_px: added on each side of the longer edge.
    """

    def __init__(self, margin_px: int = 0) -> None:
        super().__init__()
        self.margin_px = margin_px

    def compute_bounding_box(self, img: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """First and one after the last index of (H, W, D) for an image (C, H, W, D)."""
        start, end = super().compute_bounding_box(img)
        depth = img.shape[3]
        if not (end > start).all():
            return np.zeros(3, int), np.array(img.shape[1:])
        side = int((end - start)[:2].max()) + 2 * self.margin_px
        first = (start[:2] + end[:2] - side) // 2
        return np.array([*first, 0]), np.array([*(first + side), depth])


class CubeAroundBrain(_AroundBrain):
    """MONAI's crop to the foreground with a cube of one edge for all patients around the brain's middle.

    It is as large as the brain where that is longer, so that nothing is lost. Where it leaves the image it is filled
    with zeros; an image without any signal is kept whole.

    Args:
        edge_mm: of the cube; its box has whole voxels along each axis.
    """

    def __init__(self, edge_mm: float) -> None:
        super().__init__()
        self.edge_mm = edge_mm

    def compute_bounding_box(self, img: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """First and one after the last index of (H, W, D) for a `MetaTensor` (C, H, W, D)."""
        start, end = super().compute_bounding_box(img)
        if not (end > start).all():
            return np.zeros(3, int), np.array(img.shape[1:])
        spacing_mm = np.asarray(cast(MetaTensor, img).pixdim, dtype=float)
        edge_mm = max(self.edge_mm, float(((end - start) * spacing_mm).max()))
        size = np.ceil(edge_mm / spacing_mm - 1e-3).astype(int)
        first = (start + end - size) // 2
        return first, first + size


class CropToBraind(CropForegroundd):
    """Dictionary version of `SquareAroundBrain`; invertible, and leaves the box for `CropToSameBoxd`."""

    def __init__(self, keys: KeysCollection, margin_px: int = 0) -> None:
        first = str(ensure_tuple(keys)[0])
        super().__init__(keys, source_key=first, start_coord_key=BOX_START, end_coord_key=BOX_END)
        self.cropper: CropForeground = SquareAroundBrain(margin_px)


class CropToCubed(CropToBraind):
    """The same with `CubeAroundBrain`."""

    def __init__(self, keys: KeysCollection, edge_mm: float) -> None:
        super().__init__(keys)
        self.cropper = CubeAroundBrain(edge_mm)


class CropToSameBoxd(MapTransform):
    """Crop a label map (1, H, W, D) to the box of `CropToBraind` for the image on the same grid, where there is one."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Crop, where the sample holds a box."""
        cropped = dict(data)
        if BOX_START in data:
            start, end = (np.asarray(data[key]) for key in (BOX_START, BOX_END))
            for key in self.key_iterator(data):
                cropped[key] = SquareAroundBrain().crop_pad(data[key], start, end)
        return cropped


class BackgroundIsTheRestd(MapTransform):
    """In place: probabilities (classes, …) whose background is what the tumour classes leave, outside the box too."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Set the background to 1 less the other classes."""
        for key in self.key_iterator(data):
            background, *tumour = plain(data[key])
            background.fill_(1)
            for probabilities in tumour:
                background.sub_(probabilities)
        return dict(data)
