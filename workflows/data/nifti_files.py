"""Read one NIfTI file, whatever its ending, and refuse by name what is no image."""

from __future__ import annotations

import gzip
import hashlib
import io
import logging
import math
import os
import re
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from transforms.files import DESCRIPTION, WRITTEN_BY
from transforms.geometry import axial_axis
from workflows.messages.errors import DatasetError

FastGzipFile: type[gzip.GzipFile] = gzip.GzipFile
FastGzipError: type[Exception] = zlib.error
try:  # the extra `fast`: unpacks in a third of the time
    from isal import igzip, igzip_lib
except ImportError:
    pass
else:
    FastGzipFile = igzip.IGzipFile
    FastGzipError = igzip_lib.IsalError  # type: ignore[assignment]  # a class, of which its stub makes an instance

MAX_VOXELS = 2**27  # 512×512×512; a four-channel BraTS case has 2**25
MAX_IMAGE_BYTES = 2**30  # unpacked; 512×512×352 voxels take 0.7 of it as float64
MAX_VOXEL_OFFSET_BYTES = 2**24
MAX_GZIP_RATIO = 1032
"""Bytes to which one byte of a gzip file can unpack, https://zlib.net/zlib_tech.html."""
VOXEL_SIZES_MM = (0.01, 100.0)
"""Between a microscope's and a whole head in one voxel: what lies outside is no scan of a head."""

nib.imageglobals.logger.setLevel(logging.CRITICAL)  # it prints every small repair of a header; what matters we say

_CHANNEL = re.compile(r"(?P<file>.+\.nii(?:\.gz){0,2})#(?P<channel>\d)", re.IGNORECASE)


def load_image(path: str | Path) -> nib.Nifti1Image:
    """Open a NIfTI file by its content, whatever its ending: `.nii`, `.nii.gz`, `.nii.gz.gz` gzipped once or twice.

    Args:
        path: a file, or `file#channel` for one channel of a 4D file.
    Returns:
        A nibabel image of 3 axes, or of 4 where a 4D file is opened without naming a channel.
    Raises:
        DatasetError: if it is missing, empty, cut short, a Git LFS pointer, no NIfTI file or larger than `MAX_VOXELS`.
    """
    file, channel = split_channel(path)
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


def format_shape(shape: Iterable[int | str]) -> str:
    """As people write it: 240×240×155."""
    return "×".join(map(str, shape))


def axial_slices(path: str | Path) -> tuple[int, float]:
    """Number and distance in mm of the axial slices that a file's header announces.

    Raises:
        DatasetError: as `load_image`, as far as the header shows it.
    """
    file, _ = split_channel(path)
    with _opened(file, gzip.GzipFile) as (_, stream, _):
        header = _checked_header(stream.read(nib.Nifti2Header.sizeof_hdr), file)
    affine = header.get_best_affine()
    _check_affine(affine, file)
    axial = axial_axis(affine)
    return int(header.get_data_shape()[axial.axis]), axial.spacing_mm


def is_own_map(file: Path) -> bool:
    """Whether this project wrote a NIfTI-1 file, by its header; False where it cannot be read."""
    try:
        with _opened(file, gzip.GzipFile) as (_, stream, _):
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
    with _opened(file, gzip_file) as (raw, stream, layers):
        header = _checked_header(stream.read(nib.Nifti2Header.sizeof_hdr), file)
        size = header.get_data_offset() + math.prod(header.get_data_shape()) * header.get_data_dtype().itemsize
        packed = os.fstat(raw.fileno()).st_size
        if packed * MAX_GZIP_RATIO**layers < size:  # before any memory is taken for it
            raise DatasetError(
                f"{file}: is cut short, {packed} {'packed ' * bool(layers)}of {size} bytes; fetch it again."
            )
        stream.seek(0)  # one read of all costs less than joining two
        content = stream.read(size)
        stream.read(1)  # at its end a gzip stream compares its checksum
    if len(content) < size:
        raise DatasetError(f"{file}: is cut short, {len(content)} of {size} bytes; fetch it again.")
    return content, nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image


@contextmanager
def _opened(file: Path, gzip_file: type[gzip.GzipFile]) -> Iterator[tuple[BinaryIO, BinaryIO, int]]:
    """The file, its unpacked content and how many times it was gzipped; what goes wrong while reading is named."""
    if not file.is_file():
        raise DatasetError(_why_no_file(file))
    try:
        with file.open("rb") as raw:
            yield (raw, *_unpacked(raw, gzip_file))
    except (EOFError, zlib.error, FastGzipError, gzip.BadGzipFile) as error:
        raise DatasetError(f"{file}: is cut short or damaged ({error}); fetch it again.") from error
    except OSError as error:
        raise DatasetError(f"{file}: cannot be read ({error.strerror or error}); see to its permissions.") from error


def _why_no_file(file: Path) -> str:
    if file.is_symlink():
        return f"{file}: is a link that leads to no file; fetch what it stands for, or mend the link."
    return f"{file}: no such file." if not file.exists() else f"{file}: no such file: a folder or device has that name."


def _unpacked(raw: io.BufferedReader, gzip_file: type[gzip.GzipFile]) -> tuple[BinaryIO, int]:
    """The file's content, and how many times it was gzipped: not at all, once or twice."""
    stream: Any = raw
    layers = 0
    while layers < 2 and stream.peek(2)[:2] == b"\x1f\x8b":
        stream = gzip_file(fileobj=stream, mode="rb")
        layers += 1
    return stream, layers


def _checked_header(start: bytes, file: Path) -> nib.Nifti1Header:
    """The header in the first 540 bytes of a file, if they begin an image that can be held in memory."""
    if not start:
        raise DatasetError(f"{file}: is empty; fetch it again.")
    if start.startswith(b"version https://git-lfs"):
        raise DatasetError(f"{file}: is a Git LFS pointer, not the image; run  git lfs pull.")
    if start.lstrip()[:1] == b"<":
        raise DatasetError(f"{file}: is a web page, not a NIfTI image; the download failed.")
    kind = nib.Nifti2Header if start[4:7] == b"n+2" else nib.Nifti1Header if start[344:347] == b"n+1" else None
    if kind is None or len(start) < kind.sizeof_hdr:
        raise DatasetError(f"{file}: is not a NIfTI image; convert it, or fetch it again.")
    try:
        header = kind(start[: kind.sizeof_hdr])
        shape, offset, voxel_type = header.get_data_shape(), header.get_data_offset(), header.get_data_dtype()
    except (HeaderDataError, ValueError, OverflowError) as error:
        raise DatasetError(f"{file}: its NIfTI header is invalid ({error}); fetch or convert it again.") from error
    extent = [int(length) for length in shape]
    if len(extent) not in (3, 4, 5) or min(extent) < 1 or any(length > 1 for length in extent[4:]):
        raise DatasetError(
            f"{file}: its shape {format_shape(extent)} is not that of a volume; give one 3D image per file."
        )
    if math.prod(extent) > MAX_VOXELS or math.prod(extent) * voxel_type.itemsize > MAX_IMAGE_BYTES:
        announced = f"{format_shape(extent)} voxels of {voxel_type.itemsize} bytes"
        raise DatasetError(
            f"{file}: its header announces {announced}, more than any scan has; fetch it again, or convert it to "
            f"float32 and at most {MAX_VOXELS / 1e6:.0f} million voxels."
        )
    if not kind.sizeof_hdr + 4 <= offset <= MAX_VOXEL_OFFSET_BYTES:
        raise DatasetError(
            f"{file}: its NIfTI header is invalid (the voxels start at byte {offset:g}); fetch it again."
        )
    if voxel_type.kind not in "iuf" or voxel_type.itemsize > 8:
        raise DatasetError(
            f"{file}: its voxels are colours, complex or extended numbers, not intensities; convert it to float32."
        )
    return header
