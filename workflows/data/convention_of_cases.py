"""Which label convention a data set follows, decided once for all its cases: from names and contents together."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

from transforms.labels import ENHANCING_IN_FILES_FROM_2023, ENHANCING_IN_FILES_TO_2022
from workflows.data.case import Case
from workflows.data.label_conventions import (
    AFTER_TREATMENT,
    BRATS_FROM_2023,
    BRATS_TO_2015,
    BRATS_TO_2022,
    LABEL_CONVENTIONS,
    LABELS_IN_USE,
    PAEDIATRIC,
    LabelConvention,
    LabelSummary,
    summarise_labels,
)
from workflows.image_files.itk_files import names_classes
from workflows.image_files.nifti_files import load_image, read_voxels
from workflows.machine.processes import allowed_processors
from workflows.messages.errors import DatasetError
from workflows.messages.progress import track

Labels = frozenset[float]
Decision = Callable[[Labels], LabelConvention | None]


def _to_2022(labels: Labels) -> LabelConvention | None:
    if {3, 4} <= labels:
        return None
    return BRATS_FROM_2023 if 3 in labels else BRATS_TO_2022  # some copies have 4 renumbered to 3, in the same order


def _from_2023(labels: Labels) -> LabelConvention | None:
    if 4 not in labels:
        return BRATS_FROM_2023
    return AFTER_TREATMENT if 3 in labels else None


def _from_2023_with_cavity(labels: Labels) -> LabelConvention:
    return AFTER_TREATMENT if 4 in labels else BRATS_FROM_2023  # what named segments are read as


def _paediatric(labels: Labels) -> LabelConvention | None:
    return PAEDIATRIC if 4 in labels or not labels else None  # in 2023 they were numbered as those of adults


def _unknown(labels: Labels) -> LabelConvention | None:
    likely = ({1, 2, 4}, {2, 4}, {4})  # 1 and 4 alone are enhancing tumour and oedema of a child more likely
    return BRATS_TO_2022 if not labels or labels in likely else None


NAMED: tuple[tuple[re.Pattern[str], Decision], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), decision)
    for pattern, decision in (
        (r"BraTS-PED\w*-\d+", _paediatric),
        (r"BraTS-GLI-\d+-[1-9]\d\d", lambda _: AFTER_TREATMENT),  # BraTS 2024: time points from 100 on
        (r"BraTS-MEN-RT", _unknown),  # one label, the target of radiotherapy
        (r"BraTS-[A-Z]+-\d+|-(?:t1n|t1c|t2w|t2f)\.", _from_2023),
        (r"PatientID_\d+_Timepoint_\d+", lambda _: AFTER_TREATMENT),  # MU-Glioma-Post
        (r"VSD\.Brain|brats_(?:2013|tcia)_pat", lambda _: BRATS_TO_2015),
        (r"BraTS\d\d(?:\d\d)?_|UPENN-GBM-\d|UCSF-PDGM-\d|TCGA-\w\w-\w{4}", _to_2022),
    )
)
"""What the names of a data set's cases and images say of its labels; the first that fits holds.

docs/reference/data-sets.md has the sources.
"""


def decide_label_convention(cases: Iterable[Case], workers: int | None = None) -> LabelConvention:
    """Decide once for a data set what the values in its label maps mean.

    Raises:
        DatasetError: if it follows two conventions or cannot be decided, or a label map cannot be read.
    """
    cases = tuple(cases)
    if all(case.convention for case in cases):
        return label_convention_of(dict.fromkeys(cases, ()))
    summaries = survey_labels(cases, workers)
    return label_convention_of({case: tuple(summaries[case].voxels) if case in summaries else () for case in cases})


def label_convention_of(values: Mapping[Case, Iterable[float]]) -> LabelConvention:
    """As `decide_label_convention`, from the label values found per case."""
    stated = {case.convention: case for case in values if case.convention}
    unstated = [case for case in values if not case.convention]
    if len(stated) > 1 or (stated and unstated):
        one, other = [*stated.values(), *unstated][:2]
        raise DatasetError(
            f"The data folder mixes label conventions: {one.folder} and {other.folder}; use one data set at a time."
        )
    if stated:
        return next(iter(stated))
    return convention_by_name({case: frozenset(found) for case, found in values.items()})


def convention_by_name(values: Mapping[Case, Labels]) -> LabelConvention:
    """From the names of the cases and the label values found, where no file states the convention.

    Raises:
        DatasetError: naming two cases that differ, or the conventions that are possible.
    """
    groups: dict[Decision, dict[Case, Labels]] = defaultdict(dict)
    for case, found in values.items():
        groups[named_decision(case)][case] = found & LABELS_IN_USE
    together = {decision: frozenset().union(*found.values()) for decision, found in groups.items()}
    labelled = {decision: labels for decision, labels in together.items() if labels} or dict(list(together.items())[:1])
    decided = {decision: decision(labels) for decision, labels in labelled.items()}
    conventions = {convention for convention in decided.values() if convention}
    all_labels = frozenset().union(*labelled.values())
    if len(conventions) == 1 and all_labels <= set(next(iter(conventions)).classes):
        return conventions.pop()
    _refuse_mixture(values)
    for decision, convention in decided.items():
        if convention is None or len(conventions) == 1:
            raise DatasetError(_undecided(groups[decision], all_labels))
    one, other = (next(iter(groups[decision])) for decision in list(decided)[:2])
    raise DatasetError(
        f"The data folder mixes label conventions: {one.folder} and {other.folder}; use one data set at a time."
    )


def named_decision(case: Case) -> Decision:
    """How the names of a case and its images say that label values are to be understood.

    Label maps without images, named after cases of BraTS to 2022, may come from nnU-Net, which orders them otherwise.
    """
    if case.segmentation and names_classes(case.segmentation):
        return _from_2023_with_cavity
    text = " ".join([case.id, *(file.name for file in case.images.values())])
    decision = next((decision for pattern, decision in NAMED if pattern.search(text)), _unknown)
    return _unknown if decision is _to_2022 and not case.images else decision


def _refuse_mixture(values: Mapping[Case, Labels]) -> None:
    """Refuse a data set in which enhancing tumour is 4 in some cases and 3 in others."""
    four, three = ENHANCING_IN_FILES_TO_2022, ENHANCING_IN_FILES_FROM_2023
    with_4 = [case for case, found in values.items() if four in found and three not in found]
    with_3 = [case for case, found in values.items() if three in found and four not in found]
    if with_4 and with_3 and not any({three, four} <= found for found in values.values()):
        raise DatasetError(
            f"Enhancing tumour must be one label in a data set, but {with_4[0].id} holds 4 (BraTS up to 2022) "
            f"and {with_3[0].id} holds 3 (BraTS from 2023 on); use one data set at a time, or say what the labels "
            "mean by  --labels."
        )


def _undecided(cases: Mapping[Case, Labels], labels: Labels) -> str:
    example = next((case for case, found in cases.items() if found), next(iter(cases)))
    found = ", ".join(f"{label:g}" for label in sorted(labels))
    possible: dict[str, str] = {}  # the name of a convention by what these labels mean in it
    for convention in LABEL_CONVENTIONS.values():
        if labels <= set(convention.classes):
            meaning = ", ".join(f"{label:g} {convention.class_name(int(label))}" for label in sorted(labels))
            possible.setdefault(meaning, convention.name)
    if not possible:
        return f"{example.id}: the labels {found} belong to no known convention; say what they mean by  --labels."
    what = f"the label {found}, alone in all maps," if len(labels) == 1 else f"the labels {found}"
    names = " or ".join(f"{name} ({meaning})" for meaning, name in possible.items())
    return f"{example.id}: neither names nor contents tell what {what} mean; name it by  --labels: {names}."


def survey_labels(cases: Iterable[Case], workers: int | None = None) -> dict[Case, LabelSummary]:
    """Read the label map of every labelled case, with progress.

    Threads are enough: unpacking and counting release Python's lock.
    """
    labelled = [case for case in cases if case.segmentation]
    with ThreadPoolExecutor(workers or allowed_processors()) as pool:
        summaries = pool.map(_summarise_case, labelled)
        return dict(zip(labelled, track(summaries, "reading label maps", len(labelled)), strict=True))


def _summarise_case(case: Case) -> LabelSummary:
    assert case.segmentation is not None
    return summarise_labels(read_voxels(load_image(case.segmentation)), case.segmentation)
