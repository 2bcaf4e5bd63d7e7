"""Where a command may write: never into a folder that it reads patients from, and never over somebody else's file."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from transforms.files import DESCRIPTION, WRITTEN_BY, nifti_signature
from workflows.messages.errors import ConfigurationError

MARKS = (
    WRITTEN_BY.encode(),
    *(b'"label_convention"', b'"bundle_root"', b'"largest_component_only"', b'"mean_region_dice"', b'"temperature"'),
    *(b'"label_map_sha256"', b'"lesion_penalty_mm"', b'"only_in_a"', b'"schema_version"'),
    *(b"/configs/", b"case,region,", b"case,necrotic_core,", b"network,"),
)
"""One of these stands near the beginning of every file that this program writes, except label maps."""
HEAD_BYTES = 65536


def check_outputs(files: Iterable[Path], data: Iterable[Path | str] = (), setting: str = "") -> None:
    """Refuse before any work what would change a file that this program did not write.

    Args:
        files: what the command is going to write.
        data: the folders that it reads patients or label maps from; links are followed on both sides.
        setting: the option with which the user named the place, for the message.
    Raises:
        ConfigurationError: naming the file, or the data folder that it lies in.
    """
    files = list(files)
    read = {identity for root in data for identity in _folders_in(Path(root))}
    for folder in dict.fromkeys(file.parent for file in files):
        real = Path(os.path.realpath(folder))  # works for a circle of links too
        named = f"{setting} {folder}".strip()
        if any(map(os.path.isfile, (real, *real.parents))):
            raise ConfigurationError(f"{named}: is or lies in a file; name a folder to write to.")
        if any(_identity(place) in read for place in (real, *real.parents)):
            raise ConfigurationError(f"{named}: lies in the data folder, which is never written to; name another.")
    for file in files:
        if file.is_dir():
            raise ConfigurationError(f"{file}: is a folder; name a file to write to.")
        if not is_ours(file):
            raise ConfigurationError(
                f"{file}: brats-unet did not write this file, or it was changed since, and does not replace it; "
                "move it away, or name another place to write to."
            )


def is_ours(file: Path) -> bool:
    """Whether a file may be replaced: this program wrote it and nobody changed it since, or it is not there."""
    if not os.path.lexists(file):
        return True
    try:
        if file.name.endswith((".nii", ".nii.gz")):
            return _is_our_image(file)
        with file.open("rb") as stream:
            head = stream.read(HEAD_BYTES)
        return not head or any(mark in head for mark in MARKS)
    except OSError:
        return False


def _is_our_image(file: Path) -> bool:
    packed = file.read_bytes()
    if hashlib.sha256(packed).hexdigest() == _recorded_digest(file):
        return True  # a hundred times faster than unpacking, and right for files of older versions
    try:
        content = gzip.decompress(packed) if packed[:2] == b"\x1f\x8b" else packed
    except (OSError, EOFError, zlib.error):
        return False
    return content[DESCRIPTION] == nifti_signature(content)


def _recorded_digest(label_map: Path) -> str | None:
    """What the record beside a label map says of it."""
    record = label_map.with_name(f"{label_map.name.removesuffix('.gz').removesuffix('.nii')}.json")
    try:
        return str(json.loads(record.read_text(encoding="utf-8"))["label_map_sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _folders_in(root: Path) -> Iterator[tuple[int, int]]:
    """A data folder, and the folders outside it to which links in it lead."""
    entered: set[tuple[int, int]] = set()
    for name, folders, names in os.walk(root, followlinks=True):
        identity = _identity(Path(name))
        if identity is None or identity in entered:
            folders.clear()  # a link to a folder above would be walked for ever
            continue
        entered.add(identity)
        yield identity
        for link in (Path(name, entry) for entry in names):
            if link.is_symlink() and (target := _identity(Path(os.path.realpath(link)).parent)):
                yield target


def _identity(folder: Path) -> tuple[int, int] | None:
    """The same for all names of one folder, whatever links, mounts and letter case they use."""
    try:
        stat = folder.stat()
    except OSError:
        return None
    return stat.st_dev, stat.st_ino
