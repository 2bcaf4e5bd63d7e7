"""MONAI's image reader for the files that `workflows.dataset` finds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from monai.config import PathLike
from monai.data import NibabelReader
from monai.utils import ensure_tuple

from workflows.errors import DatasetError
from workflows.nifti_files import load_image


class CaseReader(NibabelReader):
    """Reads any file name in use, one channel of a 4D file (`file#channel`), and one file per channel.

    It reads in `get_data`, since `LoadImage` replaces what `read` raises by a message about missing readers, and it
    keeps nothing in between, since one reader serves all threads that fill a cache.
    """

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        return True

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> Any:
        return [str(name) for name in ensure_tuple(data)]

    def get_data(self, img: Any) -> tuple[np.ndarray, dict]:
        images = [load_image(name) for name in img]
        for name, image in zip(img, images, strict=True):
            if image.shape != images[0].shape or not np.allclose(image.affine, images[0].affine, atol=1e-3):
                raise DatasetError(f"{name}: has another shape or affine than {img[0]}; register the images first.")
        reader = NibabelReader()
        reader.filenames = img
        return reader.get_data(images)
