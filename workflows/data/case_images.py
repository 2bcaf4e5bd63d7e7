"""The images and the label map of a case, read from their files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import nibabel as nib

from workflows.data.case import Case
from workflows.image_files.nifti_files import check_geometry, load_image
from workflows.image_files.segments import Segmentation, on_grid


def load_label_map(case: Case) -> nib.Nifti1Image:
    """The case's segmentation; one of 3D Slicer, which may be cut to what is labelled, on the grid of the images.

    Raises:
        DatasetError: if it is missing, no label map or does not lie on that grid.
    """
    assert case.segmentation is not None
    label_map = load_image(case.segmentation)
    if not isinstance(label_map, Segmentation) or not case.modalities:
        return label_map
    image = load_image(case.source(case.modalities[0]))
    check_geometry(image, case.source(case.modalities[0]))
    return on_grid(label_map, image.shape, image.affine, case.segmentation)


def read_modalities(case: Case, modalities: Sequence[str]) -> Iterator[tuple[str, nib.Nifti1Image]]:
    """One image after the other; a 4D file that holds several is read once.

    Raises:
        DatasetError: if one is missing or cannot be read.
    """
    if case.four_d and set(modalities) <= set(case.channels):
        image = load_image(case.four_d)
        if image.ndim == 4 and image.shape[3] >= len(case.channels):
            for modality in modalities:
                yield modality, image.slicer[..., case.channels.index(modality)]
            return
    for modality in modalities:
        yield modality, load_image(case.source(modality))
