"""Check every case of a data folder and say what a person must know before training on it."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transforms.labels import CLASS_NAMES, NUM_CLASSES, STUDY_MODALITIES
from transforms.windows import STUDY_WINDOW
from workflows.audit.case_checks import CaseRecord, check_case
from workflows.data.case import Case
from workflows.data.convention_of_cases import label_convention_of
from workflows.data.file_names import DATALIST_LABEL
from workflows.data.find_cases import find_cases
from workflows.data.label_conventions import LABELS_IN_USE, LabelConvention
from workflows.data.reading import BY_NAMES, Reading
from workflows.files.json_files import write_json
from workflows.machine.processes import in_processes
from workflows.messages.errors import DatasetError
from workflows.splits.patients import look_alikes, patients_of

TUMOUR_CLASSES = range(1, NUM_CLASSES)


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
        warnings: what should be looked at in the data set as a whole.
    """

    root: Path
    modalities: tuple[str, ...]
    slice_range: tuple[int, int]
    cases: tuple[CaseRecord, ...]
    stray: tuple[str, ...]
    convention: LabelConvention | None
    duplicates: tuple[Duplicate, ...]
    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

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
            "warnings": list(self.warnings),
            "stray_files": list(self.stray),
            "duplicates": [vars(duplicate) for duplicate in self.duplicates],
            "cases": [record.to_dict() for record in self.cases],
        }

    def write(self, path: Path | str) -> None:
        """Write `audit.json`, whole or not at all."""
        write_json(self.to_dict(), path)


def audit_dataset(
    root: Path | str,
    modalities: Sequence[str] = STUDY_MODALITIES,
    slice_range: tuple[int, int] = STUDY_WINDOW,
    workers: int | None = None,
    reading: Reading = BY_NAMES,
) -> Audit:
    """Check every case below `root`; a bad one never stops the others.

    Args:
        slice_range: first slice in use and the one after the last, in slices of 1 mm from the bottom.
        workers: processes; as many as there are processor cores by default.
    Raises:
        DatasetError: if there is no case at all, or one without what `reading.patient` looks for.
    """
    dataset = find_cases(root, modalities, reading)
    patient_of = patients_of(dataset.cases, dataset.root, reading.patient)
    check = functools.partial(check_case, root=dataset.root, modalities=modalities, slice_range=slice_range)
    records = in_processes(check, dataset.cases, "checking", workers)
    convention, errors = _decide_convention(dataset.cases, records)
    for case, record in zip(dataset.cases, records, strict=True):
        record.patient = patient_of[case]
        _judge_labels(record, convention)
    warning = look_alikes(patient_of.values()) if reading.patient is None else None
    return Audit(
        root=dataset.root,
        modalities=tuple(modalities),
        slice_range=slice_range,
        cases=tuple(records),
        stray=tuple(file.relative_to(dataset.root).as_posix() for file in dataset.stray),
        convention=convention,
        duplicates=tuple(find_duplicates(records)),
        errors=(*errors, *(f"{folder}: {reason}" for folder, reason in dataset.closed.items())),
        warnings=(warning,) if warning else (),
    )


def _decide_convention(
    cases: Sequence[Case], records: Sequence[CaseRecord]
) -> tuple[LabelConvention | None, tuple[str, ...]]:
    """The convention of the data set; where it mixes two, the cases of the rarer one are marked unusable."""
    values = {case: tuple(record.label_values) for case, record in zip(cases, records, strict=True)}
    try:
        return label_convention_of(values), ()
    except DatasetError as error:
        groups: dict[str, list[CaseRecord]] = defaultdict(list)
        for case, record in zip(cases, records, strict=True):
            found = [f"label {value:g}" for value in (3, 4) if value in record.label_values]
            for group in [case.convention.name] if case.convention else found:
                groups[group].append(record)
        fewest = min(groups, key=lambda group: len(groups[group]), default="")
        for record in groups[fewest] if len(groups) > 1 else ():
            record.problems.append(f"follows another label convention than the other cases ({fewest})")
        return None, (str(error),)


def _judge_labels(record: CaseRecord, convention: LabelConvention | None) -> None:
    """Complete a record by what the label values mean."""
    found = record.label_values
    allowed = set(convention.classes) if convention else {0, *LABELS_IN_USE}
    if DATALIST_LABEL not in record.files or not found:
        return
    record.voxels = {f"{value:g}": found[value] for value in sorted(found)}
    if wrong := sorted(set(found) - allowed):
        named = ", ".join(f"{value:g}" for value in wrong[:5])
        of_what = convention.title if convention else "any known convention"
        record.problems.append(f"label map: {named} is no label of {of_what}")
    if convention is None:
        return
    held = {convention.class_of(value) for value, voxels in found.items() if voxels}
    record.empty_classes = [CLASS_NAMES[index] for index in TUMOUR_CLASSES if index not in held]
    if len(record.empty_classes) == len(TUMOUR_CLASSES):
        record.warnings.append("label map: no tumour")


def find_duplicates(records: Sequence[CaseRecord]) -> list[Duplicate]:
    """Pairs of cases of one patient, by name or by an identical image or label map: each with the first of its kind."""
    same: dict[tuple[int, int], list[str]] = defaultdict(list)
    first: dict[tuple[str, str], int] = {}
    for index, record in enumerate(records):
        for mark in (("id", record.id), ("patient", record.patient), *record.digests.items()):
            original = first.setdefault(mark, index)
            if original != index:
                same[original, index].append(mark[0])
    return [
        Duplicate((records[a].id, records[b].id), (records[a].folder, records[b].folder), tuple(marks))
        for (a, b), marks in sorted(same.items())
    ]
