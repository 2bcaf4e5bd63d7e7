"""Check one case: its files, geometry, intensities, label map and brain masks."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from transforms.background import faces, find_background
from transforms.geometry import axial_axis, same_place, voxel_ml
from transforms.labels import STUDY_MODALITIES
from transforms.windows import STUDY_WINDOW, in_own_slices
from workflows.data.case import Case, check_case_id, load_entry
from workflows.data.case_images import load_label_map
from workflows.data.label_conventions import summarise_labels
from workflows.image_files.nifti_files import (
    check_geometry,
    digest_of,
    format_shape,
    load_image,
    read_volume,
    states_no_orientation,
)
from workflows.image_files.oriented import turned_like
from workflows.messages.errors import DatasetError

LARGEST_BRAIN_ML = 2200
"""Brains in BraTS measure 1100 to 1700 ml; a head with skull and skin more than 3000 ml."""

LARGEST_BORDER_SHARE = 0.3
"""Of the voxels on the volume's faces; a stripped brain touches the bottom face at most, noise fills them all."""

SMALLEST_MASK_OVERLAP = 0.9
"""Intersection over union of two modalities' brain masks; registered ones in BraTS reach 0.975 to 1."""

LARGEST_SHARE_OUTSIDE_BRAIN = 0.01
"""Of the tumour's voxels; 0 to 0.002 in fourteen real cases."""

LABEL_MAP = "label map"


@dataclass
class CaseRecord:
    """What the audit found out about one case.

    Args:
        patient: the case's own id, until all cases are known.
        folder: relative to the data folder, as are all `files`.
        files: path by modality, and `label`.
        shape: voxels along the axes of the file.
        orientation: where those axes point, e.g. "LPS".
        voxels: number by label as in the file, background included.
        empty_classes: tumour classes without a voxel.
        outside_window: share 0 to 1 of the tumour outside the slices in use; None without tumour.
        problems: why the case cannot be used.
        warnings: what should be looked at.
        digests: by modality and `label map`, to recognise copies.
    """

    id: str
    patient: str
    folder: str
    files: dict[str, str]
    shape: tuple[int, ...] | None = None
    spacing_mm: tuple[float, ...] | None = None
    orientation: str | None = None
    voxels: dict[str, int] = field(default_factory=dict)
    empty_classes: list[str] = field(default_factory=list)
    outside_window: float | None = None
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    label_values: dict[float, int] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The record as it stands in `audit.json`."""
        return {key: value for key, value in vars(self).items() if key not in ("label_values", "digests")}


@dataclass(frozen=True)
class _Scan:
    """What is kept of an image after its voxels are freed.

    Args:
        what: modality or `label map`.
        brain: (same shape) bool, None for a label map or an empty image.
    """

    what: str
    image: nib.Nifti1Image
    brain: NDArray[Any] | None = None


def check_case(
    case: Case,
    root: Path,
    modalities: Sequence[str] = STUDY_MODALITIES,
    slice_range: tuple[int, int] = STUDY_WINDOW,
) -> CaseRecord:
    """Read one case and note all that is wrong with it; raises nothing."""
    files = load_entry(case, case.modalities, root)
    del files["case"]
    record = CaseRecord(case.id, case.id, case.folder.relative_to(root).as_posix(), files)
    record.warnings += case.notes
    try:
        check_case_id(case.id)
    except DatasetError as error:
        record.problems.append(_without(case, error))
    try:
        scans = list(_read_scans(case, modalities, record))
        label_map = _read_label_map(case, scans, slice_range, record)
        _check_grids([*scans, label_map] if label_map else scans, slice_range, record)
        _check_brains(scans, record)
    except Exception as error:  # noqa: BLE001  # whatever one broken file provokes, the other cases are checked
        record.problems.append(f"cannot be checked ({type(error).__name__}: {error})")
    return record


def _read_scans(case: Case, modalities: Sequence[str], record: CaseRecord) -> Iterator[_Scan]:
    first: nib.Nifti1Image | None = None
    for modality in modalities:
        try:
            image = load_image(case.source(modality))
            check_geometry(image, case.source(modality))
            first = first or image
            image = _on_the_grid_of(first, image)
            voxels = read_volume(image, case.source(modality))
        except DatasetError as error:
            record.problems.append(_without(case, error))
            continue
        if voxels.min() == voxels.max():
            record.problems.append(f"{modality}: is empty, every voxel is {voxels.flat[0]:g}; export it again")
            yield _Scan(modality, image)
        else:
            record.digests[modality] = digest_of(voxels.astype(np.float32))
            background = find_background(voxels)
            record.warnings += [f"{modality}: {words}" for words in background.in_words(voxels)]
            yield _Scan(modality, image, background.brain_in(voxels))


def _on_the_grid_of(first: nib.Nifti1Image, image: nib.Nifti1Image) -> nib.Nifti1Image:
    """The image turned onto the axes of the first, if that is all that differs; else as it is, for the checks."""
    turned = turned_like(image, first)
    return turned if same_place(turned.affine, first.affine) else image


def _read_label_map(
    case: Case, scans: Sequence[_Scan], slice_range: tuple[int, int], record: CaseRecord
) -> _Scan | None:
    if case.segmentation is None:
        return None
    try:
        image = load_label_map(case)
        check_geometry(image, case.segmentation)
        image = _on_the_grid_of(scans[0].image, image) if scans else image
        label_map = read_volume(image, case.segmentation)
        summary = summarise_labels(label_map, case.segmentation)
    except DatasetError as error:
        record.problems.append(_without(case, error))
        return None
    record.label_values = dict(summary.voxels)
    if summary.digest:
        record.digests[LABEL_MAP] = summary.digest
    record.outside_window = share_outside(label_map, image.affine, slice_range)
    if record.outside_window == 1:
        record.warnings.append(f"{LABEL_MAP}: no tumour in the slices in use")
    _check_within_brain(label_map, scans, record)
    return _Scan(LABEL_MAP, image)


def _check_within_brain(label_map: NDArray[Any], scans: Sequence[_Scan], record: CaseRecord) -> None:
    """Warn of a tumour outside the brain, which is another patient's or lies on another grid."""
    brains = [scan.brain for scan in scans if scan.brain is not None and scan.brain.shape == label_map.shape]
    tumour = label_map != 0
    if not brains or not tumour.any():
        return
    outside = np.count_nonzero(tumour & ~np.logical_or.reduce(brains)) / np.count_nonzero(tumour)
    if outside > LARGEST_SHARE_OUTSIDE_BRAIN:
        record.warnings.append(f"{LABEL_MAP}: {outside:.1%} of the tumour lies outside the brain; another patient's?")


def share_outside(label_map: NDArray[Any], affine: NDArray[Any], slice_range: tuple[int, int]) -> float | None:
    """Share 0 to 1 of the tumour outside the slices in use, None without tumour.

    Args:
        label_map: (any three axes); which of them runs from bottom to top is read from `affine`.
        slice_range: first slice and the one after the last, in slices of 1 mm from the bottom.
    """
    axial, upwards, spacing_mm = axial_axis(affine)
    in_slice = np.count_nonzero(label_map, axis=tuple(axis for axis in range(3) if axis != axial))
    if not upwards:
        in_slice = in_slice[::-1]
    first, end = in_own_slices(slice_range, spacing_mm)
    total = in_slice.sum()
    return float(1 - in_slice[first:end].sum() / total) if total else None


def _check_grids(scans: Sequence[_Scan], slice_range: tuple[int, int], record: CaseRecord) -> None:
    """One shape and one affine for all the images of a case, and the slices in use inside them."""
    if not scans:
        return
    first, *others = scans
    affine = first.image.affine
    record.shape = tuple(int(length) for length in first.image.shape)
    record.spacing_mm = tuple(round(float(size), 4) for size in nib.affines.voxel_sizes(affine))
    record.orientation = "".join(nib.orientations.aff2axcodes(affine))
    for other in others:
        if other.image.shape != first.image.shape:
            record.problems.append(
                f"{other.what} has {format_shape(other.image.shape)} voxels, {first.what} {format_shape(record.shape)}"
            )
        elif not same_place(other.image.affine, affine):
            record.problems.append(f"{other.what} and {first.what} have different affines{_why(first, other)}")
    axial, _, slice_mm = axial_axis(affine)
    if in_own_slices(slice_range, slice_mm)[1] > record.shape[axial]:
        height = f"{record.shape[axial]} slices of {slice_mm:g} mm"
        record.warnings.append(f"the slices in use, {slice_range[0]}–{slice_range[1] - 1}, reach beyond its {height}")
    if any(states_no_orientation(scan.image) for scan in scans):
        record.warnings.append("a header states no orientation (sform_code and qform_code are 0)")


def _why(*scans: _Scan) -> str:
    mute = [scan.what for scan in scans if states_no_orientation(scan.image)]
    return f": {' and '.join(mute)} states none (sform_code and qform_code are 0)" if mute else ""


def _check_brains(scans: Sequence[_Scan], record: CaseRecord) -> None:
    """Warn where a head is not stripped, modalities are not registered or one was copied over another."""
    brains = {scan.what: scan.brain for scan in scans if scan.brain is not None}
    unstripped = [what for what, brain in brains.items() if _looks_unstripped(brain, record.spacing_mm)]
    if unstripped:
        record.warnings.append(f"{', '.join(unstripped)}: looks as if the skull were not stripped")
    for one, other in itertools.combinations(brains, 2):
        if record.digests[one] == record.digests[other]:
            record.warnings.append(f"{one} and {other} are the same image")
        if not unstripped and brains[one].shape == brains[other].shape:
            together, either = brains[one] & brains[other], brains[one] | brains[other]
            overlap = np.count_nonzero(together) / np.count_nonzero(either)
            if overlap < SMALLEST_MASK_OVERLAP:
                record.warnings.append(f"{one} and {other} look unregistered, their brains overlap by {overlap:.2f}")


def _looks_unstripped(brain: NDArray[Any], spacing_mm: Sequence[float] | None) -> bool:
    volume_ml = np.count_nonzero(brain) * voxel_ml(spacing_mm or (1, 1, 1))
    return bool(volume_ml > LARGEST_BRAIN_ML or faces(brain).mean() > LARGEST_BORDER_SHARE)


def _without(case: Case, error: DatasetError) -> str:
    """The message without what the reader knows: the id and the folder of the case, the full stop."""
    return str(error).removeprefix(f"{case.id}: ").replace(f"{case.folder}{os.sep}", "").removesuffix(".")
