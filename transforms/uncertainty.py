"""How sure class probabilities are: temperature, which corrects them as a whole, and entropy, voxel by voxel."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from torch import Tensor


def with_temperature(probabilities: Tensor, temperature: float, class_dim: int = 0) -> Tensor:
    """softmax(log p / T): above 1 less sure, below 1 surer; the order of the classes stays (Guo et al. 2017,
    arXiv:1706.04599, who divide the logits, of which the logarithms are one form).

    Args:
        probabilities: the classes along `class_dim`, their mean over flips or networks included.
        temperature: T > 0.
    """
    return (probabilities.clamp_min(0).log() / temperature).softmax(dim=class_dim)  # what is 0 stays 0


class Temperatured(MapTransform):
    """Dictionary version of `with_temperature` for one case, (classes, …)."""

    def __init__(self, keys: KeysCollection, temperature: float) -> None:
        super().__init__(keys)
        self.temperature = temperature

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Correct the probabilities."""
        return {**data, **{key: with_temperature(data[key], self.temperature) for key in self.key_iterator(data)}}


def entropy(probabilities: Tensor) -> Tensor:
    """-Σ p ln p over the classes, divided by its maximum ln(classes).

    Args:
        probabilities: (classes, …); below 0 by rounding counts as 0.
    Returns:
        (1, …) from 0, certain of one class, to 1, all classes equally probable.
    """
    summed: Tensor = torch.special.entr(probabilities.clamp_min(0)).sum(dim=0, keepdim=True)
    return (summed / math.log(len(probabilities))).clamp(0, 1)


class Entropyd(MapTransform):
    """Dictionary version of `entropy`, under a name of its own."""

    def __init__(self, keys: KeysCollection, name: str) -> None:
        super().__init__(keys)
        self.name = name

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Add the entropy of the probabilities; there is one key."""
        (key,) = self.key_iterator(data)
        return {**data, self.name: entropy(data[key])}
