"""What a report is made of, read and checked: images, label maps, probabilities and the prediction's record."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transforms.geometry import voxel_ml
from transforms.labels import BACKGROUND, CLASS_NAMES, ENHANCING_IN_FILES_TO_2022, MODALITY_TITLES, NUM_CLASSES
from workflows.data.case import Case
from workflows.data.convention_of_cases import label_convention_of
from workflows.data.label_conventions import (
    BRATS_FROM_2023,
    BRATS_TO_2022,
    MAX_LABEL_VALUES,
    LabelSummary,
    summarise_labels,
)
from workflows.files.prediction_names import PROBABILITIES, UNCERTAINTY, map_name, record_name
from workflows.image_files.brain import brain_mask
from workflows.image_files.nifti_files import describes_a_volume, format_shape, load_image, read_voxels, says_no_place
from workflows.image_files.oriented import as_classes
from workflows.image_files.segments import on_grid
from workflows.messages.errors import DatasetError
from workflows.report.volumes import Grid, pack_image
from workflows.report.warnings import Notice, uncertain_voxels
from workflows.scoring.surface_distances import Mask

_SEGMENTATION_NAME = re.compile(r"(?P<case>.+)[_-]seg\.nii(?:\.gz)*", re.IGNORECASE)


@dataclass
class Scan:
    """The images of one case on their common grid.

    Attributes:
        images: as `pack_image` gives them, by modality.
        brain: (x, y, z) where any modality shows brain.
        under: (x, y, z) the first modality, to draw thumbnails on.
        warnings: which modalities were left out, and why.
    """

    grid: Grid
    images: dict[str, dict[str, Any]]
    brain: Mask
    under: NDArray[Any]
    warnings: list[Notice] = field(default_factory=list)


def read_scan(case: Case, modalities: Sequence[str]) -> Scan:
    """Read the modalities that can be read and lie on the grid of the first; `DatasetError` if there is none."""
    scan: Scan | None = None
    warnings: list[Notice] = []
    for modality in modalities:
        try:
            image = load_image(case.source(modality))
            if image.ndim != 3:
                raise DatasetError(f"{case.source(modality)}: is no single volume.")
            if not describes_a_volume(image.affine):
                raise DatasetError(f"{case.source(modality)}: its affine does not describe a volume.")
        except DatasetError as error:
            warnings.append(Notice("problem", f"{MODALITY_TITLES[modality]} is not shown: {error}"))
            continue
        grid = Grid.of(image)
        if scan is None:
            packed, voxels = pack_image(image, grid)
            scan = Scan(grid, {modality: packed}, brain_mask(voxels), voxels, warnings)
        elif grid.agrees(scan.grid):
            scan.images[modality], voxels = pack_image(image, scan.grid)
            scan.brain |= brain_mask(voxels)
        else:
            why = "it lies on another grid than the others."
            warnings.append(Notice("problem", f"{MODALITY_TITLES[modality]} is not shown: {why}"))
    if scan is None:
        reasons = " ".join(warning.text for warning in warnings)
        raise DatasetError(f"{case.id}: no image that can be shown in {case.folder}. {reasons}")
    return scan


def read_label_map(
    file: Path,
    case: Case,
    grid: Grid,
    classes: Mapping[int, int] | None,
    notices: list[Notice],
    ignore_affine: bool = False,
) -> NDArray[np.uint8]:
    """A label map as class indices (x, y, z) on the grid of the case's images.

    Args:
        classes: class index by value in the file; None decides it by the case's names and the values.
        notices: receives what the reader must know of the labels.
        ignore_affine: its voxels are in the order of those of the images' files, whatever its affine says.
    Raises:
        DatasetError: if it lies on another grid, or holds values that are no labels.
    """
    image = on_grid(load_image(file), grid.shape, grid.affine, file)
    mute = says_no_place(image)
    if ignore_affine:
        image = grid.of_file(image)
    if image.ndim != 3 or not Grid.of(image).agrees(grid):
        way_out = "a report needs the label map that belongs to these images"
        if mute:
            way_out = "its header says no place; if its voxels are in their order, say so by --ignore-affine"
        size = f"({format_shape(image.shape)} voxels)"
        raise DatasetError(f"{file}: lies on another grid than the images of {case.id} {size}; {way_out}.")
    voxels = read_voxels(image)
    summary = summarise_labels(voxels, file)
    meant = dict(classes) if classes else dict(_classes_by_names(case, summary, grid, notices))
    if strange := sorted(set(summary.voxels) - {0, *meant}):
        expected = ", ".join(map(str, sorted({0, *meant})))
        raise DatasetError(f"{file}: holds the value {strange[0]:g}, which is no label; expected are {expected}.")
    # It may be stored along other axes than its images.
    return np.ascontiguousarray(Grid.of(image).turned(as_classes(voxels, meant)))


def _classes_by_names(case: Case, summary: LabelSummary, grid: Grid, notices: list[Notice]) -> Mapping[int, int]:
    try:
        convention = label_convention_of({case: tuple(summary.voxels)})
    except DatasetError as error:
        convention = BRATS_TO_2022 if ENHANCING_IN_FILES_TO_2022 in summary.voxels else BRATS_FROM_2023
        notices.append(Notice("caution", f"The labels are read as {convention}, which is only likely: {error}"))
    for value, voxels in summary.voxels.items():
        if value and convention.class_of(value) == BACKGROUND:
            volume = f"{voxels * voxel_ml(grid.spacing_mm):.1f} ml of {convention.class_name(int(value))}"
            notices.append(Notice("note", f"The label map holds {volume}, which is not drawn: it counts as no tumour."))
    return convention.classes


def read_uncertainty(prediction: Path, grid: Grid, record: Mapping[str, Any]) -> NDArray[np.uint8] | None:
    """The entropy saved beside a label map, 0 to 1 as 0 to 255, (x, y, z); None where the record says there is none.

    Raises:
        DatasetError: if it belongs to another scan, or does not hold an entropy.
    """
    file = _beside(prediction, functools.partial(map_name, kind=UNCERTAINTY))
    if file is None or record.get("uncertainty_map", file.name) is None:
        return None
    image = load_image(file)
    own = Grid.of(image)
    if image.ndim != 3 or not own.agrees(grid):
        raise DatasetError(f"{file}: does not lie on the grid of the images; remove it, or predict again.")
    voxels = np.asarray(read_voxels(image), np.float32)
    if not (np.isfinite(voxels).all() and voxels.min() >= 0 and voxels.max() <= 1):
        raise DatasetError(f"{file}: holds values outside 0 to 1, which are no uncertainty; remove it.")
    return np.ascontiguousarray(own.turned(np.rint(voxels * 255).astype(np.uint8)))


def _beside(prediction: Path, name_of: Callable[[str], str]) -> Path | None:
    """What was written beside `P1_seg.nii.gz`, named after its case P1; None if there is no such file."""
    match = _SEGMENTATION_NAME.fullmatch(prediction.name)
    file = prediction.with_name(name_of(match["case"])) if match else None
    return file if file and file.is_file() else None


def read_record(prediction: Path) -> dict[str, Any]:
    """What the prediction recorded beside its label map; empty where there is nothing, or nothing sensible."""
    file = _beside(prediction, record_name)
    try:
        record = json.loads(file.read_text(encoding="utf-8")) if file else {}
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def classes_of(record: Mapping[str, Any]) -> dict[int, int] | None:
    """Class index by value in the file, from a record's {"1": "necrotic core", …}; None where it does not say."""
    try:
        classes = {int(value): CLASS_NAMES.index(name) for value, name in record["labels"].items()}
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
    return classes if all(0 < value < MAX_LABEL_VALUES for value in classes) else None


def slice_range_of(record: Mapping[str, Any]) -> tuple[int, int] | None:
    """The slices that the network was trained on, from a record; None where it does not say, or for all with brain."""
    settings = record.get("settings")
    settings = settings.get("input", settings) if isinstance(settings, dict) else None  # older records have no input
    if not isinstance(settings, dict) or settings.get("whole_brain") is True or settings.get("cube_mm") is not None:
        return None
    stated = settings.get("slice_range")
    if isinstance(stated, list) and len(stated) == 2 and all(type(edge) is int for edge in stated):
        return stated[0], stated[1]
    return None


def read_uncertain(prediction: Path, grid: Grid) -> Mask | None:
    """Uncertain voxels (x, y, z), from the probabilities saved beside a label map; None where there are none.

    Raises:
        DatasetError: if they belong to another scan.
    """
    file = _beside(prediction, functools.partial(map_name, kind=PROBABILITIES))
    if file is None:
        return None
    image = load_image(file)
    own = Grid.of(image)
    if image.ndim != 4 or image.shape[3] != NUM_CLASSES or not own.agrees(grid):
        raise DatasetError(f"{file}: does not hold {NUM_CLASSES} class probabilities on the grid of the images.")
    return np.ascontiguousarray(own.turned(uncertain_voxels(read_voxels(image))))
