"""What a reader of a report must be warned of, in words that need no knowledge of programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from transforms.geometry import voxel_ml
from transforms.labels import BACKGROUND, MODALITY_TITLES
from transforms.windows import STUDY_WINDOW, in_own_slices
from workflows.audit.case_checks import check_case
from workflows.data.case import Case
from workflows.report.volumes import Grid
from workflows.scoring.surface_distances import Mask

Grade = Literal["problem", "caution", "note"]

FAR_OUTSIDE_MM = 10.0
"""Slices within this distance of those trained on look much like them."""

UNCERTAIN_BELOW = 0.6
"""A voxel is uncertain where its most probable class is less probable than this."""

SMALLEST_UNCERTAIN_SHARE = 0.05
BRATS_SPACING_MM = 1.0
TILT_DEGREES = 5.0


@dataclass(frozen=True)
class Notice:
    """One sentence or two for the reader: a "problem" forbids trusting the result, a "note" asks for nothing."""

    grade: Grade
    text: str


def warn_of_input(case: Case, root: Path, modalities: Sequence[str], slice_range: Sequence[int] | None) -> list[Notice]:
    """What the audit's checks find in the files of a case."""
    first, end = slice_range or STUDY_WINDOW
    record = check_case(case, root, modalities, (int(first), int(end)))
    problems = [Notice("problem", f"The input did not pass its checks: {text}.") for text in record.problems]
    return problems + [Notice("caution", f"Look at the input: {text}.") for text in record.warnings]


def warn_of_grid(grid: Grid) -> list[Notice]:
    """Geometry that the project was not made for."""
    warnings = []
    if any(abs(edge - BRATS_SPACING_MM) > 0.01 for edge in grid.spacing_mm):
        edges = " × ".join(f"{edge:g}" for edge in np.round(grid.spacing_mm, 3))
        text = f"A voxel measures {edges} mm; scans as BraTS prepares them measure 1 × 1 × 1 mm."
        warnings.append(Notice("caution", text))
    if grid.tilt_degrees > TILT_DEGREES:
        text = (
            f"The scan is tilted by {grid.tilt_degrees:.0f}°: slices follow the scan, and L, R, A, P, S and I name "
            "the nearest direction. Millimetres are exact."
        )
        warnings.append(Notice("note", text))
    return warnings


def warn_of_rounding(images: Mapping[str, Mapping[str, Any]]) -> list[Notice]:
    """Modalities whose intensities do not fit 16 bits."""
    steps = {MODALITY_TITLES[name]: image["step"] for name, image in images.items() if not image["exact"]}
    rounded = ", ".join(f"{title} to ± {step / 2:.1g}" for title, step in steps.items())
    text = f"Intensities are shown rounded: {rounded}. The segmentation used the files as they are."
    return [Notice("note", text)] if rounded else []


def warn_of_prediction(
    prediction: NDArray[Any], grid: Grid, slice_range: Sequence[int] | None, uncertain: Mask | None
) -> list[Notice]:
    """Where a prediction, (x, y, z) class indices, should not be trusted, or is empty.

    Args:
        slice_range: first slice and the one after the last that the network was trained on, in slices of 1 mm from
            the bottom; None where unknown.
        uncertain: see `uncertain_voxels`; None where no probabilities were saved.
    """
    tumour = prediction != BACKGROUND
    if not tumour.any():
        text = (
            "No tumour was found. That is a statement of the network, not a finding: a small or unusual tumour "
            "may have been missed."
        )
        return [Notice("caution", text)]
    warnings = _warn_of_slices(tumour, grid, slice_range) if slice_range else []
    if uncertain is not None:
        warnings += _warn_of_uncertainty(tumour, uncertain, grid)
    return warnings


def _warn_of_slices(tumour: Mask, grid: Grid, slice_range: Sequence[int]) -> list[Notice]:
    spacing = grid.spacing_mm[2]
    first, end = in_own_slices(slice_range, spacing)
    in_slice = tumour.sum(axis=(0, 1))
    slices = np.arange(len(in_slice))
    distance_mm = np.maximum(first - slices, slices - (end - 1)) * spacing
    far = (distance_mm > FAR_OUTSIDE_MM) & (in_slice > 0)
    if not far.any():
        return []
    millilitres = in_slice[far].sum() * voxel_ml(grid.spacing_mm)
    share = in_slice[far].sum() / in_slice.sum()
    where = " and ".join(_extents(np.flatnonzero(far), first))
    text = (
        f"{millilitres:.1f} ml of the predicted tumour ({share:.0%}) lie in axial slices {where}, more than "
        f"{FAR_OUTSIDE_MM:g} mm outside the slices that the network was trained on ({first} to {end - 1} from the "
        "bottom). Look at them with more doubt."
    )
    return [Notice("caution", text)]


def _extents(slices: NDArray[np.intp], first: int) -> list[str]:
    """[3, 5, 9, 140] as ["3 to 9", "140"] where `first` is 60: below the slices trained on, and above them."""
    sides = [side for side in (slices[slices < first], slices[slices >= first]) if side.size]
    return [f"{side[0]} to {side[-1]}" if len(side) > 1 else f"{side[0]}" for side in sides]


def _warn_of_uncertainty(tumour: Mask, uncertain: Mask, grid: Grid) -> list[Notice]:
    millilitres = np.count_nonzero(uncertain) * voxel_ml(grid.spacing_mm)
    share = np.count_nonzero(uncertain & tumour) / np.count_nonzero(tumour)
    text = (
        f"{millilitres:.1f} ml are uncertain: there the most probable class has less than {UNCERTAIN_BELOW:.0%}. "
        f"Of the predicted tumour that is {share:.0%}. The mark Uncertain shows where."
    )
    return [Notice("caution" if share > SMALLEST_UNCERTAIN_SHARE else "note", text)]


def uncertain_voxels(probabilities: NDArray[Any]) -> Mask:
    """Where the most probable class of (x, y, z, classes) is less probable than `UNCERTAIN_BELOW`."""
    return np.asarray(probabilities.max(axis=-1) < UNCERTAIN_BELOW)
