"""The numbers behind the pictures of a data set. Every file is read once; of each case some ten kilobytes are kept."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from transforms.boxes import bounding_box, corners
from transforms.geometry import voxel_ml
from transforms.labels import BACKGROUND, CLASS_NAMES
from transforms.windows import in_own_slices
from workflows.data.case import Case, check_case_id
from workflows.data.case_images import load_label_map, read_modalities
from workflows.data.convention_of_cases import label_convention_of
from workflows.data.label_conventions import LabelConvention, summarise_labels
from workflows.image_files.brain import brain_mask
from workflows.image_files.nifti_files import format_shape, read_voxels
from workflows.image_files.oriented import oriented, turned_like
from workflows.machine.processes import in_processes
from workflows.messages.errors import DatasetError

QUANTILES = np.linspace(0, 1, 1001)
Z_SCORE_EDGES = np.linspace(-4, 6, 101)
PROJECTION_PX = 96


@dataclass
class CaseSurvey:
    """What is kept of one case. Axes grow to the left, posterior and superior, unless they are those of the file.

    Args:
        problem: why the case could not be read, else empty; nothing below is filled in then.
        shape, spacing_mm: along the axes of the file.
        orientation: of the axes of the file, e.g. "LPS".
        label_voxels: number of voxels by label value, background included; empty without segmentation.
        slice_mm: distance of the axial slices.
        slice_voxels: voxels of each axial slice from the bottom, by label value without the background's.
        quantiles: the intensities of the brain at `QUANTILES`, by modality.
        z_scores: number of brain voxels in the bins of `Z_SCORE_EDGES`, by modality and label value; 0 is brain outside
            the tumour, or all brain without segmentation.
        brain_box_mm: (3, 2), first and last edge of the brain of all modalities; None without brain.
        brain_seen_from: three images (`PROJECTION_PX`, `PROJECTION_PX`) of the brain along each axis within its box.
        tumour_centre: (3,) centre of mass of the tumour, from 0 at one side of the brain's box to 1 at the other;
            None without tumour.
    """

    id: str
    problem: str = ""
    shape: tuple[int, ...] = ()
    spacing_mm: tuple[float, ...] = ()
    orientation: str = ""
    labelled: bool = False
    label_voxels: dict[float, int] = field(default_factory=dict)
    slice_mm: float = 1.0
    slice_voxels: dict[int, NDArray[Any]] = field(default_factory=dict)
    quantiles: dict[str, NDArray[Any]] = field(default_factory=dict)
    z_scores: dict[str, dict[int, NDArray[Any]]] = field(default_factory=dict)
    size_mm: tuple[float, ...] = ()
    brain_box_mm: NDArray[Any] | None = None
    brain_seen_from: tuple[NDArray[Any], ...] = ()
    tumour_centre: NDArray[Any] | None = None

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel."""
        return voxel_ml(self.spacing_mm)

    @property
    def tumour_slice_voxels(self) -> NDArray[Any]:
        """Tumour voxels of each axial slice from the bottom, whatever their class; of a labelled case."""
        return np.asarray(np.sum(list(self.slice_voxels.values()), axis=0))

    def share_kept(self, slice_range: Sequence[int]) -> float | None:
        """Share 0 to 1 of the tumour within a window of 1 mm slices; None without tumour."""
        kept, total = self.kept_voxels(slice_range, self.slice_voxels)
        return kept / total if total else None

    def kept_voxels(self, slice_range: Sequence[int], values: Iterable[int]) -> tuple[int, int]:
        """Voxels of these label values in a window of 1 mm slices, and in all slices."""
        first, end = in_own_slices(slice_range, self.slice_mm)
        voxels = np.atleast_1d(np.sum([self.slice_voxels[value] for value in values], axis=0))
        return int(voxels[max(first, 0) : max(end, 0)].sum()), int(voxels.sum())

    def class_ml(self, classes: Mapping[int, int]) -> dict[int, float]:
        """Volume of each tumour class by class index."""
        found = dict.fromkeys(range(1, len(CLASS_NAMES)), 0.0)
        for value, count in self.label_voxels.items():
            index = classes.get(int(value), BACKGROUND)
            if index != BACKGROUND:
                found[index] += count * self.voxel_ml
        return found


@dataclass(frozen=True)
class DatasetSurvey:
    """The numbers of all cases: of those that could be read, and of the others, which have a `problem`."""

    cases: tuple[CaseSurvey, ...]
    unreadable: tuple[CaseSurvey, ...]
    convention: LabelConvention

    @property
    def labelled(self) -> tuple[CaseSurvey, ...]:
        """The cases with a segmentation."""
        return tuple(case for case in self.cases if case.labelled)

    @property
    def modalities(self) -> tuple[str, ...]:
        """All that some case has, in the order in which they were asked for."""
        return tuple(dict.fromkeys(modality for case in self.cases for modality in case.quantiles))

    def label_values(self) -> dict[float, list[str]]:
        """The cases that hold each value; the list is empty for a value of the convention that no case holds."""
        values = {float(v) for v in self.convention.classes} | {float(v) for c in self.labelled for v in c.label_voxels}
        return {value: [case.id for case in self.labelled if case.label_voxels.get(value)] for value in sorted(values)}

    def shares_kept(self, slice_range: Sequence[int]) -> list[float]:
        """Share 0 to 1 of each tumour within a window of 1 mm slices, without cases that have no tumour."""
        shares = (case.share_kept(slice_range) for case in self.labelled)
        return [share for share in shares if share is not None]

    def empty_classes(self) -> dict[int, list[str]]:
        """The labelled cases without a voxel of a tumour class, by class index."""
        return {
            index: [case.id for case in self.labelled if not case.class_ml(self.convention.classes)[index]]
            for index in range(1, len(CLASS_NAMES))
        }

    def area_per_mm(self) -> NDArray[Any]:
        """(classes - 1, height in mm) mean area in cm² of each tumour class per labelled case, from the bottom."""
        height = max((round(len(c.tumour_slice_voxels) * c.slice_mm) for c in self.labelled), default=0)
        area = np.zeros((len(CLASS_NAMES) - 1, height))
        for case in self.labelled:
            for value, voxels in case.slice_voxels.items():
                index = self.convention.classes.get(value, BACKGROUND)
                if index != BACKGROUND:
                    own = ((np.arange(height) + 0.5) / case.slice_mm).astype(int)
                    inside = own < len(voxels)
                    cm2 = case.voxel_ml / case.slice_mm * 10
                    area[index - 1, inside] += voxels[own[inside]] * cm2
        return area / max(len(self.labelled), 1)


def survey_dataset(cases: Sequence[Case], modalities: Sequence[str], workers: int | None = None) -> DatasetSurvey:
    """Read the modalities that each case has; a broken case is named and never stops the others.

    Raises:
        DatasetError: if none can be read, or the cases mix two label conventions.
    """
    surveyed = in_processes(functools.partial(survey_case, modalities=modalities), cases, "reading", workers)
    readable = tuple(case for case in surveyed if not case.problem)
    if not readable:
        raise DatasetError(f"None of {len(cases)} cases can be read; the first: {surveyed[0].problem}")
    values = {case: tuple(survey.label_voxels) for case, survey in zip(cases, surveyed, strict=True)}
    unreadable = tuple(case for case in surveyed if case.problem)
    return DatasetSurvey(readable, unreadable, label_convention_of(values))


def survey_case(case: Case, modalities: Sequence[str]) -> CaseSurvey:
    """Read one case; raises nothing."""
    try:
        return _survey(case, [modality for modality in modalities if modality in case.modalities])
    except DatasetError as error:
        return CaseSurvey(case.id, problem=str(error))
    except Exception as error:  # noqa: BLE001  # whatever one broken file provokes in a library, the other cases are read
        return CaseSurvey(case.id, problem=f"{case.id}: cannot be read ({type(error).__name__}: {error}).")


def _survey(case: Case, modalities: Sequence[str]) -> CaseSurvey:
    check_case_id(case.id)
    survey = CaseSurvey(case.id, labelled=case.segmentation is not None)
    first = load_label_map(case) if case.segmentation else None
    labels = _survey_labels(case, first, survey) if first else None
    head: NDArray[np.bool_] | None = None
    for modality, read in read_modalities(case, modalities):
        image = turned_like(read, first) if first else read
        first = first or image
        _note_geometry(survey, image, modality)
        volume = oriented(image)
        voxels = volume.voxels
        if not np.isfinite(voxels).all():
            raise DatasetError(f"{case.id}: {modality} holds voxels that are not finite.")
        brain = brain_mask(voxels)
        _survey_intensities(survey, modality, voxels[brain], None if labels is None else labels[brain])
        head = brain if head is None else head | brain
    if head is None and labels is None:
        raise DatasetError(f"{case.id}: has none of the modalities asked for; it has {', '.join(case.modalities)}.")
    if head is not None and head.any():
        _survey_brain(survey, head, labels, volume.spacing_mm)
    return survey


def _note_geometry(survey: CaseSurvey, image: nib.Nifti1Image, what: str) -> None:
    shape = tuple(int(length) for length in image.shape)
    if survey.shape and survey.shape != shape:
        raise DatasetError(
            f"{survey.id}: {what} has {format_shape(shape)} voxels, others {format_shape(survey.shape)}."
        )
    survey.shape = shape
    survey.spacing_mm = tuple(float(size) for size in nib.affines.voxel_sizes(image.affine))
    survey.orientation = "".join(str(code) for code in nib.orientations.aff2axcodes(image.affine))


def _survey_labels(case: Case, image: nib.Nifti1Image, survey: CaseSurvey) -> NDArray[Any]:
    assert case.segmentation is not None
    if image.ndim != 3:
        raise DatasetError(f"{case.segmentation}: has {image.ndim} axes; one volume per file is expected.")
    _note_geometry(survey, image, "the label map")
    survey.label_voxels = dict(summarise_labels(read_voxels(image), case.segmentation).voxels)
    volume = oriented(image)
    labels = np.rint(volume.voxels).astype(np.int16)
    survey.slice_mm = volume.spacing_mm[2]
    present = [int(value) for value in survey.label_voxels if value]
    survey.slice_voxels = {value: np.count_nonzero(labels == value, axis=(0, 1)) for value in present}
    if not present:
        survey.slice_voxels = {1: np.zeros(labels.shape[2], np.int64)}
    return np.asarray(labels)


def _survey_intensities(survey: CaseSurvey, modality: str, brain: NDArray[Any], labels: NDArray[Any] | None) -> None:
    if not brain.size:
        return
    ordered = np.sort(brain.astype(np.float32))
    survey.quantiles[modality] = ordered[np.round(QUANTILES * (ordered.size - 1)).astype(int)]
    scores = (brain - ordered.mean(dtype=np.float64)) / max(ordered.std(dtype=np.float64), 1e-9)
    values = [0] if labels is None else [0, *(int(value) for value in survey.label_voxels if value)]
    survey.z_scores[modality] = {
        value: np.histogram(scores if labels is None else scores[labels == value], Z_SCORE_EDGES)[0] for value in values
    }


def _survey_brain(
    survey: CaseSurvey, brain: NDArray[np.bool_], labels: NDArray[Any] | None, spacing_mm: Sequence[float]
) -> None:
    """The box of the brain, its outline from three sides, and where in it the tumour lies."""
    spacing, box = np.array(spacing_mm), bounding_box(brain)
    low, end = corners(box)
    survey.size_mm = tuple(float(size) for size in np.array(brain.shape) * spacing)
    survey.brain_box_mm = np.stack([low * spacing, end * spacing], axis=1)
    survey.brain_seen_from = tuple(_resampled(np.asarray(brain[box].any(axis=axis))) for axis in range(3))
    if labels is not None and (found := np.argwhere(labels)).size:
        survey.tumour_centre = (found.mean(axis=0) + 0.5 - low) / (end - low)


def _resampled(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    rows, columns = ((np.arange(PROJECTION_PX) + 0.5) / PROJECTION_PX * length for length in mask.shape)
    return mask[np.ix_(rows.astype(int), columns.astype(int))]
