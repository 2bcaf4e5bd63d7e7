"""One case as its pictures need it: oriented volumes, class indices, the slice to look at."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transforms.boxes import Box, bounding_box, widened
from transforms.windows import in_own_slices
from workflows.data.case import Case
from workflows.data.case_images import load_label_map, read_modalities
from workflows.data.label_conventions import LabelConvention
from workflows.image_files.brain import brain_mask, grey_limits
from workflows.image_files.nifti_files import format_shape
from workflows.image_files.oriented import OrientedVolume, Plane, as_classes, oriented, pixel_aspect, upright
from workflows.messages.errors import DatasetError

MARGIN_MM = 6
"""Kept around the brain in every picture."""


@dataclass(frozen=True)
class CaseScene:
    """What is drawn of one case; all axes grow to the patient's left, posterior and superior.

    Args:
        scans: voxels by modality, their background set to the lowest intensity of the brain that is shown.
        grey: the intensities shown as black and white, by modality.
        labels: class indices; None without segmentation.
        box: the brain with a margin.
        slices: where each plane is cut.
        slice_range: the window in use, in slices of 1 mm from the bottom.
        caption: words for the titles.
    """

    case: Case
    convention: LabelConvention
    scans: Mapping[str, NDArray[Any]]
    grey: Mapping[str, tuple[float, float]]
    labels: NDArray[np.uint8] | None
    spacing_mm: tuple[float, float, float]
    box: Box
    plane: Plane
    slices: Mapping[Plane, int]
    slice_range: tuple[int, int]
    caption: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels along left, posterior and superior."""
        return next(iter(self.scans.values())).shape

    @property
    def values(self) -> dict[int, int]:
        """Label value in the files by class index."""
        return self.convention.values

    @property
    def own_window(self) -> tuple[int, int]:
        """The window in the volume's own axial slices, within the volume."""
        first, end = in_own_slices(self.slice_range, self.spacing_mm[2])
        return max(0, min(first, self.shape[2])), max(0, min(end, self.shape[2]))

    def aspect(self, plane: Plane) -> float:
        """Height over width of a pixel."""
        return pixel_aspect(self.spacing_mm, plane)

    def cut(self, volume: NDArray[Any], plane: Plane | None = None) -> NDArray[Any]:
        """The slice to look at, right way up, within the brain's box."""
        plane = plane or self.plane
        return upright(volume[self.within(plane)], plane, self.slices[plane])

    def within(self, plane: Plane) -> Box:
        """The brain's box through all slices of a plane."""
        return tuple(slice(None) if axis == plane.axis else part for axis, part in enumerate(self.box))

    def extent_mm(self, plane: Plane) -> tuple[float, float]:
        """Width and height of `cut`."""
        lengths = [(part.stop - part.start) * size for part, size in zip(self.box, self.spacing_mm, strict=True)]
        across, along = plane.sides
        return lengths[across], lengths[along]

    def title(self, what: str = "") -> str:
        """The case, the plane, the slice."""
        place = f"{self.plane} slice {self.slices[self.plane]} (of 0–{self.shape[self.plane.axis] - 1})"
        return f"{self.case.id}, {what or place}" + (f" ({self.caption})" if self.caption else "")


def load_scene(
    case: Case,
    modalities: Sequence[str],
    convention: LabelConvention,
    plane: Plane,
    index: int | None,
    slice_range: tuple[int, int],
    caption: str = "",
) -> CaseScene:
    """Read a case to be drawn, without the modalities that it lacks.

    Args:
        index: the slice of `plane`, see `oriented.upright`; that with most tumour, or the brain's middle, if None.
    Raises:
        DatasetError: if a file cannot be read, the grids differ, or there is no such slice.
    """
    present = [modality for modality in modalities if modality in case.modalities]
    if not present:
        raise DatasetError(f"{case.id}: has none of {', '.join(modalities)}; it has {', '.join(case.modalities)}.")
    volumes = {modality: oriented(image) for modality, image in read_modalities(case, present)}
    labels = _labels(case, convention)
    first = volumes[present[0]]
    for name, other in {**volumes, **({"the label map": labels} if labels else {})}.items():
        if other.voxels.shape != first.voxels.shape:
            raise DatasetError(
                f"{case.id}: {name} has {format_shape(other.voxels.shape)} voxels, {present[0]} "
                f"{format_shape(first.voxels.shape)}; register the images first."
            )
    scans, grey, head = _scans(volumes)
    box = brain_box(head, [math.ceil(MARGIN_MM / size) for size in first.spacing_mm])
    tumour = labels.voxels if labels else None
    slices = _slices(case, plane, index, tumour, box, first.voxels.shape)
    return CaseScene(case, convention, scans, grey, tumour, first.spacing_mm, box, plane, slices, slice_range, caption)


def _labels(case: Case, convention: LabelConvention) -> OrientedVolume | None:
    if case.segmentation is None:
        return None
    volume = oriented(load_label_map(case))
    return OrientedVolume(as_classes(volume.voxels, convention.classes), volume.spacing_mm)


def _scans(
    volumes: Mapping[str, OrientedVolume],
) -> tuple[dict[str, NDArray[Any]], dict[str, tuple[float, float]], NDArray[Any]]:
    """Voxels with a dark background, the limits of grey, and where there is brain in any modality."""
    scans, grey, heads = {}, {}, []
    for modality, volume in volumes.items():
        brain = brain_mask(volume.voxels)
        grey[modality] = grey_limits(volume.voxels[brain])
        scans[modality] = np.where(brain, volume.voxels, grey[modality][0])  # a z-scored copy has it above its brain
        heads.append(brain)
    return scans, grey, np.logical_or.reduce(heads)


def brain_box(brain: NDArray[np.bool_], margin: int | Sequence[int]) -> Box:
    """The box around the brain in (H, W, D), wider by a margin in voxels; all of the volume where there is no brain."""
    if not brain.any():
        return tuple(slice(0, length) for length in brain.shape)
    return widened(bounding_box(brain), margin, brain.shape)


def _slices(
    case: Case, plane: Plane, index: int | None, labels: NDArray[Any] | None, box: Box, shape: Sequence[int]
) -> dict[Plane, int]:
    """The slice of every plane: as asked for, else with most tumour, else through the middle of the brain."""
    last = shape[plane.axis] - 1
    if index is not None and not 0 <= index <= last:
        raise DatasetError(f"{case.id}: there is no {plane} slice {index}; choose one of 0 to {last}.")
    tumour = labels > 0 if labels is not None and labels.any() else None
    slices = {plane: _fullest(tumour, plane, box) if index is None else index}
    here = tumour.take([slices[plane]], plane.axis) if tumour is not None else None
    nearest = here if here is not None and here.any() else tumour
    return slices | {other: _fullest(nearest, other, box) for other in Plane if other is not plane}


def _fullest(tumour: NDArray[Any] | None, plane: Plane, box: Box) -> int:
    if tumour is None:
        return int((box[plane.axis].start + box[plane.axis].stop) // 2)
    return int(tumour.sum(axis=plane.sides).argmax())
