"""BraTS's scores of one case: whole volume, the patient's own grid, its rules for empty regions.

Light on purpose: NumPy and SciPy only, so that cases can be scored in parallel by processes that start at once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from transforms.boxes import Box, bounding_box
from transforms.labels import BACKGROUND, CLASS_NAMES, NUM_CLASSES, REGIONS
from workflows.scoring.lesions import score_lesions
from workflows.scoring.surface_distances import Definition, Mask, Spacing, hd95_mm

Rules = Literal["2020", "2023"]

EMPTY_HD95_MM: Mapping[str, float] = {
    "2020": math.sqrt(240**2 + 240**2 + 155**2),  # the diagonal of BraTS's images, 373.1287 mm
    "2023": 374.0,
}
"""HD95 where exactly one of the two masks is empty, by the year of the rules."""

SCORED = {**REGIONS, **{name: (index,) for index, name in enumerate(CLASS_NAMES) if index != BACKGROUND}}
"""What is scored: the regions WT, TC and ET, then the classes by name; the class indices of each."""

DISTINCT = tuple(name for name, classes in SCORED.items() if name in REGIONS or classes not in REGIONS.values())
"""The names of `SCORED` without those of classes that are a region too: tables and pictures show ET once."""


@dataclass(frozen=True)
class RegionScores:
    """The scores of one region of one case.

    Attributes:
        dice, iou: 1 where both masks are empty, 0 where one is.
        hd95_mm: 0 where both masks are empty, `EMPTY_HD95_MM` where one is.
        sensitivity, precision: 1 where both masks are empty, 0 where one is.
        specificity: 0 where no voxel lies outside the reference.
        volume_ml, reference_ml: predicted and true volume.
        lesion_dice, lesion_hd95_mm, lesions_found, lesions_missed, lesions_invented: see `workflows.scoring.lesions`.
            Only the rules of 2023 know them: their penalty is 374 mm under either.
    """

    dice: float
    iou: float
    hd95_mm: float
    sensitivity: float
    specificity: float
    precision: float
    volume_ml: float
    reference_ml: float
    lesion_dice: float
    lesion_hd95_mm: float
    lesions_found: int
    lesions_missed: int
    lesions_invented: int

    @property
    def volume_error_ml(self) -> float:
        """Predicted minus true volume: above 0 where too much is predicted."""
        return self.volume_ml - self.reference_ml

    @property
    def touched_by_an_empty_rule(self) -> bool:
        """Whether one mask is empty, or both, so that a rule and not a measurement gave the scores."""
        return self.volume_ml == 0 or self.reference_ml == 0


def score_case(
    prediction: NDArray[Any],
    reference: NDArray[Any],
    spacing_mm: Sequence[float],
    rules: Rules = "2020",
    hd95: Definition = "brats",
) -> dict[str, RegionScores]:
    """Score a label map: the regions WT, TC and ET, then the three classes by name.

    Args:
        prediction, reference: (H, W, D) class indices 0 to 3 on the same grid, enhancing tumour as 3.
        spacing_mm: edge lengths of a voxel along the array's axes.
        rules: the year whose penalty stands for an HD95 that an empty mask leaves undefined, see `EMPTY_HD95_MM`.
        hd95: "brats" as the organisers compute it, "monai" as MONAI does, see `workflows.scoring.surface_distances`.
    Raises:
        ValueError: if the shapes differ or are not 3D, a value is not a class index, a spacing is not three lengths,
            or a name is unknown.
    """
    prediction, reference = np.asarray(prediction), np.asarray(reference)
    spacing = _checked(prediction, reference, spacing_mm, rules, hd95)
    voxels = prediction.size
    box = _tumour_box(prediction, reference)
    prediction, reference = _class_indices(prediction[box], "prediction"), _class_indices(reference[box], "reference")
    scores: dict[tuple[int, ...], RegionScores] = {}  # ET is a region and a class: scored once
    for classes in SCORED.values():
        if classes not in scores:
            masks = _mask(prediction, classes), _mask(reference, classes)
            scores[classes] = _score_region(*masks, voxels, spacing, rules, hd95)
    return {name: scores[classes] for name, classes in SCORED.items()}


def _score_region(
    prediction: Mask, reference: Mask, voxels: int, spacing_mm: Spacing, rules: Rules, hd95: Definition
) -> RegionScores:
    """Score two masks cut out of a volume of `voxels` voxels that holds nothing of either outside the cut."""

    both, predicted, true = (int(np.count_nonzero(mask)) for mask in (prediction & reference, prediction, reference))
    empty = 1.0 if predicted == true == 0 else 0.0
    if predicted and true:
        whole_mm = hd95_mm(prediction, reference, spacing_mm, hd95)
    else:
        whole_mm = (1 - empty) * EMPTY_HD95_MM[rules]

    def part_mm(pieces: Mask, lesion: Mask) -> float:
        parts = int(np.count_nonzero(pieces)), int(np.count_nonzero(lesion))
        return whole_mm if parts == (predicted, true) else hd95_mm(pieces, lesion, spacing_mm, hd95)

    lesions = score_lesions(prediction, reference, spacing_mm, part_mm)
    voxel_ml = math.prod(spacing_mm) / 1000
    return RegionScores(
        dice=_ratio(2 * both, predicted + true, empty),
        iou=_ratio(both, predicted + true - both, empty),
        hd95_mm=whole_mm,
        sensitivity=_ratio(both, true, empty),
        specificity=_ratio(voxels - predicted - true + both, voxels - true, 0.0),
        precision=_ratio(both, predicted, empty),
        volume_ml=predicted * voxel_ml,
        reference_ml=true * voxel_ml,
        lesion_dice=lesions.dice,
        lesion_hd95_mm=lesions.hd95_mm,
        lesions_found=lesions.found,
        lesions_missed=lesions.missed,
        lesions_invented=lesions.invented,
    )


def _ratio(part: int, whole: int, if_nothing: float) -> float:
    return part / whole if whole else if_nothing


def _mask(class_indices: NDArray[np.uint8], classes: tuple[int, ...]) -> Mask:
    belongs = np.zeros(NUM_CLASSES, bool)
    belongs[list(classes)] = True
    return belongs[class_indices]


def _tumour_box(prediction: NDArray[Any], reference: NDArray[Any]) -> Box:
    tumour = (prediction != BACKGROUND) | (reference != BACKGROUND)
    return bounding_box(tumour) if tumour.any() else (slice(0, 1),) * tumour.ndim


def _class_indices(values: NDArray[Any], whose: str) -> NDArray[np.uint8]:
    """As uint8, so that a mask is a look-up."""
    known = (values >= 0) & (values < NUM_CLASSES) & (values == np.floor(values))
    if not known.all():
        strange = ", ".join(f"{value:g}" for value in np.unique(values[~known])[:5])
        raise ValueError(
            f"the {whose} holds {strange}; class indices go from 0 to {NUM_CLASSES - 1}, enhancing tumour being 3."
        )
    return np.ascontiguousarray(values, dtype=np.uint8)


def _checked(
    prediction: NDArray[Any], reference: NDArray[Any], spacing_mm: Sequence[float], rules: str, hd95: str
) -> Spacing:
    if prediction.shape != reference.shape or prediction.ndim != 3 or not prediction.size:
        raise ValueError(
            f"the prediction has the shape {prediction.shape}, the reference {reference.shape}; "
            "scores need the same three axes."
        )
    if rules not in EMPTY_HD95_MM:
        raise ValueError(f"no rules of {rules!r}; there are {', '.join(EMPTY_HD95_MM)}.")
    if hd95 not in ("brats", "monai"):
        raise ValueError(f"no HD95 named {hd95!r}; there are brats and monai.")
    spacing = tuple(float(edge) for edge in spacing_mm)
    if len(spacing) != 3 or not all(math.isfinite(edge) and edge > 0 for edge in spacing):
        raise ValueError(f"the spacing is {spacing}; it takes three lengths in mm, each above 0.")
    return spacing[0], spacing[1], spacing[2]
