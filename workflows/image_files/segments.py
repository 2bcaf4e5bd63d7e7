"""Segmentations of 3D Slicer (.seg.nrrd): segments with names, in one layer or several, cut to what is labelled.

The format: https://slicer.readthedocs.io/en/latest/developer_guide/modules/segmentations.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from transforms.geometry import placed
from transforms.labels import BACKGROUND, ENHANCING, NECROTIC_CORE, OEDEMA
from workflows.image_files.class_names import Meaning, meaning_of
from workflows.image_files.file_content import refuse_shape
from workflows.messages.errors import DatasetError

KNOWN = "necrosis, edema, enhancing tumor, resection cavity, or the regions TC and WT"


class Segmentation(nib.Nifti1Image):
    """A label map that may be cut to what is labelled, see `on_grid` and `on_common_grid`."""


class Segment(NamedTuple):
    """One segment: the voxels of `value` in a layer, which files of Slicer before 4.11 do not number."""

    name: str
    value: int
    layer: int | None


def segments_in(fields: Mapping[str, str], file: Path) -> list[Segment]:
    """The segments that an NRRD header lists; none for an image.

    Args:
        fields: by name in lower case.
    """
    numbers = {int(match[1]) for name in fields if (match := re.match(r"segment(\d{1,9})_", name))}
    segments = []
    for number in sorted(numbers):
        name, value, layer = (fields.get(f"segment{number}_{key}") for key in ("name", "labelvalue", "layer"))
        if not all(text is None or (text.isascii() and text.isdigit()) for text in (value, layer)):
            raise DatasetError(f"{file}: segment {number} has the value {value} in layer {layer}; save it again.")
        segments.append(Segment(name or f"Segment_{number}", int(value or 1), None if layer is None else int(layer)))
    return segments


def label_map_of(layers: NDArray[Any], segments: Sequence[Segment], file: Path) -> NDArray[np.uint8]:
    """One label map from the layers of a segmentation.

    Segments that are named after classes get the class's index, a cavity 4, whatever their values; others keep theirs.

    Args:
        layers: (x, y, z, layers).
    Raises:
        DatasetError: if a voxel would get two labels, or only some names are known.
    """
    whose = [number % layers.shape[3] if s.layer is None else s.layer for number, s in enumerate(segments)]
    _refuse_strangers(layers, segments, whose, file)
    label_map, taken = np.zeros(layers.shape[:3], np.uint8), np.zeros(layers.shape[:3], bool)
    painted = sorted(zip(_labels(segments, file), segments, whose, strict=True), key=lambda row: _order(row[0]))
    for (label, region), segment, layer in painted:
        mask = layers[..., layer] == segment.value
        if (mask & taken).any():
            raise DatasetError(
                f"{file}: the segment {segment.name} overlaps another one; make them exclude each other."
            )
        label_map[mask] = label
        if not region:
            taken |= mask
    return label_map


def _order(meaning: Meaning) -> tuple[bool, bool]:
    """Regions first, the whole tumour before its core."""
    label, region = meaning
    return not region, label != OEDEMA


def _labels(segments: Sequence[Segment], file: Path) -> list[Meaning]:
    """The label of each segment, and whether it is a region."""
    found = [meaning_of(segment.name) for segment in segments]
    known = [meaning for meaning in found if meaning]
    if len(known) == len(segments):
        if any(region for _, region in known) and not {NECROTIC_CORE, ENHANCING} <= {label for label, _ in known}:
            raise DatasetError(f"{file}: names a region and not all that lies in it; add the missing segments.")
        return known
    strange = ", ".join(segment.name for segment, meaning in zip(segments, found, strict=True) if not meaning)
    if known:
        raise DatasetError(f"{file}: the segments {strange} are no known classes; call each of them {KNOWN}.")
    if len({segment.value for segment in segments}) < len(segments) or max(s.value for s in segments) > 255:
        raise DatasetError(f"{file}: nothing tells the segments {strange} apart; call each of them {KNOWN}.")
    return [Meaning(segment.value) for segment in segments]


def _refuse_strangers(layers: NDArray[Any], segments: Sequence[Segment], whose: Sequence[int], file: Path) -> None:
    if not set(whose) <= set(range(layers.shape[3])):
        raise DatasetError(f"{file}: has {layers.shape[3]} layers, and a segment in another one; save it again.")
    for layer in range(layers.shape[3]):
        own = {BACKGROUND, *(s.value for s, place in zip(segments, whose, strict=True) if place == layer)}
        if strange := set(np.unique(layers[..., layer]).tolist()) - own:
            raise DatasetError(f"{file}: holds the value {min(strange):g}, which no segment has; save it again.")


def on_grid(label_map: nib.Nifti1Image, shape: Sequence[int], affine: NDArray[Any], file: Path) -> nib.Nifti1Image:
    """A `Segmentation` where it lies on a grid; another image as it is.

    Raises:
        DatasetError: if it does not lie on this grid.
    """
    if not isinstance(label_map, Segmentation):
        return label_map
    try:
        voxels = placed(np.asarray(label_map.dataobj), label_map.affine, shape, affine)
    except ValueError as error:
        raise DatasetError(f"{file}: {error}.") from error
    return nib.Nifti1Image(voxels, affine)


def on_common_grid(images: Mapping[str, nib.Nifti1Image], files: Mapping[str, Path]) -> dict[str, nib.Nifti1Image]:
    """Label maps of one case, each `Segmentation` on the grid of another map, or if there is none, on one for all."""
    cut = [image for image in images.values() if isinstance(image, Segmentation)]
    whole = [image for image in images.values() if not isinstance(image, Segmentation)]
    if not cut:
        return dict(images)
    first = next(iter(files.values()))
    shape, affine = (whole[0].shape, whole[0].affine) if whole else _around(cut, first)
    return {side: on_grid(image, shape, affine, files[side]) for side, image in images.items()}


def _around(images: Sequence[Segmentation], file: Path) -> tuple[tuple[int, ...], NDArray[np.float64]]:
    """Shape and affine of the smallest grid with the voxels of the first image that holds all that is labelled."""
    labelled = [image for image in images if np.any(image.dataobj)] or images[:1]  # an empty one may lie anywhere
    affine = labelled[0].affine
    ways = [(np.linalg.inv(affine) @ image.affine, np.array(image.shape) - 1) for image in labelled]
    corners = np.concatenate(
        [nib.affines.apply_affine(way, np.array(list(np.ndindex(2, 2, 2))) * last) for way, last in ways]
    )
    low, high = np.rint(corners.min(axis=0)), np.rint(corners.max(axis=0))
    shape = tuple(int(length) for length in high - low + 1)
    refuse_shape(shape, np.dtype(np.uint8), file)
    return shape, affine @ nib.affines.from_matvec(np.eye(3), low)
