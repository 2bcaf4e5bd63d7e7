"""Files that are complete at every moment, or not there at all."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from transforms.labels import SEGMENTATION_SUFFIX

WRITTEN_BY = "brats-unet"
"""Stands in every file that this project writes, where its format has room for it: see `workflows.files.outputs`."""
PNG_METADATA = {"Software": WRITTEN_BY}
MAP_ENDING = ".nii.gz"
"""The format of the maps that are saved, label maps among them; `transforms.label_map_files.WRITERS` writes each."""
PROBABILITIES, UNCERTAINTY = "probabilities", "uncertainty"
"""In the names of the maps of class probabilities and of their entropy, see `transforms.uncertainty`."""
MARKDOWN_MARK = f"[//]: # (written by {WRITTEN_BY})\n"

DESCRIPTION = slice(148, 228)
"""The bytes of `descrip` in the header of a NIfTI-1 file."""


def nifti_signature(content: bytes) -> bytes:
    """What a NIfTI-1 file of ours holds in its header's `descrip`: who wrote it, and a digest of all its other bytes.

    So a label map that somebody corrected by hand is known from the one that was predicted, wherever it is copied to.

    Args:
        content: the file's, unpacked.
    Returns:
        80 bytes, ASCII padded with zeros.
    """
    others = content[: DESCRIPTION.start] + content[DESCRIPTION.stop :]
    digest = hashlib.blake2b(others, digest_size=16).hexdigest()
    return f"{WRITTEN_BY} {digest}".encode().ljust(80, b"\0")


def map_name(case: str, kind: str = SEGMENTATION_SUFFIX) -> str:
    """The file name of the label map, or of the map of `PROBABILITIES` or `UNCERTAINTY`."""
    return f"{case}_{kind}{MAP_ENDING}"


def sha256_of(file: Path | str) -> str:
    """The digest of a file's content, in hexadecimal digits."""
    with Path(file).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write` with a temporary path of the same ending beside `path`, then move the result into place.

    The folder is made where it is missing. If `write` fails, `path` keeps what it held; after a return it holds the
    new content even if the machine loses its power.

    Raises:
        OSError: with `path` as its file name, where the system did not say which file it was about.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{os.getpid()}.partial.{path.name}")
    try:
        write(partial)
        with partial.open("rb") as written:
            os.fsync(written.fileno())
        partial.replace(path)
    except OSError as error:
        if error.errno is not None and error.filename in (None, str(partial)):
            raise type(error)(error.errno, error.strerror, str(path)) from error
        raise
    finally:
        with suppress(OSError):  # a read-only folder has just said so
            partial.unlink(missing_ok=True)


def remove_partial(folder: Path) -> None:
    """Remove what `write_whole` left in a folder when its process was killed."""
    for partial in folder.glob(".*.partial.*"):
        process = partial.name.split(".")[1]
        # In a container the next process often has the number of the last one.
        if process.isdigit() and (int(process) == os.getpid() or not psutil.pid_exists(int(process))):
            partial.unlink(missing_ok=True)
