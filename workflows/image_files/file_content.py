"""The content of a file of voxels, and what is refused by name before any memory is taken for it."""

from __future__ import annotations

import gzip
import io
import math
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from workflows.messages.errors import DatasetError, not_a_file

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
MAX_GZIP_RATIO = 1032
"""Bytes to which one byte of a gzip file can unpack, https://zlib.net/zlib_tech.html."""


def format_shape(shape: Iterable[int | str]) -> str:
    """As people write it: 240×240×155."""
    return "×".join(map(str, shape))


@contextmanager
def opened(file: Path, gzip_file: type[gzip.GzipFile]) -> Iterator[tuple[BinaryIO, BinaryIO, int]]:
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
    return f"{file}: {not_a_file(file)}"


def _unpacked(raw: io.BufferedReader, gzip_file: type[gzip.GzipFile]) -> tuple[BinaryIO, int]:
    """The file's content, and how many times it was gzipped: not at all, once or twice."""
    stream: Any = raw
    layers = 0
    while layers < 2 and stream.peek(2)[:2] == b"\x1f\x8b":
        stream = gzip_file(fileobj=stream, mode="rb")
        layers += 1
    return stream, layers


def refuse_no_image(start: bytes, file: Path) -> None:
    """Refuse a file that begins as one does that was not fetched well."""
    if not start:
        raise DatasetError(f"{file}: is empty; fetch it again.")
    if start.startswith(b"version https://git-lfs"):
        raise DatasetError(f"{file}: is a Git LFS pointer, not the image; run  git lfs pull.")
    if start.lstrip()[:1] == b"<":
        raise DatasetError(f"{file}: is a web page, not an image; the download failed.")


def refuse_shape(shape: Sequence[int], voxel_type: np.dtype[Any], file: Path) -> None:
    """Refuse what a header announces if it is no volume, or too large to be a scan."""
    if len(shape) not in (3, 4, 5) or min(shape) < 1 or any(length > 1 for length in shape[4:]):
        raise DatasetError(
            f"{file}: its shape {format_shape(shape)} is not that of a volume; give one 3D image per file."
        )
    if math.prod(shape) > MAX_VOXELS or math.prod(shape) * voxel_type.itemsize > MAX_IMAGE_BYTES:
        announced = f"{format_shape(shape)} voxels of {voxel_type.itemsize} bytes"
        raise DatasetError(
            f"{file}: its header announces {announced}, more than any scan has; fetch it again, or convert it to "
            f"float32 and at most {MAX_VOXELS / 1e6:.0f} million voxels."
        )


def refuse_cut(packed: int, layers: int, size: int, file: Path) -> None:
    """Refuse a file of `packed` bytes, packed `layers` times, that cannot hold `size` bytes."""
    if packed * MAX_GZIP_RATIO**layers < size:
        raise DatasetError(f"{file}: is cut short, {packed} {'packed ' * bool(layers)}of {size} bytes; fetch it again.")
