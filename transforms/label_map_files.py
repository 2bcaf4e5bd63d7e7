"""Saves label maps and other maps of a patient on the patient's own grid, each file whole or not at all."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Hashable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from monai.config import DtypeLike, KeysCollection
from monai.data import FolderLayoutBase, NibabelWriter
from monai.transforms import MapTransform, SaveImage

from transforms.files import MAP_ENDING, map_name, nifti_signature, write_whole

GEOMETRY_FIELDS = (
    *("qform_code", "sform_code", "xyzt_units"),
    *("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"),
    *("srow_x", "srow_y", "srow_z"),
)
COMPRESSION_LEVEL = 1
"""What nibabel chooses for NIfTI; higher ones take long and gain little."""


class SourceGeometryWriter(NibabelWriter):
    """MONAI's NIfTI writer with the geometry fields of the source file's header.

    MONAI's own sets both form codes to 1 and writes in place: a killed process would leave half a file.

    Args:
        refusals: receives what the disk refuses; MONAI's `SaveImage` hands on its text only.
    """

    def __init__(self, refusals: list[OSError] | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.refusals = [] if refusals is None else refusals

    def set_metadata(self, meta_dict: Mapping[str, Any] | None, *_: Any, **__: Any) -> None:
        """Take over the affine. MONAI's own fails on volumes that are not axial, even without resampling."""
        self.source = dict(meta_dict or {})
        self.affine = self.source.get("affine")

    def write(self, filename: Any, *_: Any, **__: Any) -> None:
        """Write the image, whole or not at all.

        Raises:
            OSError: what the disk refused.
        """
        image = self.create_backend_obj(self.data_obj, affine=self.affine, dtype=self.output_dtype)
        for field in GEOMETRY_FIELDS:
            if field in self.source:
                image.header[field] = np.asarray(self.source[field])
        if "original_pixdim" in self.source:
            # The first value is the sign that the quaternion needs, the next three are the spacing.
            image.header["pixdim"][:4] = np.asarray(self.source["original_pixdim"])[:4]
        try:
            write_whole(Path(filename), lambda path: path.write_bytes(_packed(image, path)))
        except OSError as refusal:
            self.refusals.append(refusal)
            raise


def _packed(image: nib.Nifti1Image, path: Path) -> bytes:
    """The file's content.

    Not written through nibabel's gzip file: from Python 3.13 on, such a file reports a full disk a second time, with a
    traceback, when it is discarded unclosed.
    """
    image.header["descrip"] = nifti_signature(image.to_bytes())
    content = image.to_bytes()
    return gzip.compress(content, COMPRESSION_LEVEL, mtime=0) if path.suffix == ".gz" else content


WRITERS: dict[str, Callable[..., Any]] = {".nii.gz": SourceGeometryWriter}
"""By file ending, one of which is `transforms.files.MAP_ENDING`. A writer takes `refusals` and MONAI's options."""


class CaseLayout(FolderLayoutBase):
    """`<output_dir>/<case>/<case>_<name>` and `MAP_ENDING`."""

    def __init__(self, output_dir: str, name: str) -> None:
        self.output_dir, self.name = Path(output_dir), name

    def filename(self, subject: Any = "", *_: Any, **__: Any) -> Path:
        """The path for a case."""
        return self.output_dir / str(subject) / map_name(str(subject), self.name)


class SaveCased(MapTransform):
    """Save an image of the patient in data["case"] under that name.

    MONAI's `SaveImaged` would name it after the first modality's file.

    Raises:
        OSError: what the disk refused.
    """

    def __init__(self, keys: KeysCollection, output_dir: str, name: str, dtype: DtypeLike) -> None:
        super().__init__(keys)
        self.refusals: list[OSError] = []
        self.save = SaveImage(
            writer=partial(WRITERS[MAP_ENDING], self.refusals),  # type: ignore[arg-type]  # anything that makes one
            output_dtype=dtype,
            folder_layout=CaseLayout(output_dir, name),
            output_name_formatter=lambda meta, _: {"subject": meta["case"]},
            resample=False,
            print_log=False,
        )

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Save the images (C, H, W, D), `MetaTensor`s; the sample stays as it is."""
        for key in self.key_iterator(data):
            image = data[key]
            image.meta["case"] = data["case"]
            self._save(image)
        return dict(data)

    def _save(self, image: Any) -> None:
        self.refusals.clear()
        try:
            self.save(image)
        except RuntimeError as error:
            raise (self.refusals[0] if self.refusals else error) from None
