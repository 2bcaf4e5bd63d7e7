"""Look at the data: pictures of a case and of the data set, and one page that lays them out."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from transforms.files import write_whole
from transforms.labels import CLASS_NAMES, MODALITIES
from workflows.case_checks import STUDY_SLICES
from workflows.dataset import Case, FoundDataset, find_cases
from workflows.dataset_survey import CaseSurvey, DatasetSurvey, survey_case, survey_dataset
from workflows.errors import ConfigurationError, DatasetError
from workflows.explore_page import Page, Picture, Section, Table, write_page
from workflows.label_conventions import LabelConvention, label_convention_of
from workflows.nifti_files import format_shape
from workflows.oriented import Plane
from workflows.progress import track

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE = "index.html"
NUMBERS = "cases.csv"


@dataclass(frozen=True)
class View:
    """What of the data to look at.

    Args:
        cases: ids to draw one by one, and nothing of the data set; empty for the data set and one case as example.
        plane: the plane of the slice.
        index: its slice, see `oriented.upright`; the one with most tumour if None.
        slice_range: the window in use, first slice and the one after the last in slices of 1 mm from the bottom.
        modalities: those to read; a case may lack some.
        caption: words for the titles.
    """

    cases: tuple[str, ...] = ()
    plane: Plane = Plane.axial
    index: int | None = None
    slice_range: tuple[int, int] = STUDY_SLICES
    modalities: tuple[str, ...] = MODALITIES
    caption: str = ""


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
    if out.resolve().is_relative_to(root.resolve()):
        raise ConfigurationError(f"{out}: lies in the data folder, which is never written to; choose another --out.")
    page = Page(f"Data below {dataset.root.resolve().name}", view.caption)
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
        page.sections.append(_dataset_section(survey, out, view))
    if broken := next((found for found in numbers if found.problem), None):
        raise DatasetError(broken.problem)
    for case, found in zip(chosen, numbers, strict=True):
        page.sections.append(_case_section(case, found, convention, out, view))
        done.cases.append(found)
    write_page(page, done.page)
    return done


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


def case_lines(case: CaseSurvey, convention: LabelConvention) -> list[str]:
    """Shape, label values and voxel counts of a case."""
    spacing = format_shape(f"{size:g}" for size in (round(size, 4) for size in case.spacing_mm))
    lines = [f"shape {format_shape(case.shape)}, {spacing} mm, {case.orientation}"]
    if not case.labelled:
        return [*lines, "no segmentation"]
    lines.append("label values " + ", ".join(f"{value:g}" for value in sorted(case.label_voxels)))
    for value, count in sorted(case.label_voxels.items()):
        lines.append(f"  {value:g} {value_name(value, convention)}: {count} voxels")
    return lines


def value_name(value: float, convention: LabelConvention) -> str:
    """The class that a label value stands for."""
    index = convention.classes.get(int(value)) if float(value).is_integer() else None
    return CLASS_NAMES[index] if index is not None else "no class of this data set"


def dataset_lines(survey: DatasetSurvey) -> list[str]:
    """Cases, label values and what is empty, in a few lines."""
    lines = [f"{len(survey.cases)} cases, {len(survey.labelled)} with labels ({survey.convention.title})"]
    for value, cases in survey.label_values().items():
        total = sum(int(case.label_voxels.get(value, 0)) for case in survey.labelled)
        name = value_name(value, survey.convention)
        lines.append(f"  {value:g} {name}: {total} voxels, in {len(cases)} of {len(survey.labelled)} cases")
    for index, cases in survey.empty_classes().items():
        if cases:
            lines.append(f"no {CLASS_NAMES[index]}: {', '.join(cases)}")
    return lines + [f"cannot be read: {case.problem}" for case in survey.unreadable]


# ---------------------------------------------------------------------------------------------------------------------
# Sections of the page


def _case_section(case: Case, found: CaseSurvey, convention: LabelConvention, out: Path, view: View) -> Section:
    from workflows.case_figures import classes_figure, modalities_figure, montage_figure, planes_figure
    from workflows.case_scene import load_scene
    from workflows.preprocessing_figures import one_hot_figure, preprocessing_figure

    scene = load_scene(case, view.modalities, convention, view.plane, view.index, view.slice_range, view.caption)
    first, end = view.slice_range
    drawings: list[tuple[str, str, Callable[[], Figure]]] = [
        (
            "modalities",
            "The modalities of one slice, in the field's orientation: the patient's right is on the left.",
            lambda: modalities_figure(scene),
        ),
        (
            "planes",
            "The three planes through the tumour. Dashed lines: where the other two pictures cut.",
            lambda: planes_figure(scene),
        ),
        (
            "montage",
            f"All slices; the frame holds the window of slices {first} to {end - 1} (of 1 mm) that is used.",
            lambda: montage_figure(scene),
        ),
        (
            "preprocessing",
            "The slice as it is in the file and as a network reads it. The z-scored background is zero, "
            "the brain's mean.",
            lambda: preprocessing_figure(scene),
        ),
    ]
    if scene.labels is not None:
        drawings[3:3] = [
            (
                "classes",
                "The four classes of the slice one by one, with the pixels of each in the whole slice.",
                lambda: classes_figure(scene),
            ),
            (
                "one_hot",
                "What one-hot encoding makes of the slice: a channel per class. Resized bilinearly, as the "
                "study did, pixels at a border belong to several classes.",
                lambda: one_hot_figure(scene),
            ),
        ]
    pictures = _draw(drawings, out, f"cases/{folder_name(case.id)}", f"drawing {case.id}")
    return Section(case.id, case_lines(found, convention), pictures)


def _dataset_section(survey: DatasetSurvey, out: Path, view: View) -> Section:
    from workflows.brain_figures import boxes_figure, centres_figure, intensities_figure
    from workflows.dataset_figures import labels_figure, slices_figure, volumes_figure, windows_figure

    windows = (view.slice_range, STUDY_SLICES)
    drawings: list[tuple[str, str, Callable[[], Figure]]] = []
    if survey.labelled:
        drawings += [
            ("labels", "In how many cases each label value is present.", lambda: labels_figure(survey)),
            (
                "volumes",
                "Voxels per class and case, as volumes. A cross marks a class that the case lacks.",
                lambda: volumes_figure(survey),
            ),
            (
                "slices",
                "Tumour per axial slice, and the share that the window keeps.",
                lambda: slices_figure(survey, *windows),
            ),
            (
                "windows",
                "Every possible window: the share of each class's volume that it keeps.",
                lambda: windows_figure(survey, *windows),
            ),
        ]
    if survey.modalities:
        drawings.append(
            (
                "intensities",
                "Intensities of the brain. MRI has no unit: above, cases differ by their "
                "scanners; below, z-scored, they can be compared.",
                lambda: intensities_figure(survey),
            )
        )
    if any(case.tumour_centre is not None for case in survey.labelled):
        drawings.append(
            (
                "centres",
                "Where the tumours' centres of mass lie; every brain is stretched to the mean size.",
                lambda: centres_figure(survey),
            )
        )
    if any(case.brain_box_mm is not None for case in survey.cases):
        drawings.append(("boxes", "The box around each brain: what cropping would save.", lambda: boxes_figure(survey)))
    tables = [windows_table(survey, view.slice_range)] if survey.labelled else []
    tables.append(cases_table(survey))
    _write_numbers(tables[-1], out / NUMBERS)
    pictures = _draw(drawings, out, "dataset", "drawing the data set", view.caption)
    return Section("Data set", dataset_lines(survey), pictures, tables, [(NUMBERS, "the numbers of every case as CSV")])


def _draw(
    drawings: Sequence[tuple[str, str, Callable[[], Figure]]], out: Path, folder: str, doing: str, caption: str = ""
) -> list[Picture]:
    from workflows.drawing import DPI, save

    pictures = []
    for name, words, draw in track(drawings, doing, len(drawings)):
        figure = draw()
        if caption:
            figure.text(0.995, 0.01, caption, ha="right", color="0.5", fontsize=9)
        save(figure, out / folder / f"{name}.png")
        size_px = tuple(int(length) for length in figure.get_size_inches() * DPI)
        pictures.append(Picture(f"{folder}/{name}.png", words, size_px))
    return pictures


def windows_table(survey: DatasetSurvey, chosen: tuple[int, int]) -> Table:
    """What windows of slices keep: of each class's whole volume, and of the cases."""
    from workflows.dataset_survey import share_of_class, windows_to_compare

    rows = []
    for name, window in windows_to_compare(survey, chosen, STUDY_SLICES).items():
        kept = [share for case in survey.labelled if (share := case.share_kept(window)) is not None]
        shares = [share_of_class(survey, index, window) for index in (None, *range(1, len(CLASS_NAMES)))]
        cells = ["" if share is None else f"{share:.1%}" for share in shares]
        cases = [f"{sum(kept) / len(kept):.1%}", f"{min(kept):.1%}"] if kept else ["", ""]
        rows.append([name, f"{window[0]}–{window[1] - 1}", str(window[1] - window[0]), *cells, *cases])
    head = ["window", "slices of 1 mm", "number", "whole tumour", *CLASS_NAMES[1:], "mean of cases", "worst case"]
    return Table("Which window keeps what share of each class, all cases together", head, rows)


def cases_table(survey: DatasetSurvey) -> Table:
    """Geometry and voxels by label value of every case."""
    values = list(survey.label_values()) if survey.labelled else []
    head = ["case", "shape", "spacing mm", "orientation"]
    head += [f"{value:g} {value_name(value, survey.convention)}" for value in values]
    rows = []
    for case in survey.cases:
        counts = [str(case.label_voxels.get(value, 0)) if case.labelled else "" for value in values]
        spacing = format_shape(f"{round(size, 4):g}" for size in case.spacing_mm)
        rows.append([case.id, format_shape(case.shape), spacing, case.orientation, *counts])
    return Table("Voxels of every case", head, rows, folded=True)


def _write_numbers(table: Table, file: Path) -> None:
    def write(path: Path) -> None:
        with path.open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([table.head, *table.rows])

    try:
        write_whole(file, write)
    except OSError as error:
        raise ConfigurationError(f"{file}: cannot be written ({error.strerror or error}).") from error


def folder_name(case_id: str) -> str:
    """A case's id as the name of a folder that no browser or shell stumbles over."""
    return re.sub(r"[^\w.-]", "_", case_id).lstrip(".") or "case"
