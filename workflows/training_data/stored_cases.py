"""Preprocessed cases on disk, for the next run to start from.

MONAI's `PersistentDataset` does not serve here: it knows a case by its files' names, so a changed scan goes unseen; a
file that is cut short ends the run, and one with a changed byte is believed; and it writes to a temporary folder
elsewhere, from where moving may be copying.
"""

from __future__ import annotations

import hashlib
import inspect
import io
import logging
import os
import re
import threading
import time
import zipfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import monai
import nibabel
import numpy as np
import torch
from monai.data.utils import json_hashing, pickle_hashing
from monai.transforms import Compose, RandomizableTrait, Transform
from monai.utils import ensure_tuple
from torch import Tensor

from transforms.files import sha256_of, write_whole
from transforms.slices import plain
from workflows.image_files.nifti_files import split_channel
from workflows.messages.errors import ConfigurationError

logger = logging.getLogger(__name__)

FORMAT = 1
"""Raise it when the files change in a way that neither their code's text nor a library's version tells."""
STORED = ("image", "label")
IN_USE_S = 3600
"""What was used within this time may belong to another run, and is not removed to make room."""

_OURS = re.compile(r"(\.\d+\.partial\.)?[0-9a-f]{16}-[0-9a-f]{32}\.case\.npz")
_CODE = Path(__file__).resolve().parents[2]
_READING = (
    *("workflows/data/reader.py", "workflows/image_files/nifti_files.py", "workflows/image_files/file_content.py"),
    *(
        "workflows/image_files/itk_files.py",
        "workflows/image_files/segments.py",
        "workflows/image_files/class_names.py",
    ),
)


class StoredCases(Transform):
    """A chain whose results are kept in a folder, one file per case, and are read from there the next time.

    A file is named after all that its content follows from, see `settings_key` and `files_key`, and so is never out of
    date. What has not been used for longest is removed where the folder would become too large.

    Args:
        chain: gives tensors under the names in `STORED`; whatever else it gives is left out.
        folder: made where it is missing; several runs may share it.
        limit_gb: what the folder may hold, in 10⁹ bytes.
    Raises:
        ConfigurationError: if a step of the chain is random, or has settings that cannot be compared.
    """

    def __init__(self, chain: Callable[..., Any], folder: Path | str, limit_gb: float) -> None:
        self.chain = chain if isinstance(chain, Compose) else Compose(chain)
        self.folder, self.limit_bytes = Path(folder), limit_gb * 1e9
        self.settings = settings_key(self.chain)[:16]
        self.writing, self._lock = True, threading.Lock()
        self.read: set[Path] = set()
        self.added: set[Path] = set()
        for file in _stored_in(self.folder):
            if file.path.name.startswith(".") and file.unused_s > IN_USE_S:  # by a process that was killed
                with suppress(OSError):  # in a folder that may only be read
                    file.path.unlink()

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """The sample with the chain's results, read from the folder where they are kept there."""
        file = self._file_of(data)
        stored = read_case(file) if file else None
        if file and stored:
            self.read.add(file)
            with suppress(OSError):  # in a folder that may only be read
                os.utime(file)
            return {**data, **stored}
        result = self.chain(dict(data), threading=True)
        case = {name: plain(result[name]).contiguous() for name in STORED}
        if file and file == self._file_of(data):  # else the scan was replaced while it was read
            self._keep(file, case)
        return {**data, **case}

    def report(self) -> None:
        """Say how many cases were found and added, and how large the folder is."""
        files = _stored_in(self.folder)
        size_gb = sum(file.bytes for file in files) / 1e9
        logger.info(
            f"{self.folder}: {len(self.read)} preprocessed cases read, {len(self.added)} added; "
            f"it holds {len(files)}, {size_gb:.2f} of at most {self.limit_bytes / 1e9:g} GB"
        )

    def _file_of(self, data: Mapping[str, Any]) -> Path | None:
        """Where a case's result belongs; None where its files cannot be looked at: the chain says what is wrong."""
        try:
            return self.folder / f"{self.settings}-{files_key(data)[:32]}.case.npz"
        except OSError:
            return None

    def _keep(self, file: Path, case: Mapping[str, Tensor]) -> None:
        with self._lock:
            if not self.writing:
                return
            content = packed(case)
            try:
                self.writing = self._make_room(len(content))
                if self.writing:
                    write_whole(file, lambda partial: partial.write_bytes(content))
                    self.added.add(file)
                else:
                    logger.warning(
                        f"{self.folder}: is full of cases in use; going on without adding more. A larger cache_gb "
                        f"than {self.limit_bytes / 1e9:g}, or another cache_dir, would hold them."
                    )
            except OSError as error:
                self.writing = False
                logger.warning(f"{self.folder}: {error.strerror or error}; going on without adding more cases to it")

    def _make_room(self, size: int) -> bool:
        """Whether so many bytes fit, once the files that were not used for longest are removed."""
        files = sorted(_stored_in(self.folder), key=lambda file: file.unused_s, reverse=True)
        held = sum(file.bytes for file in files)
        for file in files:
            if held + size <= self.limit_bytes or file.unused_s < IN_USE_S:
                break
            file.path.unlink(missing_ok=True)
            held -= file.bytes
        return held + size <= self.limit_bytes


def settings_key(chain: Compose) -> str:
    """Differs when any setting of any step differs, the steps' code or that of what reads files, or a library.

    Raises:
        ConfigurationError: if a step of the chain is random, or has settings that cannot be compared.
    """
    steps = chain.flatten().transforms
    for step in steps:
        if isinstance(step, RandomizableTrait) or not isinstance(step, Transform):
            name = getattr(step, "__name__", type(step).__name__)
            raise ConfigurationError(
                f"cache_dir: {name} in the preprocessing is random or no transform of MONAI's kind, and its "
                "results cannot be kept; leave cache_dir out."
            )
    try:
        settings = pickle_hashing(list(steps)).decode()  # `json_hashing` would compare the steps' names alone
    except Exception as error:  # what a lambda, a lock or an open file raises differs
        raise ConfigurationError(
            f"cache_dir: the settings of the preprocessing cannot be compared ({error}); leave cache_dir out."
        ) from error
    versions = [str(library.__version__) for library in (monai, torch, np, nibabel)]
    return json_hashing([FORMAT, settings, versions, _digest_of_code(steps)]).decode()


def files_key(data: Mapping[str, Any]) -> str:
    """Differs when any of a case's files was written, replaced, moved or made unreadable, or they change places.

    The time of a file's last change of any kind tells what an unpacked archive leaves alike: size and time of writing.

    Raises:
        OSError: if a file cannot be looked at.
    """
    return json_hashing({name: list(map(_state, ensure_tuple(data[name]))) for name in STORED if name in data}).decode()


def packed(case: Mapping[str, Tensor]) -> bytes:
    """A case as NumPy's `.npz`, with a checksum; not compressed, since unpacking takes longer than reading."""
    content = io.BytesIO()
    arrays: dict[str, Any] = {name: tensor.numpy() for name, tensor in case.items()}
    np.savez(content, **arrays)
    return content.getvalue()


def read_case(file: Path) -> dict[str, Tensor] | None:
    """The case that `packed` made a file of; None if there is no such file, or if it is not whole to the last bit."""
    try:
        with zipfile.ZipFile(file) as archive:
            members = {Path(member.filename).stem: member for member in archive.infolist()}
            if set(members) != set(STORED) or any(member.compress_type for member in members.values()):
                return None
            # Read to its end, where its checksum is compared, before anything in it is believed.
            contents = {name: io.BytesIO(archive.read(members[name])) for name in STORED}
        return {name: torch.from_numpy(np.load(content)) for name, content in contents.items()}
    except Exception:  # noqa: BLE001  # whatever a damaged file provokes, the case is preprocessed again
        return None


class _StoredFile(NamedTuple):
    """One of our files in the folder, and for how many seconds nobody has written or read it."""

    path: Path
    bytes: int
    unused_s: float


def _stored_in(folder: Path) -> list[_StoredFile]:
    """Our files in a folder, half-written ones too; another process may remove some meanwhile."""
    files = []
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if _OURS.fullmatch(entry.name):
                with suppress(FileNotFoundError):
                    status = entry.stat()
                    files.append(_StoredFile(Path(entry.path), status.st_size, time.time() - status.st_mtime))
    return files


def _state(name: str | Path) -> list[Any]:
    file, channel = split_channel(name)
    status = file.stat()
    return [str(file.absolute()), channel, status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _digest_of_code(steps: Iterable[object]) -> str:
    """Of the text of all modules that make the steps or that they may call, in whatever folder they lie."""
    of_every_chain = [*(_CODE / "transforms").glob("*.py"), *(_CODE / name for name in _READING)]
    files = {*map(str, of_every_chain), *(found for step in steps if (found := inspect.getsourcefile(type(step))))}
    return hashlib.sha256("".join(sorted(map(sha256_of, files))).encode()).hexdigest()
