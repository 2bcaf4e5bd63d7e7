"""The scores of a fold's label maps, by the protocol that docs/experiments.md describes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from monai.data import MetaTensor

from experiments.folds import SECTION, fold_split
from transforms.cleaning import cleaning_steps
from transforms.labels import ENHANCING, REGIONS
from workflows.data.label_conventions import LABEL_CONVENTIONS
from workflows.scoring.score_case import score_case


def score_fold(fold: int, data: Path, label_maps: Path) -> dict[str, Any]:
    """BraTS's scores of the fold's whole volumes and the volume of what was found on slices without tumour.

    `cleaned` has the scores of the same prediction with nothing left but its largest connected tumour inside the brain:
    false alarms on empty slices and far from the tumour, which that mends, otherwise hide what else a change does.
    """
    convention = LABEL_CONVENTIONS["brats-to-2022"]
    scores = {}
    for entry in fold_split(fold, data)[SECTION]:
        case = entry["case"]
        prediction, _ = class_indices(label_maps / case / f"{case}_seg.nii.gz", convention.classes)
        reference, spacing_mm = class_indices(data / entry["label"], convention.classes)
        scores[case] = {
            **scores_of(prediction, reference, spacing_mm),
            "cleaned": scores_of(largest_component(prediction * brain(entry, data)), reference, spacing_mm),
        }
    return scores


def scores_of(prediction: np.ndarray, reference: np.ndarray, spacing_mm: tuple[float, ...]) -> dict[str, Any]:
    """Of one volume, (H, W, D) class indices."""
    regions = score_case(prediction, reference, spacing_mm)
    figures = ("dice", "hd95_mm", "volume_ml", "reference_ml")
    return {
        **{region: {name: round(float(getattr(regions[region], name)), 4) for name in figures} for region in REGIONS},
        "false_positive_ml": round(false_positive_ml(prediction, reference, spacing_mm), 3),
    }


def brain(entry: Mapping[str, Any], data: Path) -> np.ndarray:
    """(H, W, D), where FLAIR or T1ce has a signal; the real cases' background is zero."""
    images: list[Any] = [nib.load(data / entry[modality]) for modality in ("flair", "t1ce")]
    return np.asarray(np.any([np.asanyarray(image.dataobj) != 0 for image in images], axis=0))


def largest_component(prediction: np.ndarray) -> np.ndarray:
    """The label map without what is apart from its largest piece."""
    (step,) = cleaning_steps(largest_component_only=True).values()
    cleaned = step({"label_map": MetaTensor(prediction[None].copy())})["label_map"]
    return np.asarray(cleaned[0], prediction.dtype)


def class_indices(file: Path, classes: Mapping[int, int]) -> tuple[np.ndarray, tuple[float, ...]]:
    """(H, W, D) class indices, and the voxel's edges in mm."""
    image: Any = nib.load(file)
    values = np.asanyarray(image.dataobj).astype(np.uint8)
    indices = np.zeros(ENHANCING + 2, np.uint8)
    for value, index in classes.items():
        indices[value] = index
    return indices[values], tuple(float(edge) for edge in image.header.get_zooms()[:3])


def false_positive_ml(prediction: np.ndarray, reference: np.ndarray, spacing_mm: tuple[float, ...]) -> float:
    """Volume of predicted tumour on axial slices whose reference has none; (H, W, D) class indices."""
    tumour_free = ~reference.any(axis=(0, 1))
    return float(np.count_nonzero(prediction[..., tumour_free]) * np.prod(spacing_mm) / 1000)
