"""Split the cases of a data folder by patient into training, validation and testing."""

from __future__ import annotations

import csv
import logging
import math
import random
import shutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from scipy.cluster.hierarchy import DisjointSet

from transforms.files import write_whole
from transforms.labels import STUDY_MODALITIES
from workflows.data.case import Case, FoundDataset, load_entry
from workflows.data.convention_of_cases import label_convention_of, survey_labels
from workflows.data.find_cases import find_cases
from workflows.data.reading import BY_NAMES, Reading
from workflows.files.json_files import write_json
from workflows.files.outputs import check_outputs
from workflows.files.run_folder import RUN_SPLIT_FILE
from workflows.messages.errors import ConfigurationError, DatasetError, printable
from workflows.splits.datalist import ALL_CASES, SECTIONS, read_datalist
from workflows.splits.patients import look_alikes, patients_of

logger = logging.getLogger(__name__)

NAME_MAPPING_FILE = "name_mapping.csv"
GRADE_COLUMN = "Grade"
UNKNOWN_GRADE = "unknown"

Patient = tuple[Case, ...]


@dataclass(frozen=True)
class SplitPlan:
    """How to divide the patients.

    Args:
        validation_share: of all patients.
        test_share: of the patients left when validation is taken out.
        test_ids: the cases to test on, instead of drawing them; their patients' other cases join them.
        stratify: keep the proportion of high and low grade, from `name_mapping.csv`, in every section.
        folds: divide the patients not tested on into this many parts, of which `fold` becomes the validation section;
            the tested ones do not depend on it.
        all_cases: train on every case, validate and test on none.
        patient: finds the patient in the name of a case, see `patients_of`; by known schemes if not given.
    Raises:
        ConfigurationError: for settings that exclude each other, or shares or folds that leave a section empty.
    """

    seed: int = 42
    validation_share: float = 0.20
    test_share: float = 0.15
    test_ids: Sequence[str] | None = None
    stratify: bool = False
    folds: int | None = None
    fold: int = 0
    all_cases: bool = False
    patient: str | None = None

    def __post_init__(self) -> None:
        for name, share in (("validation", self.validation_share), ("test", self.test_share)):
            if not 0 < share < 1:
                raise ConfigurationError(f"The {name} share is {share:g}; it must lie between 0 and 1.")
        if self.folds is not None and (self.folds < 2 or not 0 <= self.fold < self.folds):
            raise ConfigurationError(
                f"Fold {self.fold} of {self.folds}: there must be 2 folds or more, counted from 0."
            )
        if self.all_cases and (self.folds or self.test_ids):
            raise ConfigurationError("All cases are to be trained on; leave out the folds and the cases to test on.")


STUDY_SPLIT = SplitPlan()
"""The study's: it validates on a fifth of all patients, and tests on 15 % of the others."""


def make_split(
    dataset: FoundDataset, plan: SplitPlan = STUDY_SPLIT, modalities: Sequence[str] = STUDY_MODALITIES
) -> dict[str, Any]:
    """A MONAI datalist with paths relative to the data folder; the same cases and seed give the same split.

    Cases without labels, or without one of `modalities`, are left out and listed under `left_out`. Cases of one
    patient stay together: time points, copies with an identical label map, and ids that `name_mapping.csv` equates.
    A line warns of names that may be time points of one patient but are not known as such.

    Raises:
        DatasetError: if there are fewer than three labelled patients, for `all_cases` none, or ids or grades are
            missing.
        ConfigurationError: if there are more folds than patients.
    """
    usable, left_out = usable_cases(dataset, modalities)
    patient_of = patients_of(usable, dataset.root, plan.patient)
    if plan.patient is None and (warning := look_alikes(patient_of.values())):
        logger.warning(printable(f"warning: {warning}"))
    summaries = survey_labels(usable)
    convention = label_convention_of({case: tuple(summaries[case].voxels) for case in usable})
    mapping = _read_name_mapping(dataset)
    patients = _by_patient(patient_of, {case: summary.digest for case, summary in summaries.items()}, mapping)
    if len(patients) < (1 if plan.all_cases else len(SECTIONS)):
        found = f"{len(usable)} usable labelled cases of {len(patients)} patients"
        wanted = "training needs one" if plan.all_cases else "training, validation and testing need one patient each"
        raise DatasetError(f"{dataset.root}: {found}; {wanted}.")

    strata = _by_grade(patients, mapping, dataset.root) if plan.stratify else [patients]
    for stratum in strata:
        random.Random(plan.seed).shuffle(stratum)
    named = _named(patients, plan.test_ids, dataset.root) if plan.test_ids else None
    validation, testing = ([], []) if plan.all_cases else _choose(strata, plan, named)
    rest = _without(strata, testing)
    fold_of: dict[Case, int] = {}
    if plan.folds:
        parts = _deal(rest, plan.folds)
        validation = parts[plan.fold]
        fold_of = {case: number for number, part in enumerate(parts) for patient in part for case in patient}
    training = [patient for stratum in _without(rest, validation) for patient in stratum]
    return {
        **convention.for_datalist(),
        "seed": plan.seed,
        "stratified": plan.stratify,
        "patients": len(patients),
        **({"patient": plan.patient} if plan.patient is not None else {}),
        **({ALL_CASES: True} if plan.all_cases else {}),
        **({"folds": plan.folds, "fold": plan.fold} if plan.folds else {}),
        "training": section_of(training, dataset.root, fold_of),
        "validation": section_of(validation, dataset.root, fold_of),
        "testing": section_of(testing, dataset.root, fold_of),
        "left_out": left_out,
    }


def obtain_datalist(
    dataset_dir: Path | str,
    split_file: Path | str | None,
    run_dir: Path | str,
    modalities: Sequence[str] = STUDY_MODALITIES,
    seed: int = STUDY_SPLIT.seed,
    all_cases: bool = False,
    reading: Reading = BY_NAMES,
) -> dict[str, Any]:
    """The datalist of a run, kept as its own `split.json`: a copy of `split_file`, or made when missing.

    The data folder is never written to. A resumed run finds its own split again, whatever has been added to the data.

    Args:
        all_cases: of one that is made, see `make_split`.
        reading: of the data folder, where a split is made.
    """
    if split_file and all_cases:
        raise ConfigurationError(f"all_cases: {split_file} says what is trained on; leave one of the two out.")
    own = Path(run_dir) / RUN_SPLIT_FILE
    if split_file or not own.exists():
        check_outputs([own], [dataset_dir])
    if split_file:
        read_datalist(split_file, dataset_dir)  # its errors name the file that the user gave
        write_whole(own, partial(shutil.copyfile, split_file))
    elif not own.exists():
        found = find_cases(dataset_dir, modalities, reading)
        made = make_split(found, SplitPlan(seed=seed, all_cases=all_cases, patient=reading.patient), modalities)
        write_json({**made, **reading.stated()}, own)
    return read_datalist(own, dataset_dir)


# ---------------------------------------------------------------------------------------------------------------------
# Patients


class MappedPatient(NamedTuple):
    """One line of `name_mapping.csv`, which gives a patient's ids through the years."""

    file: Path
    line: int
    grade: str


def usable_cases(dataset: FoundDataset, modalities: Sequence[str]) -> tuple[list[Case], dict[str, list[str]]]:
    """The cases that can be split, and the ids of the others by what they lack."""
    labelled = [case for case in dataset.cases if case.segmentation]
    complete = [case for case in labelled if set(modalities) <= set(case.modalities)]
    incomplete = [case for case in labelled if not set(modalities) <= set(case.modalities)]
    return complete, {
        "without_label": [case.id for case in dataset.cases if not case.segmentation],
        "without_modality": [case.id for case in incomplete],
    }


def _by_patient(
    patient_of: Mapping[Case, str], digests: Mapping[Case, str | None], mapping: Mapping[str, MappedPatient]
) -> list[Patient]:
    """Cases grouped by patient, in the order of each patient's first case."""
    same = DisjointSet(patient_of)
    first_with: dict[object, Case] = {}
    for case, patient in patient_of.items():
        for mark in {("patient", patient), digests[case], mapping.get(case.id)} - {None}:
            same.merge(first_with.setdefault(mark, case), case)
    patients: dict[Case, list[Case]] = {}
    for case in patient_of:
        patients.setdefault(same[case], []).append(case)
    return [tuple(group) for group in patients.values()]


def _read_name_mapping(dataset: FoundDataset) -> dict[str, MappedPatient]:
    """Line of `name_mapping.csv` by case id of any year; empty where there is no such file below the data folder."""
    mapping: dict[str, MappedPatient] = {}
    for file in dataset.stray:
        if file.name != NAME_MAPPING_FILE:
            continue
        try:
            lines = list(csv.DictReader(file.read_text(encoding="utf-8-sig").splitlines()))
        except (OSError, ValueError, csv.Error) as error:
            raise DatasetError(f"{file}: cannot be read as CSV ({error}).") from error
        for number, line in enumerate(lines, start=2):
            patient = MappedPatient(file, number, line.get(GRADE_COLUMN) or UNKNOWN_GRADE)
            ids = [value for column, value in line.items() if column and "brats" in column.lower()]
            mapping |= {case_id: patient for case_id in ids if case_id and case_id != "NA"}
    return mapping


def _by_grade(patients: Sequence[Patient], mapping: Mapping[str, MappedPatient], root: Path) -> list[list[Patient]]:
    strata: dict[str, list[Patient]] = {}
    for patient in patients:
        grades = [mapping[case.id].grade for case in patient if case.id in mapping]
        strata.setdefault(grades[0] if grades else UNKNOWN_GRADE, []).append(patient)
    if set(strata) == {UNKNOWN_GRADE}:
        raise DatasetError(f"{root}: no grade to stratify by; {NAME_MAPPING_FILE} is missing or names other cases.")
    return [strata[grade] for grade in sorted(strata)]


# ---------------------------------------------------------------------------------------------------------------------
# Drawing


def _share_of(number: int, share: float) -> int:
    """At least one, rounded up as scikit-learn's `train_test_split` does, which the study used."""
    return math.ceil(round(number * share, 9))


def _choose(
    strata: Sequence[Sequence[Patient]], plan: SplitPlan, named: list[Patient] | None
) -> tuple[list[Patient], list[Patient]]:
    """Patients to validate and to test on, in the study's order: validation first, testing from the rest.

    Args:
        named: the patients to test on where these are given.
    """
    total = sum(map(len, strata))
    validating = min(_share_of(total, plan.validation_share), total - 2)
    if named:
        return _draw(_without(strata, named), min(validating, total - len(named) - 1)), named
    validation = _draw(strata, validating)
    untaken = total - validating
    return validation, _draw(_without(strata, validation), min(_share_of(untaken, plan.test_share), untaken - 1))


def _draw(strata: Sequence[Sequence[Patient]], number: int) -> list[Patient]:
    """The first patients of every stratum, `number` in all, by largest remainder in proportion to the strata."""
    total = sum(map(len, strata))
    exact = [number * len(stratum) / total for stratum in strata]
    counts = [math.floor(quota) for quota in exact]
    by_remainder = sorted(range(len(strata)), key=lambda index: counts[index] - exact[index])
    for index in by_remainder[: number - sum(counts)]:
        counts[index] += 1
    return [patient for stratum, count in zip(strata, counts, strict=True) for patient in stratum[:count]]


def _without(strata: Sequence[Sequence[Patient]], taken: Collection[Patient]) -> list[list[Patient]]:
    gone = set(taken)
    return [[patient for patient in stratum if patient not in gone] for stratum in strata]


def _named(patients: Sequence[Patient], test_ids: Sequence[str], root: Path) -> list[Patient]:
    by_id = {case.id: patient for patient in patients for case in patient}
    if missing := [test_id for test_id in test_ids if test_id not in by_id]:
        raise DatasetError(f"{root}: no usable labelled case named {', '.join(missing)}, which is to be tested on.")
    chosen = list(dict.fromkeys(by_id[test_id] for test_id in test_ids))
    if len(patients) - len(chosen) < 2:
        raise DatasetError(f"{root}: testing on {len(chosen)} of {len(patients)} patients leaves too few to train on.")
    return chosen


def _deal(strata: Sequence[Sequence[Patient]], folds: int) -> list[list[Patient]]:
    """Patients dealt out one by one, stratum after stratum, so that the parts' sizes differ by one at most."""
    patients = [patient for stratum in strata for patient in stratum]
    if len(patients) < folds:
        raise ConfigurationError(f"{folds} folds need as many patients to train on; there are {len(patients)}.")
    return [patients[number::folds] for number in range(folds)]


def section_of(patients: Iterable[Patient], root: Path, fold_of: Mapping[Case, int]) -> list[dict[str, Any]]:
    """Datalist entries sorted by case, with every modality that is there, so that one split serves all trainings."""
    cases = sorted((case for patient in patients for case in patient), key=lambda case: (case.id, case.folder))
    return [
        {**load_entry(case, case.modalities, root), **({"fold": fold_of[case]} if case in fold_of else {})}
        for case in cases
    ]
