"""Label map ↔ BraTS's nested regions whole tumour, tumour core and enhancing tumour."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from functools import reduce
from operator import or_
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.utils import convert_to_dst_type
from torch import Tensor

from transforms.boxes import box_around
from transforms.labels import BACKGROUND, NUM_CLASSES, REGIONS
from transforms.slices import plain

HALF = 0.5 + 1e-3
"""Of probabilities whose sum is 1 but for rounding."""


def labels_to_regions(label_map: Tensor) -> Tensor:
    """Masks of WT, TC and ET, in that order.

    MONAI's `ConvertToMultiChannelBasedOnBratsClasses` knows enhancing tumour as label 4 only and orders TC first.

    Args:
        label_map: (1, …) class indices 0 to 3, see `transforms.labels`.
    Returns:
        (3, …) boolean.
    """
    # `torch.isin` takes six times as long for so few classes.
    return torch.cat([reduce(or_, (label_map == index for index in classes)) for classes in REGIONS.values()], dim=0)


def most_probable_class(probabilities: Tensor) -> Tensor:
    """`probabilities.argmax(dim=0, keepdim=True)`, of equals the first, class by class through whole volumes.

    torch and NumPy go voxel by voxel, along an axis whose values lie far apart in memory, which takes much longer.

    Args:
        probabilities: (classes, …), without NaN.
    Returns:
        (1, …) uint8.
    """
    highest = probabilities[:1].clone()
    most_probable = torch.zeros_like(highest, dtype=torch.uint8)
    for number in range(1, len(probabilities)):
        values = probabilities[number : number + 1]
        most_probable.masked_fill_(values > highest, number)
        torch.maximum(highest, values, out=highest)
    return most_probable


class MostProbableClassd(MapTransform):
    """Dictionary version of `most_probable_class`: the class map (1, H, W, D) of the probabilities (classes, H, W, D)
    of `keys`, with their metadata, under `output_key`.
    """

    def __init__(self, keys: KeysCollection, output_key: str) -> None:
        super().__init__(keys)
        self.output_key = output_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Add the class map, uint8."""
        classes = dict(data)
        for key in self.key_iterator(data):
            probabilities = plain(data[key])
            class_map = torch.zeros_like(probabilities[:1], dtype=torch.uint8)
            # Where the background has more than half, no other class has as much.
            box = (slice(None), *box_around(probabilities[BACKGROUND] <= HALF))
            class_map[box] = most_probable_class(probabilities[box])
            classes[self.output_key] = convert_to_dst_type(class_map, data[key], dtype=torch.uint8)[0]
        return classes


def background_outside_brain(probabilities: Tensor, image: Tensor, channel_dim: int = 0) -> Tensor:
    """Class probabilities that are certain of the background wherever no modality has any signal.

    Args:
        probabilities: the classes along `channel_dim`.
        image: preprocessed, zero outside the brain, the modalities along `channel_dim`; otherwise of the same shape.
    """
    outside = (image == 0).all(dim=channel_dim, keepdim=True)
    # Writing one value into a tensor on a GPU would wait for all that the GPU has to do.
    certain = (torch.arange(NUM_CLASSES, device=probabilities.device) == BACKGROUND).to(probabilities.dtype)
    shape = [1] * probabilities.ndim
    shape[channel_dim] = NUM_CLASSES
    return torch.where(outside, certain.reshape(shape), probabilities)


class BackgroundOutsideBraind(MapTransform):
    """Dictionary version of `background_outside_brain` for one case.

    Args:
        image_key: the preprocessed image (modalities, …) on the same grid.
    """

    def __init__(self, keys: KeysCollection, image_key: str) -> None:
        super().__init__(keys)
        self.image_key = image_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Change the probabilities (classes, …)."""
        image = data[self.image_key]
        return {**data, **{key: background_outside_brain(data[key], image) for key in self.key_iterator(data)}}


class AnySignald(MapTransform):
    """Where any of the modalities (C, …) of a preprocessed image has signal: (1, …) float32, 0 or 1, under `name`."""

    def __init__(self, keys: KeysCollection, name: str) -> None:
        super().__init__(keys)
        self.name = name

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Add the mask; there is one key."""
        (key,) = self.key_iterator(data)
        return {**data, self.name: (data[key] != 0).any(dim=0, keepdim=True).float()}
