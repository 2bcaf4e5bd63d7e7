"""MONAI's spatial transforms on a whole batch of slices, which they would otherwise take for one 3D image."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform, Randomizable, Transform
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
