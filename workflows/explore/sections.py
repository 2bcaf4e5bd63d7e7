"""The page that `explore` writes: its sections, with their pictures, words and tables. It needs no network."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from transforms.labels import MODALITIES
from transforms.windows import STUDY_WINDOW
from workflows.data.case import Case
from workflows.data.label_conventions import LabelConvention
from workflows.explore.data_in_words import case_lines, cases_table, dataset_lines, windows_table
from workflows.explore.survey import CaseSurvey, DatasetSurvey
from workflows.files.text_files import filled_template, write_text
from workflows.image_files.oriented import Plane
from workflows.messages.progress import track
from workflows.messages.text_tables import TextTable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE, NUMBERS = "index.html", "cases.csv"
OF_DATASET, OF_CASES = "dataset", "cases"
"""Folders of the pictures."""
ASSETS = Path(__file__).with_name("assets")
POLICY = "default-src 'none'; img-src 'self' file:; style-src 'unsafe-inline'"
"""The page runs no script and fetches nothing but the pictures beside it."""


@dataclass(frozen=True)
class View:
    """What of the data to look at.

    Args:
        cases: ids of the only cases to draw; empty for the data set and one case as an example.
        index: the slice of the plane, see `oriented.upright`; the one with most tumour if None.
        slice_range: the window in use, first slice and the one after the last in slices of 1 mm from the bottom.
        modalities: those to read; a case may lack some.
        caption: words for the titles.
    """

    cases: tuple[str, ...] = ()
    plane: Plane = Plane.axial
    index: int | None = None
    slice_range: tuple[int, int] = STUDY_WINDOW
    modalities: tuple[str, ...] = MODALITIES
    caption: str = ""


@dataclass(frozen=True)
class Picture:
    """An image file, relative to the page; the page knows its width and height and does not jump while loading."""

    file: str
    caption: str
    size_px: tuple[int, ...]


@dataclass(frozen=True)
class Section:
    """Part of a page: lines of text, pictures, tables, further tables to be opened, links as (file, words)."""

    title: str
    lines: Sequence[str]
    pictures: Sequence[Picture]
    tables: Sequence[TextTable] = ()
    folded: Sequence[TextTable] = ()
    links: Sequence[tuple[str, str]] = ()


def write_page(file: Path, title: str, sections: Sequence[Section] = (), note: str = "") -> None:
    """Write a page, whole or not at all; all words are escaped.

    Raises:
        ConfigurationError: if the folder cannot be written to.
    """
    text = filled_template(ASSETS / "page.html", title=title, note=note, sections=sections, policy=POLICY)
    write_text(file, text + "\n")


CAPTIONS = {
    "modalities": "The modalities of one slice, in the field's orientation: the patient's right is on the left.",
    "planes": "The three planes through the tumour. Dashed lines: where the other two pictures cut.",
    "montage": "All slices; the frame holds the window of slices {first} to {last} (of 1 mm) that is used.",
    "classes": "The four classes of the slice one by one, with the pixels of each in the whole slice.",
    "one_hot": "What one-hot encoding makes of the slice: a channel per class. Resized bilinearly, as the study did, "
    "pixels at a border belong to several classes.",
    "preprocessing": "The slice as it is in the file and as a network reads it. The z-scored background is zero, the "
    "brain's mean.",
    "labels": "In how many cases each label value is present.",
    "volumes": "Voxels per class and case, as volumes. A cross marks a class that the case lacks.",
    "slices": "Tumour per axial slice, and the share that the window keeps.",
    "windows": "Every possible window: the share of each class's volume that it keeps.",
    "intensities": "Intensities of the brain. MRI has no unit: above, cases differ by their scanners; below, z-scored, "
    "they can be compared.",
    "centres": "Where the tumours' centres of mass lie; every brain is stretched to the mean size.",
    "boxes": "The box around each brain: what cropping would save.",
}
"""The caption of each picture, by the name of its file."""


def case_section(case: Case, found: CaseSurvey, convention: LabelConvention, out: Path, view: View) -> Section:
    """Draw one case into `out`, and describe it.

    Raises:
        DatasetError: if the case cannot be drawn.
    """
    from workflows.explore.case_figures import classes_figure, modalities_figure, montage_figure, planes_figure
    from workflows.explore.preprocessing_figures import one_hot_figure, preprocessing_figure
    from workflows.pictures.case_scene import load_scene

    scene = load_scene(case, view.modalities, convention, view.plane, view.index, view.slice_range, view.caption)
    drawings = {"modalities": modalities_figure, "planes": planes_figure, "montage": montage_figure}
    if scene.labels is not None:
        drawings |= {"classes": classes_figure, "one_hot": one_hot_figure}
    drawings["preprocessing"] = preprocessing_figure
    pictures = _draw({name: partial(draw, scene) for name, draw in drawings.items()}, out, view, case.id)
    return Section(case.id, case_lines(found, convention), pictures)


def dataset_section(survey: DatasetSurvey, out: Path, view: View) -> Section:
    """Draw a data set into `out`, write its numbers there as CSV, and describe it."""
    from workflows.explore.brain_figures import boxes_figure, centres_figure, intensities_figure
    from workflows.explore.dataset_figures import labels_figure, slices_figure, volumes_figure, windows_figure

    drawings: dict[str, Callable[[], Figure]] = {}
    if survey.labelled:
        drawings |= {"labels": partial(labels_figure, survey), "volumes": partial(volumes_figure, survey)}
        drawings["slices"] = partial(slices_figure, survey, view.slice_range)
        drawings["windows"] = partial(windows_figure, survey, view.slice_range)
    if survey.modalities:
        drawings["intensities"] = partial(intensities_figure, survey)
    if any(case.tumour_centre is not None for case in survey.labelled):
        drawings["centres"] = partial(centres_figure, survey)
    if any(case.brain_box_mm is not None for case in survey.cases):
        drawings["boxes"] = partial(boxes_figure, survey)
    windows = [windows_table(survey, view.slice_range)] if survey.labelled else []
    cases = cases_table(survey)
    pictures = _draw(drawings, out, view)
    text = io.StringIO(newline="")
    csv.writer(text).writerows([cases.columns, *cases.rows])
    write_text(out / NUMBERS, text.getvalue())
    links = [(NUMBERS, "the numbers of every case as CSV")]
    return Section("Data set", dataset_lines(survey), pictures, windows, [cases], links)


def _draw(drawings: Mapping[str, Callable[[], Figure]], out: Path, view: View, case_id: str = "") -> list[Picture]:
    """Draw the pictures of a case, whose titles have the view's caption, or those of the data set with it below."""
    from workflows.pictures.drawing import DPI, save

    if not (out / PAGE).exists():
        write_page(out / PAGE, "")  # so that a later call knows the pictures of a stopped one as ours
    folder = f"{OF_CASES}/{folder_name(case_id)}" if case_id else OF_DATASET
    first, end = view.slice_range
    pictures = []
    for name, draw in track(drawings.items(), f"drawing {case_id or 'the data set'}", len(drawings)):
        figure, file = draw(), f"{folder}/{name}.png"
        if view.caption and not case_id:
            figure.text(0.995, 0.01, view.caption, ha="right", color="0.5", fontsize=9)
        save(figure, out / file)
        size_px = tuple(int(length) for length in figure.get_size_inches() * DPI)
        pictures.append(Picture(file, CAPTIONS[name].format(first=first, last=end - 1), size_px))
    return pictures


def folder_name(case_id: str) -> str:
    """A case's id as the name of a folder that is safe in every browser and shell."""
    return re.sub(r"[^\w.-]", "_", case_id).lstrip(".") or "case"
