"""Draws pictures of a data set and of its cases, and one page that shows them."""

from __future__ import annotations

from pathlib import Path

from workflows.data.case import Case, FoundDataset
from workflows.data.convention_of_cases import label_convention_of
from workflows.data.find_cases import find_cases
from workflows.data.reading import BY_NAMES, Reading
from workflows.explore.data_in_words import case_lines, dataset_lines
from workflows.explore.sections import (
    NUMBERS,
    OF_CASES,
    OF_DATASET,
    PAGE,
    View,
    case_section,
    dataset_section,
    write_page,
)
from workflows.explore.survey import survey_case, survey_dataset
from workflows.files.outputs import check_outputs
from workflows.messages.errors import ConfigurationError, DatasetError


def explore(root: Path, out: Path, view: View, workers: int | None = None, reading: Reading = BY_NAMES) -> list[str]:
    """Draw what lies below `root` into `out`.

    Returns:
        Lines to print: the numbers of the data set and of the cases drawn, and the path of the page.
    Raises:
        DatasetError: if there is no case, none of the given name, or one that is to be drawn cannot be read.
        ConfigurationError: if `out` lies in the data folder or cannot be written to.
    """
    dataset = find_cases(root, reading=reading)
    _check_output(out, root)
    if view.cases:
        chosen = [_named(dataset, name) for name in view.cases]
        numbers = [survey_case(case, view.modalities) for case in chosen]
        convention = label_convention_of(
            {case: tuple(found.label_voxels) for case, found in zip(chosen, numbers, strict=True)}
        )
        survey = None
    else:
        survey = survey_dataset(dataset.cases, view.modalities, workers)
        by_size = sorted(survey.labelled, key=lambda case: int(case.tumour_slice_voxels.sum()))
        typical = by_size[len(by_size) // 2] if by_size else survey.cases[0]  # the median tumour, or the first case
        chosen, numbers = [case for case in dataset.cases if case.id == typical.id][:1], [typical]
        convention = survey.convention
    if broken := next((found for found in numbers if found.problem), None):
        raise DatasetError(broken.problem)
    sections = [dataset_section(survey, out, view)] if survey else []
    sections += [case_section(*each, convention, out, view) for each in zip(chosen, numbers, strict=True)]
    write_page(out / PAGE, f"Data below {dataset.root.resolve().name}", sections, view.caption)
    lines = dataset_lines(survey) if survey else []
    for found in numbers:
        lines += [found.id, *(f"  {line}" for line in case_lines(found, convention))]
    return [*lines, str(out / PAGE)]


def _check_output(out: Path, root: Path) -> None:
    check_outputs([out / PAGE], [root])
    there = [out / name for name in (NUMBERS, OF_DATASET, OF_CASES) if (out / name).exists()]
    if there and not (out / PAGE).exists():
        raise ConfigurationError(
            f"{there[0]}: brats-unet did not write what is there and does not replace it; name another --out."
        )


def _named(dataset: FoundDataset, name: str) -> Case:
    """The case of this id, or the only one whose id ends with the name, as BraTS20_Training_136 does with 136."""
    exact = [case for case in dataset.cases if case.id == name]
    similar = exact or [case for case in dataset.cases if case.id.endswith(name)]
    if len(similar) == 1:
        return similar[0]
    if similar:
        raise DatasetError(
            f"{name}: {len(similar)} cases below {dataset.root} are called so; name one of their folders."
        )
    some = ", ".join(case.id for case in dataset.cases[:5])
    raise DatasetError(f"{name}: no such case among the {len(dataset.cases)} below {dataset.root}, e.g. {some}.")
