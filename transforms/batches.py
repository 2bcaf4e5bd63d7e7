"""MONAI's random transforms on a whole batch of slices, which they would otherwise take for one 3D image."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import (
    MapTransform,
    RandAdjustContrastd,
    RandBiasFieldd,
    RandGaussianNoised,
    RandGaussianSmoothd,
    RandGibbsNoised,
    Randomizable,
    RandomizableTransform,
    RandSimulateLowResolutiond,
    Transform,
)
from torch import Tensor
from torch.nn import functional


class OnSlicesOfBatchd(MapTransform, Randomizable):
    """Apply a dictionary transform for 2D images to (B, C, H, W) as to one 2D image of B × C channels.

    All slices of a batch get the same random draw, in one call: an epoch has many batches, and a call per slice would
    cost more than the network's own work on small slices.
    """

    def __init__(self, keys: KeysCollection, transform: Transform) -> None:
        super().__init__(keys)
        self.transform: Callable[[dict[Hashable, Any]], dict[Hashable, Any]] = transform

    def set_random_state(self, seed: int | None = None, state: Any = None) -> OnSlicesOfBatchd:
        """Seed the inner transform too."""
        if isinstance(self.transform, Randomizable):
            self.transform.set_random_state(seed, state)
        super().set_random_state(seed, state)
        return self

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Change the batches (B, C, H, W) under `keys`; shape and type stay."""
        batches: dict[Hashable, Tensor] = {key: data[key] for key in self.key_iterator(data)}
        flat = self.transform({key: batch.flatten(0, 1) for key, batch in batches.items()})  # (B·C, H, W)
        changed = {key: flat[key].reshape(batch.shape).to(batch.dtype) for key, batch in batches.items()}
        return {**data, **changed}


class RandAffineOfSlicesd(MapTransform, RandomizableTransform):
    """Flip, rotate and scale each square slice of a batch for itself, all in one resampling.

    MONAI's `RandAffine` draws once per call: for the whole batch, or in as many calls as there are slices. Values
    beyond the border are zero. Images are resampled bilinearly, labels (uint8) to the nearest.

    Args:
        prob: of rotation and scaling.
        flip_probability: of a flip along either axis.
        rotation_degrees: rotations are uniform within ± this.
        scale_range: height and width are scaled by 1 ± up to this, each for itself.
    """

    def __init__(
        self, keys: KeysCollection, prob: float, flip_probability: float, rotation_degrees: float, scale_range: float
    ) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        self.flip_probability = flip_probability
        self.rotation, self.scale_range = math.radians(rotation_degrees), scale_range

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Resample the batches (B, C, H, W) under `keys`, all with the same draw."""
        first = data[self.first_key(dict(data))]
        # (B, H, W, 2), one for all keys: it takes as long as a resampling.
        grid = functional.affine_grid(
            self._draw(len(first)).to(first.device, non_blocking=True), list(first.shape), align_corners=False
        )
        return {**data, **{key: self._resample(data[key], grid) for key in self.key_iterator(data)}}

    def _draw(self, slices: int) -> Tensor:
        """(B, 2, 3): where each pixel of the result comes from, in coordinates from -1 to 1, columns first."""
        changed = self.R.uniform(size=slices) < self.prob
        angle = changed * self.R.uniform(-self.rotation, self.rotation, size=slices)
        scale = 1 + changed[:, None] * self.R.uniform(-self.scale_range, self.scale_range, size=(slices, 2))
        sign = np.where(self.R.uniform(size=(slices, 2)) < self.flip_probability, -1, 1)
        rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]).transpose(2, 0, 1)
        matrices = rotation * (sign / scale)[:, None, :]
        return torch.as_tensor(np.concatenate((matrices, np.zeros((slices, 2, 1))), axis=2), dtype=torch.float32)

    @staticmethod
    def _resample(batch: Tensor, grid: Tensor) -> Tensor:
        mode = "nearest" if batch.dtype == torch.uint8 else "bilinear"
        resampled = functional.grid_sample(batch.float(), grid, mode=mode, align_corners=False)
        return resampled.to(batch.dtype)


class InsideBraind(OnSlicesOfBatchd):
    """The same for changes of grey values: what was zero stays zero, as the background is at prediction too."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Change the batches (B, C, H, W) under `keys` where they are not zero."""
        changed = super().__call__(data)
        for key in self.key_iterator(data):
            changed[key] = torch.where(data[key] != 0, changed[key], data[key])
        return changed


def artefacts(probability: float) -> list[Transform]:
    """MONAI's noise, blur, coarse resolution, contrast, bias field and Gibbs ringing, each with this probability.

    They change the brain's grey values in {"image": (B, C, H, W), …} and leave the background zero. How strong they
    are at most follows nnU-Net (Isensee et al. 2021, supplement) where it has them.
    """
    changes: list[Transform] = [
        RandGaussianNoised("image", prob=probability, std=0.2),
        RandGaussianSmoothd("image", prob=probability, sigma_x=(0.25, 1.0), sigma_y=(0.25, 1.0)),
        RandSimulateLowResolutiond("image", prob=probability, upsample_mode="bilinear", zoom_range=(0.5, 1.0)),
        RandAdjustContrastd("image", prob=probability, gamma=(0.7, 1.5), retain_stats=True),
        RandBiasFieldd("image", prob=probability, coeff_range=(0.0, 0.1)),
        RandGibbsNoised("image", prob=probability, alpha=(0.0, 0.5)),
    ]
    return [InsideBraind("image", change) for change in changes]
