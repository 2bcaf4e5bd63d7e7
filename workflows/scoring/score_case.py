"""All scores of one case: whole volume, the patient's own grid, BraTS's rules for empty regions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from transforms.boxes import bounding_box
from transforms.labels import BACKGROUND, CLASS_NAMES, NUM_CLASSES, REGIONS
from workflows.scoring.mask_pair import MaskPair
from workflows.scoring.score_list import EMPTY_HD95_MM, SCORES
from workflows.scoring.surface_distances import Definition, Spacing

Rules = Literal["2020", "2023"]

SCORED = {**REGIONS, **{name: (index,) for index, name in enumerate(CLASS_NAMES) if index != BACKGROUND}}
"""What is scored: the regions WT, TC and ET, then the classes by name; the class indices of each."""

DISTINCT = tuple(name for name, classes in SCORED.items() if name in REGIONS or classes not in REGIONS.values())
"""The names of `SCORED` without those of classes that are a region too: tables and pictures show ET once."""


EMPTY_MASKS = ("no", "both", "prediction", "reference")
"""Which of the two masks is empty: unless "no", a rule of BraTS gave the scores and not a measurement."""


class RegionScores(dict[str, float]):
    """The scores of one region of one case by name, in the order of `SCORES`; `scores.dice` is `scores["dice"]`."""

    def __getattr__(self, name: str) -> float:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"no score named {name!r}; there are {', '.join(self)}.") from None

    @property
    def empty_mask(self) -> str:
        """Which mask is empty, one of `EMPTY_MASKS`."""
        if self.volume_ml and self.reference_ml:
            return "no"
        return "prediction" if self.reference_ml else "reference" if self.volume_ml else "both"


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
        rules: the year whose penalty replaces an HD95 that one empty mask leaves undefined, see `EMPTY_HD95_MM`.
        hd95: see `workflows.scoring.surface_distances`.
    Raises:
        ValueError: if the shapes differ or are not 3D, a value is not a class index, a spacing is not three lengths,
            or a name is unknown.
    """
    prediction, reference = np.asarray(prediction), np.asarray(reference)
    spacing = _checked(prediction, reference, spacing_mm, rules, hd95)
    voxels = prediction.size
    tumour = (prediction != BACKGROUND) | (reference != BACKGROUND)
    box = bounding_box(tumour) if tumour.any() else (slice(0, 1),) * tumour.ndim
    prediction, reference = _class_indices(prediction[box], "prediction"), _class_indices(reference[box], "reference")
    scores: dict[tuple[int, ...], RegionScores] = {}  # ET is a region and a class: scored once
    for classes in SCORED.values():
        if classes not in scores:
            masks = MaskPair(np.isin(prediction, classes), np.isin(reference, classes), voxels, spacing, hd95)
            scores[classes] = RegionScores({score.name: score.of(masks, rules) for score in SCORES})
    return {name: scores[classes] for name, classes in SCORED.items()}


def _class_indices(values: NDArray[Any], whose: str) -> NDArray[np.uint8]:
    """As uint8, the type in which masks are found fastest."""
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
