"""The sections of the page that `explore` writes: which pictures, with which words."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from transforms.files import write_whole
from transforms.labels import MODALITIES
from transforms.windows import STUDY_WINDOW
from workflows.data.case import Case
from workflows.data.label_conventions import LabelConvention
from workflows.data.oriented import Plane
from workflows.explore.data_in_words import case_lines, cases_table, dataset_lines, windows_table
from workflows.explore.page import Page, Picture, Section, Table, write_page
from workflows.explore.survey import CaseSurvey, DatasetSurvey
from workflows.messages.errors import ConfigurationError
from workflows.messages.progress import track

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE, NUMBERS = "index.html", "cases.csv"
OF_DATASET, OF_CASES = "dataset", "cases"
"""Folders of the pictures."""


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
    slice_range: tuple[int, int] = STUDY_WINDOW
    modalities: tuple[str, ...] = MODALITIES
    caption: str = ""


def case_section(case: Case, found: CaseSurvey, convention: LabelConvention, out: Path, view: View) -> Section:
    from workflows.explore.case_figures import classes_figure, modalities_figure, montage_figure, planes_figure
    from workflows.explore.preprocessing_figures import one_hot_figure, preprocessing_figure
    from workflows.pictures.case_scene import load_scene

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
    pictures = _draw(drawings, out, f"{OF_CASES}/{folder_name(case.id)}", f"drawing {case.id}")
    return Section(case.id, case_lines(found, convention), pictures)


def dataset_section(survey: DatasetSurvey, out: Path, view: View) -> Section:
    from workflows.explore.brain_figures import boxes_figure, centres_figure, intensities_figure
    from workflows.explore.dataset_figures import labels_figure, slices_figure, volumes_figure, windows_figure

    windows = (view.slice_range, STUDY_WINDOW)
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
    pictures = _draw(drawings, out, OF_DATASET, "drawing the data set", view.caption)
    _write_numbers(tables[-1], out / NUMBERS)
    return Section("Data set", dataset_lines(survey), pictures, tables, [(NUMBERS, "the numbers of every case as CSV")])


def _draw(
    drawings: Sequence[tuple[str, str, Callable[[], Figure]]], out: Path, folder: str, doing: str, caption: str = ""
) -> list[Picture]:
    from workflows.pictures.drawing import DPI, save

    if not (out / PAGE).exists():
        write_page(Page(""), out / PAGE)  # by it a drawing that was stopped knows its pictures again
    pictures = []
    for name, words, draw in track(drawings, doing, len(drawings)):
        figure = draw()
        if caption:
            figure.text(0.995, 0.01, caption, ha="right", color="0.5", fontsize=9)
        save(figure, out / folder / f"{name}.png")
        size_px = tuple(int(length) for length in figure.get_size_inches() * DPI)
        pictures.append(Picture(f"{folder}/{name}.png", words, size_px))
    return pictures


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
