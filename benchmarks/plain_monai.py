"""The baseline of the benchmarks: the same pipeline as a MONAI user would write it, with nothing of ours in it.

Whole preprocessed float volumes and one-hot labels in a `CacheDataset`, one patient per batch from the default
`DataLoader`, MONAI's random transforms on each volume.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from monai.data import CacheDataset, DataLoader, PersistentDataset
from monai.engines import SupervisedTrainer
from monai.losses import DiceCELoss
from monai.transforms import (
    AsDiscreted,
    Compose,
    EnsureChannelFirstd,
    LoadImaged,
    MapLabelValued,
    NormalizeIntensityd,
    Orientationd,
    RandAffined,
    RandFlipd,
    RandScaleIntensityd,
    RandShiftIntensityd,
    Resized,
    SpatialCropd,
)
from torch import Tensor, nn
from torch.utils.data import Dataset

KEYS = ("image", "label")


def plain_dataset(
    cases: Sequence[dict[str, Any]], size_px: int, slice_range: Sequence[int], augment: bool = False
) -> CacheDataset:
    """Patients as "image" (2, size_px, size_px, slices) and "label" (4, size_px, size_px, slices), both float32.

    Args:
        cases: {"image": [FLAIR, T1ce], "label": file} with BraTS's labels up to 2022.
    """
    chain = [*preprocessing(size_px, slice_range), *(augmentation() if augment else [])]
    return CacheDataset(list(cases), Compose(chain), progress=False)


def plain_from_folder(
    cases: Sequence[dict[str, Any]], size_px: int, slice_range: Sequence[int], folder: Path
) -> list[dict[str, Any]]:
    """The same patients in memory, from MONAI's cache on disk, which is filled where it is empty."""
    dataset = PersistentDataset(list(cases), Compose(preprocessing(size_px, slice_range)), cache_dir=folder)
    return [dataset[index] for index in range(len(cases))]


def preprocessing(size_px: int, slice_range: Sequence[int]) -> list[Any]:
    """From a patient's files to what `plain_dataset` gives."""
    first, end = slice_range
    return [
        LoadImaged(keys=KEYS),
        EnsureChannelFirstd(keys=KEYS),
        Orientationd(keys=KEYS, axcodes="LPS", labels=None),
        MapLabelValued(keys="label", orig_labels=[4], target_labels=[3]),
        NormalizeIntensityd(keys="image", nonzero=True, channel_wise=True),
        Resized(keys=KEYS, spatial_size=(size_px, size_px, -1), mode=("trilinear", "nearest")),
        SpatialCropd(keys=KEYS, roi_start=(0, 0, first), roi_end=(size_px, size_px, end)),
        AsDiscreted(keys="label", to_onehot=4),
    ]


def augmentation() -> list[Any]:
    """The same kinds of change, of the same strength and as often, as `transforms.pipelines.augmentation`."""
    return [
        RandFlipd(keys=KEYS, prob=0.5, spatial_axis=0),
        RandFlipd(keys=KEYS, prob=0.5, spatial_axis=1),
        RandAffined(
            keys=KEYS,
            prob=0.5,
            rotate_range=(0, 0, math.radians(15)),
            scale_range=(0.15, 0.15, 0),
            mode=("bilinear", "nearest"),
            padding_mode="zeros",
        ),
        RandScaleIntensityd(keys="image", factors=0.2, prob=1.0),
        RandShiftIntensityd(keys="image", offsets=0.1, prob=1.0),
    ]


def plain_trainer(dataset: Dataset, network: nn.Module, device: torch.device, max_epochs: int = 1) -> SupervisedTrainer:
    """Trains on one patient's slices per step with Dice + cross-entropy and AdamW, as train.json does."""
    network = network.to(device)
    return SupervisedTrainer(
        device=device,
        max_epochs=max_epochs,
        train_data_loader=DataLoader(dataset, batch_size=1, shuffle=True),
        network=network,
        optimizer=torch.optim.AdamW(network.parameters(), lr=0.002, weight_decay=1e-4),
        loss_function=DiceCELoss(include_background=False, softmax=True, batch=True),
        prepare_batch=slices_as_batch,
        decollate=False,
        amp=device.type == "cuda",
        amp_kwargs={"dtype": torch.bfloat16},
    )


def slices_as_batch(
    batch: dict[str, Tensor],
    device: torch.device | None = None,
    non_blocking: bool = False,  # noqa: ARG001  # MONAI's trainer passes it
    **kwargs: Any,  # noqa: ARG001  # MONAI's trainer passes more
) -> tuple[Tensor, Tensor]:
    """(1, C, H, W, D) → (D, C, H, W) of image and label."""
    image, label = (torch.as_tensor(batch[key])[0].permute(3, 0, 1, 2).to(device).contiguous() for key in KEYS)
    return image, label


def cached_bytes(dataset: CacheDataset) -> int:
    """Of the tensors of all patients."""
    return sum(
        value.nbytes for patient in dataset._cache for value in patient.values() if isinstance(value, torch.Tensor)
    )
