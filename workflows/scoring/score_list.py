"""The one list of scores.

From `SCORES` follow the columns of `per_case.csv`, the statistics in `summary.json` and their JSON schema, the tables
of `scores.md` and of the terminal, and what `brats-unet compare` compares. A new score is one entry here and one test;
`pytest tests/evaluation/test_output_files.py --write-docs` brings the schema up to date.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

from workflows.scoring.mask_pair import MaskPair
from workflows.scoring.surface_distances import surface_dice

EMPTY_HD95_MM: Mapping[str, float] = {
    "2020": math.sqrt(240**2 + 240**2 + 155**2),  # the diagonal of BraTS's images, 373.1287 mm
    "2023": 374.0,
}
"""HD95 where exactly one of the two masks is empty, by the year of the rules."""

UNITS = ("", "mm", "ml", "lesions")
"""What scores are measured in: shares from 0 to 1 have no unit. `summary.json` lists the scores in this order."""

TABLES = {
    "overlap": "Overlap and distance",
    "surfaces": "Surfaces: means over cases",
    "voxels": "Voxels: means over cases",
    "lesions": "Lesion by lesion: means over cases, counts of all",
    "volumes": "Volumes: means over cases, the error is predicted minus true",
}
"""The tables of `scores.md` that show scores, in the order of reading: their titles."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """One score of one region of one case.

    Attributes:
        name: its column in `per_case.csv` and its entry in `summary.json`.
        title: what a reader calls it, without the unit.
        meaning: one sentence for the JSON schema.
        both_empty, one_empty: its value where both masks, or exactly one, are empty, for all rules or by their year;
            None where `measure` gives it.
        unit: one of `UNITS`.
        better: which figures are better; None where neither are.
        over_cases: "statistics" (mean, median, quartiles, range, interval of the mean) or "sum", which is of integers.
        table: which of `TABLES` shows it, under `heading`, or else under title and unit.
        with_interval, with_median: whether its table shows these beside the mean.
        compared: by `brats-unet compare`, in a "table" or in the "file" alone; None where it is not.
        since: the second number of the `schema_version` that brought it; tables written before it lack its column.
    """

    name: str
    title: str
    meaning: str
    measure: Callable[[MaskPair], float]
    both_empty: float | None = None
    one_empty: float | Mapping[str, float] | None = None
    unit: str = ""
    better: Literal["higher", "lower"] | None = "higher"
    over_cases: Literal["statistics", "sum"] = "statistics"
    table: str
    heading: str | None = None
    decimals: int = 3
    with_interval: bool = False
    with_median: bool = False
    compared: Literal["table", "file"] | None = None
    since: int = 0

    @property
    def title_and_unit(self) -> str:
        """E.g. "HD95 mm"; without a unit the title alone."""
        return f"{self.title} {self.unit}".rstrip()

    def of(self, masks: MaskPair, rules: str) -> float:
        """The score of two masks, by the rules of a year of `EMPTY_HD95_MM` where one or both are empty."""
        if not masks.predicted and not masks.true and self.both_empty is not None:
            return self.both_empty
        if bool(masks.predicted) != bool(masks.true) and self.one_empty is not None:
            return self.one_empty[rules] if isinstance(self.one_empty, Mapping) else self.one_empty
        return self.measure(masks)


def _specificity(masks: MaskPair) -> float:
    outside = masks.volume_voxels - masks.true
    return (outside - masks.predicted + masks.both) / outside if outside else 0.0


# What the scores of one family share.
_VOXELS = partial(Score, both_empty=1.0, one_empty=0.0, table="voxels", compared="file")
_VOLUME = partial(Score, unit="ml", better=None, table="volumes", decimals=2)
_LESIONS = partial(Score, unit="lesions", over_cases="sum", table="lesions")
_SPREAD = partial(Score, with_interval=True, with_median=True, compared="table")

SCORES = (
    _SPREAD(
        name="dice",
        title="Dice",
        meaning="Of voxels: twice the overlap as a share of the two volumes.",
        measure=lambda masks: 2 * masks.both / (masks.predicted + masks.true),
        both_empty=1.0,
        one_empty=0.0,
        table="overlap",
        heading="mean Dice",
    ),
    _VOXELS(
        name="iou",
        title="IoU",
        meaning="Of voxels: the overlap as a share of what belongs to either.",
        measure=lambda masks: masks.both / (masks.predicted + masks.true - masks.both),
    ),
    _SPREAD(
        name="hd95_mm",
        title="HD95",
        meaning="95 % Hausdorff distance of the two surfaces.",
        measure=lambda masks: masks.hd95_mm,
        both_empty=0.0,
        one_empty=EMPTY_HD95_MM,
        unit="mm",
        better="lower",
        table="overlap",
        heading="mean HD95 mm",
        decimals=1,
    ),
    _VOXELS(
        name="sensitivity",
        title="sensitivity",
        meaning="Share of the true voxels that is predicted.",
        measure=lambda masks: masks.both / masks.true,
    ),
    _VOXELS(
        name="specificity",
        title="specificity",
        meaning="Share of the voxels outside the reference that is not predicted; 0 where none lie outside.",
        measure=_specificity,
        both_empty=None,
        one_empty=None,
        decimals=4,
    ),
    _VOXELS(
        name="precision",
        title="precision",
        meaning="Share of the predicted voxels that is true.",
        measure=lambda masks: masks.both / masks.predicted,
    ),
    _VOLUME(
        name="volume_ml",
        title="predicted volume",
        meaning="Predicted volume.",
        measure=lambda masks: masks.predicted * masks.voxel_ml,
        heading="predicted ml",
    ),
    _VOLUME(
        name="reference_ml",
        title="true volume",
        meaning="True volume.",
        measure=lambda masks: masks.true * masks.voxel_ml,
        heading="true ml",
    ),
    _VOLUME(
        name="volume_error_ml",
        title="volume error",
        meaning="Predicted minus true volume: above 0 where too much is predicted.",
        measure=lambda masks: masks.predicted * masks.voxel_ml - masks.true * masks.voxel_ml,
        heading="error ml",
        with_interval=True,
    ),
    # Lesion by lesion: only the rules of 2023 know these scores, and their penalty is 374 mm under either.
    Score(
        name="lesion_dice",
        title="lesion Dice",
        meaning="Mean Dice over the lesions and the inventions.",
        measure=lambda masks: masks.lesions.dice,
        table="lesions",
        heading="mean Dice",
        with_interval=True,
        compared="table",
    ),
    Score(
        name="lesion_hd95_mm",
        title="lesion HD95",
        meaning="Mean HD95 over the lesions and the inventions.",
        measure=lambda masks: masks.lesions.hd95_mm,
        unit="mm",
        better="lower",
        table="lesions",
        heading="HD95 mm",
        decimals=1,
        compared="file",
    ),
    _LESIONS(
        name="lesions_found",
        title="lesions found",
        meaning="Lesions of the reference whose surroundings hold a part of the prediction.",
        measure=lambda masks: masks.lesions.found,
        heading="found",
    ),
    _LESIONS(
        name="lesions_missed",
        title="lesions missed",
        meaning="Lesions of the reference whose surroundings hold none.",
        measure=lambda masks: masks.lesions.missed,
        better="lower",
        heading="missed",
    ),
    _LESIONS(
        name="lesions_invented",
        title="lesions invented",
        meaning="Connected pieces of the prediction in no lesion's surroundings.",
        measure=lambda masks: masks.lesions.invented,
        better="lower",
        heading="invented",
    ),
    _SPREAD(
        name="surface_dice_2mm",
        title="surface Dice at 2 mm",
        meaning="Share of the area of both surfaces that lies within 2 mm of the other surface.",
        measure=lambda masks: surface_dice(masks.surfaces[0], masks.surfaces[1], tolerance_mm=2.0),
        both_empty=1.0,
        one_empty=0.0,
        table="surfaces",
        since=1,
    ),
)
"""Every score, in the order of the columns of `per_case.csv` and of each table."""

IN_SUMMARY = tuple(sorted(SCORES, key=lambda score: UNITS.index(score.unit)))
"""Every score, in the order of `summary.json`."""
