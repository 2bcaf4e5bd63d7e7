"""Read one image, whatever its ending, and refuse by name what is none."""

from __future__ import annotations

import gzip
import hashlib
import io
import logging
import math
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from transforms.files import DESCRIPTION, WRITTEN_BY
from transforms.geometry import axial_axis, is_identity
from workflows.image_files.file_content import (
    FastGzipFile,
    format_shape,
    opened,
    refuse_cut,
    refuse_no_image,
    refuse_shape,
)
from workflows.image_files.itk_files import is_itk_file, itk_grid, read_itk_file
from workflows.messages.errors import DatasetError

MAX_VOXEL_OFFSET_BYTES = 2**24
VOXEL_SIZES_MM = (0.01, 100.0)
"""Between a microscope's and a whole head in one voxel: what lies outside is no scan of a head."""

nib.imageglobals.logger.setLevel(logging.CRITICAL)  # it prints every small repair of a header; what matters we say

_CHANNEL = re.compile(r"(?P<file>.+\.nii(?:\.gz){0,2})#(?P<channel>\d)", re.IGNORECASE)


def load_image(path: str | Path) -> nib.Nifti1Image:
    """Open a NIfTI file by its content, whatever its ending: `.nii`, `.nii.gz`, `.nii.gz.gz` gzipped once or twice; or
    a file of ITK or 3D Slicer, see `workflows.image_files.itk_files`.

    Args:
        path: a file, or `file#channel` for one channel of a 4D file.
    Returns:
        A nibabel image of 3 axes, or of 4 where a 4D file is opened without naming a channel.
    Raises:
        DatasetError: if it is missing, empty, cut short, a Git LFS pointer, no image or larger than `MAX_VOXELS`.
    """
    file, channel = split_channel(path)
    if is_itk_file(file):
        return read_itk_file(file)
    content, kind = _read_nifti(file)
    try:
        image: nib.Nifti1Image = kind.from_stream(io.BytesIO(content))
        if image.ndim > 3:
            image = nib.funcs.squeeze_image(image)  # some tools write a fourth axis of length 1
        if channel is None:
            return image
        if image.ndim == 4 and channel < image.shape[3]:
            volume: nib.Nifti1Image = image.slicer[..., channel]
            return volume
    except (HeaderDataError, nib.filebasedimages.ImageFileError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise DatasetError(f"{file}: its NIfTI header is invalid ({reason}); fetch or convert it again.") from error
    raise DatasetError(f"{file}: has no channel {channel}; its shape is {format_shape(image.shape)}.")


def split_channel(path: str | Path) -> tuple[Path, int | None]:
    """`…/BRATS_001.nii.gz#2` as file and channel; the channel is None where none is named."""
    match = _CHANNEL.fullmatch(str(path))
    return (Path(match["file"]), int(match["channel"])) if match else (Path(path), None)


def read_voxels(image: nib.Nifti1Image) -> NDArray[Any]:
    """The voxels of an image in the type of the file, or float64 where its header scales them."""
    return np.asarray(image.dataobj)


def digest_of(voxels: NDArray[Any]) -> str:
    """Equal for equal arrays of one type: tells a copy under another name or packing."""
    content = hashlib.blake2b(repr(voxels.shape).encode(), digest_size=16)
    content.update(np.ascontiguousarray(voxels.T).data)
    return content.hexdigest()


def axial_slices(path: str | Path) -> tuple[int, float]:
    """Number and distance in mm of the axial slices that a file's header announces.

    Raises:
        DatasetError: as `load_image`, as far as the header shows it.
    """
    file, _ = split_channel(path)
    shape, affine = itk_grid(file) if is_itk_file(file) else _nifti_grid(file)
    _check_affine(affine, file)
    axial = axial_axis(affine)
    return int(shape[axial.axis]), axial.spacing_mm


def _nifti_grid(file: Path) -> tuple[Sequence[int], NDArray[Any]]:
    with opened(file, gzip.GzipFile) as (_, stream, _):
        header = _checked_header(stream.read(nib.Nifti2Header.sizeof_hdr), file)
    return header.get_data_shape(), header.get_best_affine()


def is_own_map(file: Path) -> bool:
    """Whether this project wrote a NIfTI-1 file, by its header; False where it cannot be read."""
    try:
        with opened(file, gzip.GzipFile) as (_, stream, _):
            return stream.read(DESCRIPTION.stop)[DESCRIPTION].startswith(WRITTEN_BY.encode())
    except DatasetError:
        return False


def describes_a_volume(affine: NDArray[Any]) -> bool:
    """Whether an affine (4, 4) gives three axes in space and voxels of a size that a scan of a head can have."""
    if not np.isfinite(affine).all():
        return False
    smallest, largest = VOXEL_SIZES_MM
    with np.errstate(over="ignore"):
        sizes = nib.affines.voxel_sizes(affine)
    if sizes.min() < smallest or sizes.max() > largest:
        return False
    axes = affine[:3, :3] / sizes
    return bool(abs(np.linalg.det(axes)) > 1e-3 and np.isfinite(nib.orientations.io_orientation(affine)).all())


def states_no_orientation(image: nib.Nifti1Image) -> bool:
    """Whether the affine was made up from the voxels' size, since the header has none."""
    return int(image.header["sform_code"]) == 0 and int(image.header["qform_code"]) == 0


def says_no_place(image: nib.Nifti1Image) -> bool:
    """Whether the affine says nothing of where the voxels lie."""
    return is_identity(image.affine) or states_no_orientation(image)


def check_geometry(image: nib.Nifti1Image, file: str | Path) -> None:
    """Raise `DatasetError`, naming `file`, if the image has not three axes in space."""
    if image.ndim != 3:
        raise DatasetError(f"{file}: has {image.ndim} axes; one volume per file is expected, so split it first.")
    _check_affine(image.affine, file)


def _check_affine(affine: NDArray[Any], file: str | Path) -> None:
    if not describes_a_volume(affine):
        raise DatasetError(f"{file}: its affine does not describe a volume; convert it again from its source.")


def read_volume(image: nib.Nifti1Image, file: str | Path) -> NDArray[Any]:
    """The voxels of one volume.

    Raises:
        DatasetError: naming `file`, if the image has not three axes in space, or voxels that are no finite numbers.
    """
    check_geometry(image, file)
    voxels = read_voxels(image)
    if voxels.dtype.kind == "f" and (broken := voxels.size - np.count_nonzero(np.isfinite(voxels))):
        raise DatasetError(f"{file}: {broken} voxels are not finite; replace them or convert it again from its source.")
    return voxels


def _read_nifti(file: Path) -> tuple[bytes, type[Any]]:
    """The unpacked file and nibabel's class for it; nothing is unpacked that the header does not announce."""
    if FastGzipFile is not gzip.GzipFile:
        with suppress(DatasetError):  # Python's own gzip judges what is wrong, in the words of docs/faults.md
            return _read_nifti_with(FastGzipFile, file)
    return _read_nifti_with(gzip.GzipFile, file)


def _read_nifti_with(gzip_file: type[gzip.GzipFile], file: Path) -> tuple[bytes, type[Any]]:
    with opened(file, gzip_file) as (raw, stream, layers):
        header = _checked_header(stream.read(nib.Nifti2Header.sizeof_hdr), file)
        size = header.get_data_offset() + math.prod(header.get_data_shape()) * header.get_data_dtype().itemsize
        refuse_cut(os.fstat(raw.fileno()).st_size, layers, size, file)
        stream.seek(0)  # one read of all costs less than joining two
        content = stream.read(size)
        stream.read(1)  # at its end a gzip stream compares its checksum
    if len(content) < size:
        raise DatasetError(f"{file}: is cut short, {len(content)} of {size} bytes; fetch it again.")
    return content, nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image


def _checked_header(start: bytes, file: Path) -> nib.Nifti1Header:
    """The header in the first 540 bytes of a file, if they begin an image that can be held in memory."""
    refuse_no_image(start, file)
    kind = nib.Nifti2Header if start[4:7] == b"n+2" else nib.Nifti1Header if start[344:347] == b"n+1" else None
    if kind is None or len(start) < kind.sizeof_hdr:
        raise DatasetError(f"{file}: is not a NIfTI image; convert it, or fetch it again.")
    try:
        header = kind(start[: kind.sizeof_hdr])
        shape, offset, voxel_type = header.get_data_shape(), header.get_data_offset(), header.get_data_dtype()
    except (HeaderDataError, ValueError, OverflowError) as error:
        raise DatasetError(f"{file}: its NIfTI header is invalid ({error}); fetch or convert it again.") from error
    refuse_shape([int(length) for length in shape], voxel_type, file)
    if not kind.sizeof_hdr + 4 <= offset <= MAX_VOXEL_OFFSET_BYTES:
        raise DatasetError(
            f"{file}: its NIfTI header is invalid (the voxels start at byte {offset:g}); fetch it again."
        )
    if voxel_type.kind not in "iuf" or voxel_type.itemsize > 8:
        raise DatasetError(
            f"{file}: its voxels are colours, complex or extended numbers, not intensities; convert it to float32."
        )
    return header
