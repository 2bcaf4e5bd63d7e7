"""The study's soft labels: a one-hot label map resized bilinearly, so that border pixels belong to several classes."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, cast

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import AsDiscrete, MapTransform, Resize

from transforms.labels import NUM_CLASSES

INTERPOLATION_ERROR = 1e-3
"""A pixel wholly inside a class must get all 255 steps although its interpolated share may be 0.9999999."""


class SoftLabelsd(MapTransform):
    """(1, H, W, D) class indices → (classes - 1, *spatial_size) uint8: each tumour class's share of a pixel × 255.

    The background's share is what is left, so storing it would cost memory and say nothing. One step of 1/255 is
    the price of one byte per value.
    """

    def __init__(self, keys: KeysCollection, spatial_size: Sequence[int]) -> None:
        super().__init__(keys)
        self.one_hot = AsDiscrete(to_onehot=NUM_CLASSES)
        self.resize = Resize(spatial_size=spatial_size, mode="trilinear")

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Resize the label maps."""
        return {**data, **{key: self._soften(data[key]) for key in self.key_iterator(data)}}

    def _soften(self, label_map: MetaTensor) -> MetaTensor:
        shares = cast(MetaTensor, self.resize(cast(MetaTensor, self.one_hot(label_map))[1:]))
        # Down, not to the nearest: three shares rounded up could sum to more than the whole pixel.
        return cast(MetaTensor, (shares * 255 + INTERPOLATION_ERROR).floor().to(torch.uint8))


def expand_labels(label: torch.Tensor) -> torch.Tensor:
    """Class shares of every pixel from a label map in either cached form.

    Args:
        label: (B, 1, H, W) class indices, or (B, classes - 1, H, W) uint8 shares × 255 of all classes but background.
    Returns:
        (B, classes, H, W) float32, one-hot or soft; the sum over the classes is 1.
    """
    if label.shape[1] == 1:
        # `one_hot` puts the classes last, takes twice as long, and so does whatever reads its result class by class.
        return (label == torch.arange(NUM_CLASSES, device=label.device).view(1, -1, 1, 1)).float()
    tumour = label.float() / 255
    return torch.cat((1 - tumour.sum(dim=1, keepdim=True), tumour), dim=1)
