"""The named chains of transforms: preprocessing, labels, augmentation, post-processing and saving.

What must never differ between training and inference is said here once; both configurations call these functions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.data import ImageReader
from monai.transforms import (
    Activationsd,
    CastToTyped,
    Compose,
    CopyItemsd,
    DeleteItemsd,
    EnsureChannelFirstd,
    EnsureTyped,
    Invertd,
    LoadImaged,
    MapLabelValued,
    Orientationd,
    RandAffined,
    RandFlipd,
    Transform,
)

from transforms.batches import OnSlicesOfBatchd, RandAffineOfSlicesd, artefacts
from transforms.checks import KnownLabelsd, OnSameGridd, PlaceSegmentationd, RequireSignald
from transforms.crop import BOX_END, BOX_START, BackgroundIsTheRestd, CropToBraind
from transforms.decision import BestExpectedDiced
from transforms.files import PROBABILITIES, UNCERTAINTY
from transforms.inputs import Input, fit_image, fit_label
from transforms.intensity import UNUSUAL, RandGainOffsetd, ZeroBackgroundd
from transforms.label_map_files import SaveCased
from transforms.labels import ENHANCING, SEGMENTATION_SUFFIX
from transforms.regions import AnySignald, BackgroundOutsideBraind, MostProbableClassd
from transforms.slices import AXIAL_ORIENTATION, StackSlicesd
from transforms.tissue import RandTissueContrastd
from transforms.uncertainty import Entropyd, Temperatured


def preprocessing(input: Input, reader: ImageReader | None = None) -> Compose:
    """From the files of one patient to the whole volume that the network's slices are taken from; every step can be
    inverted.

    Args:
        input: what the network is shown.
    Returns:
        A chain for {"image": [one file per modality], …}; "image" becomes (modalities, *`input.grid`) float32 in the
        orientation `AXIAL_ORIENTATION`.
    """
    return Compose(
        [
            *_load("image", reader),
            RequireSignald(keys="image"),
            Orientationd(keys="image", axcodes=AXIAL_ORIENTATION, labels=None),
            ZeroBackgroundd("image", input.modalities),
            *fit_image(input),
            # Rounded as in the training cache, so that a network sees the same values there and here.
            CastToTyped(keys="image", dtype=torch.float16),
            CastToTyped(keys="image", dtype=torch.float32),
        ]
    )


def training_preprocessing(
    input: Input,
    label_values: Mapping[int, int] | None = None,
    soft_labels: bool = False,
    reader: ImageReader | None = None,
) -> Compose:
    """`preprocessing`, the label map on the same grid, and of both the slices that training may show, compact enough
    to cache: at 75 slices of 128×128 pixels and two modalities 6.1 MB per patient, with soft labels 8.6 MB.

    Args:
        label_values: class index of each label value that the files hold, e.g. {1: 1, 2: 2, 4: 3}.
        soft_labels: one-hot encode the label map and resize it bilinearly, as the study did, instead of taking nearest
            neighbours and encoding the batch.
    Returns:
        A chain for {"image": [files], "label": file, …}: "image" (slices + 2 · `input.neighbours`, modalities, size_px,
        size_px) float16,
        "label" (slices, 1, size_px, size_px) uint8 class indices, or with `soft_labels` (slices, 3, size_px, size_px)
        uint8, the tumour classes' shares of a pixel × 255.
    """
    chain: Compose = Compose(
        [
            preprocessing(input, reader),
            *load_labels("label", label_values, reader),
            *label_slices(input, soft_labels),
            *input.selection_steps("image", input.neighbours),
            CastToTyped(keys="image", dtype=torch.float16),
            StackSlicesd(keys="image"),
            DeleteItemsd(keys=(BOX_START, BOX_END, UNUSUAL)),
        ]
    ).flatten()  # a chain within a chain counts as random, and nothing after it would be cached
    return chain


def preprocessing_with_label(
    preprocess: Compose, label_values: Mapping[int, int], reader: ImageReader | None = None
) -> Compose:
    """`preprocessing`, and "label" as `load_labels` reads it, on its own grid: what whole volumes are scored by."""
    return Compose([preprocess, *load_labels("label", label_values, reader)])


def load_labels(key: str, label_values: Mapping[int, int] | None, reader: ImageReader | None = None) -> list[Transform]:
    """Transforms that read a label map on its own grid as class indices, (1, H, W, D) uint8.

    They turn it onto the axes of the files of "image", and refuse another grid and values not among `label_values`.
    """
    chain = [*_load(key, reader), PlaceSegmentationd(key), OnSameGridd(keys=("image", key), allow_missing_keys=True)]
    if label_values:
        values, classes = zip(*label_values.items(), strict=True)
        chain.append(KnownLabelsd(keys=key, values=values))
        chain.append(MapLabelValued(keys=key, orig_labels=values, target_labels=classes, dtype=np.uint8))
    return [*chain, CastToTyped(keys=key, dtype=torch.uint8)]


def label_slices(input: Input, soft_labels: bool = False) -> list[Transform]:
    """Transforms that bring "label", (1, H, W, D) class indices on its own grid, onto the network's slices.

    Returns:
        A list for a chain; "label" becomes what `training_preprocessing` says of it.
    """
    return [
        Orientationd(keys="label", axcodes=AXIAL_ORIENTATION, labels=None),
        *fit_label(input, soft_labels),
        StackSlicesd(keys="label"),
    ]


def augmentation(  # noqa: PLR0913  # each is a setting of the bundle, which gives it by name
    flip_probability: float = 0.5,
    affine_probability: float = 0.5,
    rotation_degrees: float = 15,
    scale_range: float = 0.15,
    gain_range: float = 0.2,
    offset_range: float = 0.1,
    modalities: Sequence[str] = (),
    artefact_probability: float = 0,
    tissue_probability: float = 0,
    slice_by_slice: bool = False,
    slab: int = 1,
) -> Compose:
    """Random changes of a training batch.

    Flips, rotation, scaling and artefacts are drawn for the batch, gain and offset for every slice and modality.

    Args:
        rotation_degrees: rotations are uniform within ± this.
        scale_range: height and width are scaled by 1 ± up to this, each for itself.
        modalities: of the channels, where there are others, those of neighbouring slices or of a mirror image.
        artefact_probability: of each of `artefacts`.
        tissue_probability: of a change of a slice's tumour, see `RandTissueContrastd`.
        slice_by_slice: draw flips, rotation and scaling for every slice too, see `RandAffineOfSlicesd`.
        slab: gain and offset are drawn once for this many consecutive slices of a batch.
    Returns:
        A chain for {"image": (B, C, H, W) float, "label": (B, 1 or more, H, W), …}.
    """
    keys = ("image", "label")
    spatial = _of_slices if slice_by_slice else _of_batch
    return Compose(
        [
            *spatial(keys, flip_probability, affine_probability, rotation_degrees, scale_range),
            *([RandTissueContrastd("image", tissue_probability, modalities)] if tissue_probability else []),
            RandGainOffsetd("image", gain_range, offset_range, len(modalities) or None, slab),
            *(artefacts(artefact_probability) if artefact_probability else []),
        ]
    )


def _of_slices(
    keys: Sequence[str], flips: float, probability: float, rotation_degrees: float, scale_range: float
) -> list[Transform]:
    return [RandAffineOfSlicesd(keys, probability, flips, rotation_degrees, scale_range)]


def _of_batch(
    keys: Sequence[str], flips: float, probability: float, rotation_degrees: float, scale_range: float
) -> list[Transform]:
    spatial = [
        RandFlipd(keys=keys, prob=flips, spatial_axis=0),
        RandFlipd(keys=keys, prob=flips, spatial_axis=1),
        RandAffined(
            keys=keys,
            prob=probability,
            rotate_range=math.radians(rotation_degrees),
            scale_range=(scale_range, scale_range),
            mode=("bilinear", "nearest"),
            padding_mode="zeros",
        ),
    ]
    return [OnSlicesOfBatchd(keys=keys, transform=transform) for transform in spatial]


def postprocessing(
    preprocess: Compose,
    brain_only: bool = True,
    cleaning: Mapping[str, Transform] | None = None,
    temperature: float = 1.0,
    expected_dice: bool = False,
) -> Compose:
    """From the network's scores to the patient's own grid.

    Args:
        brain_only: what is background in every modality cannot be tumour, whatever the network says of it, but for
            the border voxels that the way back to the patient's grid interpolates.
        cleaning: steps by name that change "label_map", see `transforms.cleaning`.
        temperature: calibrates "pred" after the label map is drawn from it, on the patient's grid: interpolation
            would otherwise let it move borders.
        expected_dice: after cleaning, let the tumour grow as `transforms.decision` says.
    Returns:
        A chain for {"image": …, "pred": (classes, *`input.grid`) logits}. "pred" becomes class probabilities,
        "argmax_map" the most probable class and "label_map" what cleaning and `expected_dice` make of it, both
        (1, H, W, D) uint8 class indices; all are on the grid of the patient's files.
    """
    cropped = any(isinstance(transform, CropToBraind) for transform in preprocess.transforms)
    return Compose(
        [
            Activationsd(keys="pred", softmax=True),
            *([BackgroundOutsideBraind(keys="pred", image_key="image")] if brain_only else []),
            Invertd(keys="pred", transform=preprocess, orig_keys="image", nearest_interp=False, to_tensor=True),
            *([BackgroundIsTheRestd(keys="pred")] if cropped else []),
            MostProbableClassd(keys="pred", output_key="argmax_map"),
            CopyItemsd(keys="argmax_map", names="label_map"),
            *(cleaning or {}).values(),
            *([BestExpectedDiced("label_map", "pred", "argmax_map")] if expected_dice else []),
            *([Temperatured(keys="pred", temperature=temperature)] if temperature != 1 else []),
        ]
    )


def brain_on_own_grid(preprocess: Compose) -> Compose:
    """For what `postprocessing` gives: adds "brain", (1, H, W, D), where any modality of "image" has signal, on the
    grid of the patient's files.
    """
    return Compose(
        [
            AnySignald(keys="image", name="brain"),
            Invertd(keys="brain", transform=preprocess, orig_keys="image", nearest_interp=True, to_tensor=True),
        ]
    )


def saving(
    output_dir: str, enhancing_value: int = 4, save_probabilities: bool = False, save_uncertainty: bool = False
) -> Compose:
    """Write `<output_dir>/<case>/<case>_seg.nii.gz` and, on request, `<case>_probabilities.nii.gz` and
    `<case>_uncertainty.nii.gz`.

    Args:
        enhancing_value: the label of enhancing tumour in the file: 4 up to BraTS 2022, 3 from 2023 on.
    Returns:
        A chain for what `postprocessing` gives; it adds "seg", the label map with the file's values, and on request
        "uncertainty", the `entropy` of "pred".
    """
    save_seg = SaveCased("seg", output_dir, SEGMENTATION_SUFFIX, np.uint8)
    save_pred = SaveCased("pred", output_dir, PROBABILITIES, np.float32)
    save_entropy = SaveCased(UNCERTAINTY, output_dir, UNCERTAINTY, np.float32)
    dtype: Any = torch.uint8  # documented by MONAI, missing in its type hint
    return Compose(
        [
            CopyItemsd(keys="label_map", names="seg"),
            MapLabelValued(keys="seg", orig_labels=[ENHANCING], target_labels=[enhancing_value], dtype=dtype),
            save_seg,
            *([save_pred] if save_probabilities else []),
            *([Entropyd(keys="pred", name=UNCERTAINTY), save_entropy] if save_uncertainty else []),
        ]
    )


def _load(key: str, reader: ImageReader | None) -> list[Any]:
    return [
        LoadImaged(keys=key, reader=reader, image_only=True),  # type: ignore[arg-type]  # it takes an instance too
        EnsureChannelFirstd(keys=key),
        EnsureTyped(keys=key, dtype=torch.float32),
    ]
