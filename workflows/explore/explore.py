"""Look at the data: pictures of a case and of the data set, and one page that lays them out."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from workflows.data.case import Case, FoundDataset
from workflows.data.convention_of_cases import label_convention_of
from workflows.data.find_cases import find_cases
from workflows.data.label_conventions import LabelConvention
from workflows.explore.data_in_words import case_lines, dataset_lines
from workflows.explore.page import Page, write_page
from workflows.explore.sections import NUMBERS, OF_CASES, OF_DATASET, PAGE, View, case_section, dataset_section
from workflows.explore.survey import CaseSurvey, DatasetSurvey, survey_case, survey_dataset
from workflows.files.outputs import check_outputs
from workflows.messages.errors import ConfigurationError, DatasetError


@dataclass
class Explored:
    """What there is to see.

    Args:
        page: the HTML file.
        cases: the numbers of the cases drawn.
        convention: what the label values mean.
        survey: the numbers of the whole data set; None where single cases were asked for.
    """

    page: Path
    convention: LabelConvention
    cases: list[CaseSurvey] = field(default_factory=list)
    survey: DatasetSurvey | None = None

    def lines(self) -> list[str]:
        """What to print: numbers of the data set and of the cases drawn, and where the page is."""
        lines = dataset_lines(self.survey) if self.survey else []
        for case in self.cases:
            lines += [case.id, *(f"  {line}" for line in case_lines(case, self.convention))]
        return [*lines, str(self.page)]


def explore(root: Path, out: Path, view: View, workers: int | None = None) -> Explored:
    """Draw what lies below `root` into `out`.

    Raises:
        DatasetError: if there is no case, or none of the name asked for, or the one to be drawn cannot be read.
        ConfigurationError: if `out` lies in the data folder or cannot be written to.
    """
    dataset = find_cases(root)
    page = Page(f"Data below {dataset.root.resolve().name}", view.caption)
    _check_output(out, root)
    if view.cases:
        chosen = [_named(dataset, name) for name in view.cases]
        numbers = [survey_case(case, view.modalities) for case in chosen]
        convention = label_convention_of(
            {case: tuple(found.label_voxels) for case, found in zip(chosen, numbers, strict=True)}
        )
        done = Explored(out / PAGE, convention)
    else:
        survey = survey_dataset(dataset.cases, view.modalities, workers)
        chosen, numbers = _example(dataset, survey)
        convention = survey.convention
        done = Explored(out / PAGE, convention, survey=survey)
    if broken := next((found for found in numbers if found.problem), None):
        raise DatasetError(broken.problem)
    if done.survey:
        page.sections.append(dataset_section(done.survey, out, view))
    for case, found in zip(chosen, numbers, strict=True):
        page.sections.append(case_section(case, found, convention, out, view))
        done.cases.append(found)
    write_page(page, done.page)
    return done


def _check_output(out: Path, root: Path) -> None:
    check_outputs([out / PAGE], [root])
    there = [out / name for name in (NUMBERS, OF_DATASET, OF_CASES) if (out / name).exists()]
    if there and not (out / PAGE).exists():
        raise ConfigurationError(
            f"{there[0]}: brats-unet did not write what is there and does not replace it; name another --out."
        )


def _named(dataset: FoundDataset, name: str) -> Case:
    """The case of this id, or the only one whose id ends so: 136 for BraTS20_Training_136."""
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


def _example(dataset: FoundDataset, survey: DatasetSurvey) -> tuple[list[Case], list[CaseSurvey]]:
    """The case with the median tumour, as one that is typical; the first where none has labels."""
    ordered = sorted(survey.labelled, key=lambda case: int(case.tumour_slice_voxels.sum()))
    typical = ordered[len(ordered) // 2] if ordered else survey.cases[0]
    return [case for case in dataset.cases if case.id == typical.id][:1], [typical]
