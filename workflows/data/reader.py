"""MONAI's image reader for the files that `workflows.data.find_cases` finds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import nibabel as nib
import numpy as np
from monai.config import PathLike
from monai.data import NibabelReader
from monai.utils import ensure_tuple
from numpy.typing import NDArray

from transforms.checks import CUT, FILES
from transforms.geometry import same_place
from workflows.image_files.nifti_files import check_geometry, format_shape, load_image, read_volume
from workflows.image_files.oriented import turned_like
from workflows.image_files.segments import Segmentation
from workflows.messages.errors import DatasetError


class CaseReader(NibabelReader):
    """Reads any file name in use, one channel of a 4D file (`file#channel`), and one file per channel.

    It reads in `get_data`, since `LoadImage` replaces what `read` raises by a message about missing readers, and it
    keeps nothing in between, since one reader serves all threads that fill a cache.
    """

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:  # noqa: ARG002  # MONAI passes it
        """Any name is accepted: `load_image` judges by the content."""
        return True

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> Any:  # noqa: ARG002  # MONAI passes them
        """The names alone, for `get_data`."""
        return [str(name) for name in ensure_tuple(data)]

    def get_data(self, img: Any) -> tuple[NDArray[Any], dict[str, Any]]:
        """Voxels, one channel per file, and metadata.

        Raises:
            DatasetError: naming the file that is no volume, or that lies on another grid than the first.
        """
        images = [load_image(name) for name in img]
        for number, (name, image) in enumerate(zip(img, images, strict=True)):
            check_geometry(image, name)
            images[number] = turned_like(image, images[0])
            _check_grid(name, images[number], img[0], images[0])
        reader = _CheckedVoxels()
        reader.filenames = img
        voxels, meta = reader.get_data(images)
        return voxels, {**meta, FILES: "\n".join(img), CUT: isinstance(images[0], Segmentation)}


class _CheckedVoxels(NibabelReader):
    """MONAI's conversion of nibabel images, with the checks of `read_volume`."""

    def _get_array_data(self, img: Any, filename: str) -> NDArray[Any]:
        return np.asarray(read_volume(img, filename), order="C")


def _check_grid(name: str, image: nib.Nifti1Image, first_name: str, first: nib.Nifti1Image) -> None:
    if image.shape != first.shape:
        shapes = f"{format_shape(image.shape)} voxels, {first_name} {format_shape(first.shape)}"
        raise DatasetError(f"{name}: has {shapes}; register the images first.")
    if not same_place(image.affine, first.affine):
        raise DatasetError(f"{name}: has another affine than {first_name}; register the images first.")
