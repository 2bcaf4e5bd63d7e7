"""Check every case of a data folder and say what a person must know before training on it."""

from __future__ import annotations

import functools
import itertools
import json
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from transforms.labels import BACKGROUND, STUDY_MODALITIES
from workflows.dataset import (
    DATALIST_LABEL,
    Case,
    LabelConvention,
    digest_of,
    find_cases,
    format_shape,
    label_convention_of,
    load_entry,
    load_image,
    read_voxels,
    summarise_labels,
    write_json,
)
from workflows.errors import DatasetError
from workflows.progress import track

if TYPE_CHECKING:
    from rich.console import Console

STUDY_SLICES = (60, 135)
"""First slice and the one after the last, in 1 mm slices from the bottom of the volume."""

AFFINE_TOLERANCE_MM = 1e-3

LARGEST_BRAIN_ML = 2200
"""Brains in BraTS measure 1100 to 1700 ml; a head with skull and skin more than 3000 ml."""

LARGEST_BORDER_SHARE = 0.3
"""Of the voxels on the volume's faces; a stripped brain touches the bottom face at most, noise fills them all."""

SMALLEST_MASK_OVERLAP = 0.9
"""Intersection over union of two modalities' brain masks; registered ones in BraTS reach 0.975 to 1."""

LABEL_MAP = "label map"
STRAY_FILES_NAMED = 20


@dataclass
class CaseRecord:
    """What the audit found out about one case.

    Args:
        patient: the id without its time point.
        folder: relative to the data folder, as are all `files`.
        files: path by modality, and `label`.
        shape: voxels along the axes of the file.
        orientation: to where those axes run, e.g. "LPS".
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
class Duplicate:
    """Two cases that show one patient.

    Args:
        cases: their ids.
        folders: relative to the data folder.
        same: what they share: modalities, `label map`, `id`, or `patient` for two time points.
    """

    cases: tuple[str, str]
    folders: tuple[str, str]
    same: tuple[str, ...]

    def __str__(self) -> str:
        names = self.cases if self.cases[0] != self.cases[1] else self.folders
        return f"{names[0]} and {names[1]} (same {', '.join(self.same)})"


@dataclass(frozen=True)
class Audit:
    """The findings of a whole data folder.

    Args:
        stray: files that belong to no case, relative to `root`.
        convention: None where the data set mixes two.
        errors: what is wrong with the data set as a whole.
    """

    root: Path
    modalities: tuple[str, ...]
    slice_range: tuple[int, int]
    cases: tuple[CaseRecord, ...]
    stray: tuple[str, ...]
    convention: LabelConvention | None
    duplicates: tuple[Duplicate, ...]
    errors: tuple[str, ...] = ()

    @property
    def unusable(self) -> list[CaseRecord]:
        """The cases with a problem."""
        return [record for record in self.cases if record.problems]

    def to_dict(self) -> dict[str, Any]:
        """The content of `audit.json`."""
        return {
            "dataset_dir": str(self.root),
            "modalities": list(self.modalities),
            "slice_range": list(self.slice_range),
            "label_convention": self.convention.name if self.convention else None,
            "errors": list(self.errors),
            "stray_files": list(self.stray),
            "duplicates": [vars(duplicate) for duplicate in self.duplicates],
            "cases": [record.to_dict() for record in self.cases],
        }

    def to_json(self) -> str:
        """The text of `audit.json`."""
        return json.dumps(self.to_dict(), indent=2)

    def write(self, path: Path | str) -> None:
        """Write `audit.json`, whole or not at all."""
        write_json(self.to_dict(), path)


def audit_dataset(
    root: Path | str,
    modalities: Sequence[str] = STUDY_MODALITIES,
    slice_range: tuple[int, int] = STUDY_SLICES,
    workers: int | None = None,
) -> Audit:
    """Check every case below `root`; a bad one never stops the others.

    Args:
        slice_range: first slice in use and the one after the last, in slices of 1 mm from the bottom.
        workers: processes; as many as there are processor cores by default.
    Raises:
        DatasetError: if there is no case at all.
    """
    dataset = find_cases(root, modalities)
    check = functools.partial(check_case, root=dataset.root, modalities=modalities, slice_range=slice_range)
    records = _check_all(check, dataset.cases, min(workers or os.cpu_count() or 1, len(dataset.cases)))
    convention, errors = _decide_convention(dataset.cases, records)
    for record in records:
        _judge_labels(record, convention)
    return Audit(
        root=dataset.root,
        modalities=tuple(modalities),
        slice_range=slice_range,
        cases=tuple(records),
        stray=tuple(file.relative_to(dataset.root).as_posix() for file in dataset.stray),
        convention=convention,
        duplicates=tuple(find_duplicates(records)),
        errors=errors,
    )


def _check_all(check: Callable[[Case], CaseRecord], cases: Sequence[Case], workers: int) -> list[CaseRecord]:
    if workers == 1:
        return list(track(map(check, cases), "checking", len(cases)))
    # Spawned, since a caller may run threads (PyTorch does), which a forked process inherits half.
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(workers, mp_context=context) as pool:
            return list(track(pool.map(check, cases), "checking", len(cases)))
    except BrokenProcessPool as error:
        raise DatasetError("A checking process was killed, probably for want of memory; use fewer workers.") from error


# ---------------------------------------------------------------------------------------------------------------------
# One case


@dataclass(frozen=True)
class _Scan:
    """What is kept of one image once its voxels are let go.

    Args:
        what: modality or `label map`.
        brain: (same shape) bool, None for a label map or an empty image.
    """

    what: str
    image: nib.Nifti1Image
    brain: NDArray | None = None


def check_case(
    case: Case,
    root: Path,
    modalities: Sequence[str] = STUDY_MODALITIES,
    slice_range: tuple[int, int] = STUDY_SLICES,
) -> CaseRecord:
    """Read one case and note all that is wrong with it; raises nothing."""
    record = CaseRecord(
        case.id, case.patient, case.folder.relative_to(root).as_posix(), load_entry(case, case.modalities, root)
    )
    del record.files["case"]
    record.warnings += case.notes
    try:
        scans = list(_read_scans(case, modalities, record))
        label_map = _read_label_map(case, slice_range, record)
        _check_grids([*scans, label_map] if label_map else scans, slice_range, record)
        _check_brains(scans, record)
    except Exception as error:  # whatever one broken file provokes in a library, the other cases are checked
        record.problems.append(f"cannot be checked ({type(error).__name__}: {error})")
    return record


def _read_scans(case: Case, modalities: Sequence[str], record: CaseRecord) -> Iterator[_Scan]:
    for modality in modalities:
        try:
            image = load_image(case.source(modality))
            voxels = _volume_of(image, case.source(modality))
        except DatasetError as error:
            record.problems.append(_without(case, error))
            continue
        yield _Scan(modality, image, _check_intensities(voxels, modality, record))


def _volume_of(image: nib.Nifti1Image, file: Path) -> NDArray:
    if image.ndim != 3:
        raise DatasetError(f"{file}: has {image.ndim} axes; one volume per file is expected.")
    return read_voxels(image)


def _check_intensities(voxels: NDArray, modality: str, record: CaseRecord) -> NDArray | None:
    """The brain mask of a sound image; None, and a problem, for an unsound one."""
    if not np.isfinite(voxels).all():
        record.problems.append(f"{modality}: {np.count_nonzero(~np.isfinite(voxels))} voxels are not finite")
        return None
    if voxels.min() == voxels.max():
        record.problems.append(f"{modality}: is empty, every voxel is {voxels.flat[0]:g}")
        return None
    record.digests[modality] = digest_of(voxels.astype(np.float32))
    return brain_mask(voxels)


def brain_mask(voxels: NDArray) -> NDArray:
    """Where an image differs from its background, the value that is most frequent on the faces of the volume.

    The background of a z-scored copy is not zero.
    """
    values, counts = np.unique(_faces(voxels), return_counts=True)
    return voxels != values[counts.argmax()]


def _faces(volume: NDArray) -> NDArray:
    return np.concatenate([volume.take(end, axis).ravel() for axis in range(volume.ndim) for end in (0, -1)])


def _read_label_map(case: Case, slice_range: tuple[int, int], record: CaseRecord) -> _Scan | None:
    if case.segmentation is None:
        return None
    try:
        image = load_image(case.segmentation)
        label_map = _volume_of(image, case.segmentation)
        summary = summarise_labels(label_map, case.segmentation)
    except DatasetError as error:
        record.problems.append(_without(case, error))
        return None
    record.label_values = dict(summary.voxels)
    if summary.digest:
        record.digests[LABEL_MAP] = summary.digest
    if _is_invertible(image.affine):
        record.outside_window = share_outside(label_map, image.affine, slice_range)
    return _Scan(LABEL_MAP, image)


def share_outside(label_map: NDArray, affine: NDArray, slice_range: tuple[int, int]) -> float | None:
    """Share 0 to 1 of the tumour outside the slices in use, None without tumour.

    Args:
        label_map: (any three axes); which of them runs from bottom to top is read from `affine`.
        slice_range: first slice and the one after the last, in slices of 1 mm from the bottom.
    """
    axial, upwards, spacing_mm = _axial_axis(affine)
    in_slice = np.count_nonzero(label_map, axis=tuple(axis for axis in range(3) if axis != axial))
    if not upwards:
        in_slice = in_slice[::-1]
    first, end = _window(slice_range, spacing_mm)
    total = in_slice.sum()
    return float(1 - in_slice[first:end].sum() / total) if total else None


def _axial_axis(affine: NDArray) -> tuple[int, bool, float]:
    """The axis that runs between bottom and top, whether upwards, and the distance of its slices in mm."""
    axes = nib.orientations.io_orientation(affine)
    axial = int(np.flatnonzero(axes[:, 0] == 2)[0])
    return axial, bool(axes[axial, 1] > 0), float(nib.affines.voxel_sizes(affine)[axial])


def _window(slice_range: tuple[int, int], spacing_mm: float) -> tuple[int, int]:
    """The window in the volume's own slices, rounded as `transforms.slices.slice_window` does."""
    first, end = (round(edge / spacing_mm) for edge in slice_range)
    return first, end


def _check_grids(scans: Sequence[_Scan], slice_range: tuple[int, int], record: CaseRecord) -> None:
    """One shape and one affine for all the images of a case, and the slices in use inside them."""
    if not scans:
        return
    first, *others = scans
    affine = first.image.affine
    record.shape = tuple(int(length) for length in first.image.shape)
    if not _is_invertible(affine):
        record.problems.append(f"{first.what}: its affine does not describe a volume")
        return
    record.spacing_mm = tuple(round(float(size), 4) for size in nib.affines.voxel_sizes(affine))
    record.orientation = "".join(nib.orientations.aff2axcodes(affine))
    for other in others:
        if other.image.shape != first.image.shape:
            record.problems.append(
                f"{other.what} has {format_shape(other.image.shape)} voxels, {first.what} {format_shape(record.shape)}"
            )
        elif not np.allclose(other.image.affine, affine, atol=AFFINE_TOLERANCE_MM, rtol=0):
            record.problems.append(f"{other.what} and {first.what} have different affines{_why(first, other)}")
    axial, _, slice_mm = _axial_axis(affine)
    if _window(slice_range, slice_mm)[1] > record.shape[axial]:
        height = f"{record.shape[axial]} slices of {slice_mm:g} mm"
        record.warnings.append(f"the slices in use, {slice_range[0]}–{slice_range[1] - 1}, leave its {height}")
    if any(_has_no_orientation(scan.image) for scan in scans):
        record.warnings.append("a header states no orientation (sform_code and qform_code are 0)")


def _why(*scans: _Scan) -> str:
    mute = [scan.what for scan in scans if _has_no_orientation(scan.image)]
    return f": {' and '.join(mute)} states none (sform_code and qform_code are 0)" if mute else ""


def _has_no_orientation(image: nib.Nifti1Image) -> bool:
    return int(image.header["sform_code"]) == 0 and int(image.header["qform_code"]) == 0


def _is_invertible(affine: NDArray) -> bool:
    return bool(np.isfinite(affine).all()) and bool(abs(np.linalg.det(affine[:3, :3])) > 1e-9)


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
            overlap = _overlap(brains[one], brains[other])
            if overlap < SMALLEST_MASK_OVERLAP:
                record.warnings.append(f"{one} and {other} look unregistered, their brains overlap by {overlap:.2f}")


def _looks_unstripped(brain: NDArray, spacing_mm: Sequence[float] | None) -> bool:
    volume_ml = np.count_nonzero(brain) * float(np.prod(spacing_mm or (1, 1, 1))) / 1000
    return bool(volume_ml > LARGEST_BRAIN_ML or _faces(brain).mean() > LARGEST_BORDER_SHARE)


def _overlap(one: NDArray, other: NDArray) -> float:
    return np.count_nonzero(one & other) / np.count_nonzero(one | other)


def _without(case: Case, error: DatasetError) -> str:
    """The message without what the reader knows: the id and the folder of the case, the full stop."""
    return str(error).removeprefix(f"{case.id}: ").replace(f"{case.folder}{os.sep}", "").removesuffix(".")


# ---------------------------------------------------------------------------------------------------------------------
# All cases together


def _decide_convention(
    cases: Sequence[Case], records: Sequence[CaseRecord]
) -> tuple[LabelConvention | None, tuple[str, ...]]:
    """The convention of the data set; where it mixes two, the fewer cases are marked unusable."""
    values = {case: tuple(record.label_values) for case, record in zip(cases, records, strict=True)}
    try:
        return label_convention_of(values), ()
    except DatasetError as error:
        groups: dict[str, list[CaseRecord]] = {}
        for case, record in zip(cases, records, strict=True):
            found = [f"label {value:g}" for value in (3, 4) if value in record.label_values]
            for group in [case.convention.name] if case.convention else found:
                groups.setdefault(group, []).append(record)
        fewest = min(groups, key=lambda group: len(groups[group]))
        for record in groups[fewest]:
            record.problems.append(f"follows another label convention than the other cases ({fewest})")
        return None, (str(error),)


def _judge_labels(record: CaseRecord, convention: LabelConvention | None) -> None:
    """Complete a record by what the label values mean."""
    found = record.label_values
    allowed = set(convention.classes) if convention else set()
    if DATALIST_LABEL not in record.files or not found:
        return
    record.voxels = {f"{value:g}": found.get(value, 0) for value in sorted(allowed.union(found))}
    if convention is None:
        return
    if wrong := sorted(set(found) - allowed):
        named = ", ".join(f"{value:g}" for value in wrong[:5])
        record.problems.append(f"label map: {named} is no label of {convention.title}")
    tumour = [value for value, index in convention.classes.items() if index != BACKGROUND]
    record.empty_classes = [convention.class_name(value) for value in tumour if not found.get(value)]
    if len(record.empty_classes) == len(tumour):
        record.warnings.append("label map: no tumour")


def find_duplicates(records: Sequence[CaseRecord]) -> list[Duplicate]:
    """Pairs of cases of one patient, by name or by an identical image or label map: each with the first of its kind."""
    same: dict[tuple[int, int], list[str]] = {}
    first: dict[tuple[str, str], int] = {}
    for index, record in enumerate(records):
        names = [("id", record.id), ("patient", record.patient)][: 1 if record.id == record.patient else 2]
        for mark in (*names, *record.digests.items()):
            original = first.setdefault(mark, index)
            if original != index:
                same.setdefault((original, index), []).append(mark[0])
    return [
        Duplicate((records[a].id, records[b].id), (records[a].folder, records[b].folder), tuple(marks))
        for (a, b), marks in sorted(same.items())
    ]


# ---------------------------------------------------------------------------------------------------------------------
# On the terminal


def print_table(audit: Audit, console: Console | None = None) -> None:
    """Print one row per case, then what needs attention; without frames and colours where no terminal listens."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = console or Console()
    if not console.is_terminal:
        console.width = max(console.width, 100)
    table = Table(box=box.SIMPLE_HEAD if console.is_terminal else None, pad_edge=False)
    table.add_column("case", overflow="fold")
    table.add_column("voxels", no_wrap=True)
    labels = _label_columns(audit)
    for title in labels.values():
        table.add_column(title, justify="right")
    table.add_column(f"outside slices\n{audit.slice_range[0]}–{audit.slice_range[1] - 1}", justify="right")
    table.add_column("verdict", no_wrap=True)
    for record in audit.cases:
        table.add_row(*_row(record, labels))
    console.print(table, markup=False, emoji=False, highlight=False)
    for line in ["", *_findings(audit), *_summary(audit)]:
        console.print(line, markup=False, emoji=False, highlight=False, soft_wrap=True)


def _label_columns(audit: Audit) -> dict[str, str]:
    """Column title by label as in the file."""
    if audit.convention:
        tumour = sorted(audit.convention.classes.items(), key=lambda pair: pair[1])[1:]
        return {
            str(value): f"{audit.convention.class_name(value).replace(' tumour', '')}\n{value}" for value, _ in tumour
        }
    return {label: f"label\n{label}" for label in sorted({label for record in audit.cases for label in record.voxels})}


def _row(record: CaseRecord, labels: Sequence[str] | dict[str, str]) -> list[Any]:
    from rich.text import Text

    verdict = "unusable" if record.problems else "see below" if record.warnings else "ok"
    outside = "" if record.outside_window is None else f"{record.outside_window:.1%}"
    counts = [str(record.voxels.get(label, "")) for label in labels]
    cells = [record.id, format_shape(record.shape or ()), *counts, outside, verdict]
    return [Text(cell, style="red" if verdict == "unusable" else "") for cell in cells]  # Text: ids are no markup


def _findings(audit: Audit) -> list[str]:
    lines = [f"error: {error}" for error in audit.errors]
    for record in audit.cases:
        lines += [f"{record.id}: unusable: {problem}" for problem in record.problems]
        lines += [f"{record.id}: {warning}" for warning in record.warnings]
    return lines + [f"Same patient twice: {duplicate}" for duplicate in audit.duplicates]


def _summary(audit: Audit) -> list[str]:
    labelled = [record for record in audit.cases if DATALIST_LABEL in record.files]
    lines = [f"{len(audit.cases)} cases, {len(labelled)} with labels, {len(audit.unusable)} unusable"]
    if audit.convention and labelled:
        lines.append(f"Labels: {audit.convention.title}")
    if shares := [record.outside_window for record in audit.cases if record.outside_window is not None]:
        mean, least, most = sum(shares) / len(shares), min(shares), max(shares)
        window = f"slices {audit.slice_range[0]}–{audit.slice_range[1] - 1}"
        lines.append(f"Tumour outside {window}: {mean:.0%} of a case on average, from {least:.0%} to {most:.0%}")
    for name in sorted({name for record in audit.cases for name in record.empty_classes}):
        without = [record.id for record in audit.cases if name in record.empty_classes]
        lines.append(f"No {name} in {len(without)} of {len(labelled)} cases: {', '.join(without)}")
    if audit.stray:
        more = len(audit.stray) - STRAY_FILES_NAMED
        named = ", ".join(audit.stray[:STRAY_FILES_NAMED]) + (f" and {more} more" if more > 0 else "")
        lines.append(f"Ignored, belong to no case: {named}")
    return lines
