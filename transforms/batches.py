"""MONAI's random transforms on a whole batch of slices, which they would otherwise take for one 3D image."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any

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
    RandSimulateLowResolutiond,
    Transform,
)
from torch import Tensor


class OnSlicesOfBatchd(MapTransform, Randomizable):
    """Apply a dictionary transform for 2D images to (B, C, H, W) as to one 2D image of B × C channels.

    All slices of a batch get the same random draw, in one call: an epoch has many batches, and a call per slice would
    cost more than the network's own work on small slices.
    """

    def __init__(self, keys: KeysCollection, transform: Transform) -> None:
        super().__init__(keys)
        self.transform: Callable[[dict[Hashable, Any]], dict[Hashable, Any]] = transform  # type: ignore[assignment]

    def set_random_state(self, seed: int | None = None, state: Any = None) -> OnSlicesOfBatchd:
        if isinstance(self.transform, Randomizable):
            self.transform.set_random_state(seed, state)
        super().set_random_state(seed, state)
        return self

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        batches: dict[Hashable, Tensor] = {key: data[key] for key in self.key_iterator(data)}
        flat = self.transform({key: batch.flatten(0, 1) for key, batch in batches.items()})  # (B·C, H, W)
        changed = {key: flat[key].reshape(batch.shape).to(batch.dtype) for key, batch in batches.items()}
        return {**data, **changed}


class InsideBraind(OnSlicesOfBatchd):
    """The same for changes of grey values: what was zero stays zero, as the background is at prediction too."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
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
