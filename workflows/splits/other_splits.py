"""Splits of other programs as datalists: nnU-Net's `splits_final.json`, and the datalists of MONAI's Auto3DSeg."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transforms.labels import STUDY_MODALITIES
from workflows.data.case import FoundDataset, path_below
from workflows.data.convention_of_cases import decide_label_convention
from workflows.messages.errors import ConfigurationError, DatasetError, printable
from workflows.splits.datalist import is_split_of_others, read_split_file
from workflows.splits.patients import patients_of
from workflows.splits.split import section_of, usable_cases

logger = logging.getLogger(__name__)

Names = Mapping[str, Sequence[str]]
"""The cases of each section, by id or by one of their files."""


def adopt_split(
    file: Path,
    dataset: FoundDataset,
    fold: int = 0,
    modalities: Sequence[str] = STUDY_MODALITIES,
    patient: str | None = None,
) -> dict[str, Any]:
    """The datalist of one fold; cases that cannot be trained on are left out and listed.

    A line warns of a patient in two sections, which nothing here can mend.

    Args:
        fold: the one that validates.
        patient: see `patients_of`.
    Raises:
        DatasetError: if the file is none of these, or names a case that is not there.
        ConfigurationError: if there is no such fold.
    """
    content = read_split_file(file)
    if not is_split_of_others(content):
        raise DatasetError(f"{file}: is neither nnU-Net's splits_final.json nor a datalist with 'image' and 'fold'.")
    try:
        names = _of_nnunet(content, fold) if isinstance(content, list) else _of_auto3dseg(content, fold, dataset, file)
    except (LookupError, TypeError, AttributeError) as error:
        raise ConfigurationError(f"{file}: has no fold {fold}, or one without its cases ({error}).") from error
    cases = {name: case for case in dataset.cases for name in (case.id, str(case.segmentation))}
    if missing := [name for section in names.values() for name in section if name not in cases]:
        raise DatasetError(f"{file}: names {missing[0]}, which is no case in {dataset.root}.")
    usable, left_out = usable_cases(dataset, modalities)
    sections = {name: [cases[key] for key in keys if cases[key] in usable] for name, keys in names.items()}
    convention = decide_label_convention(case for section in sections.values() for case in section)
    patient_of = patients_of(usable, dataset.root, patient)
    places = {(patient_of[case], name) for name, section in sections.items() for case in section}
    if torn := [whose for whose, sections_of in Counter(whose for whose, _ in places).items() if sections_of > 1]:
        logger.warning(printable(f"warning: {file} has cases of {', '.join(sorted(torn))} in two sections"))
    return {
        **convention.for_datalist(),
        "fold": fold,
        "patients": len({whose for whose, _ in places}),
        **{name: section_of([tuple(section)], dataset.root, {}) for name, section in sections.items()},
        "left_out": left_out,
    }


def _of_nnunet(folds: Sequence[Any], fold: int) -> Names:
    chosen = dict(enumerate(folds))[fold]
    return {"training": chosen["train"], "validation": chosen["val"], "testing": []}


def _of_auto3dseg(content: Mapping[str, Any], fold: int, dataset: FoundDataset, file: Path) -> Names:
    listed, tested = content["training"], content.get("testing", [])
    if fold not in [entry["fold"] for entry in listed]:
        raise LookupError(fold)
    sections = {
        "training": [entry["label"] for entry in listed if entry["fold"] != fold],
        "validation": [entry["label"] for entry in listed if entry["fold"] == fold],
        "testing": [entry["label"] for entry in tested if "label" in entry],
    }
    return {name: [str(path_below(dataset.root, path, file)) for path in paths] for name, paths in sections.items()}
