"""Errors that a person can act on, and the one line in which they are shown."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from io import TextIOWrapper
from pathlib import Path
from types import TracebackType


class BratsError(Exception):
    """Something the user can mend. The message names the culprit and says what to do."""


class DatasetError(BratsError):
    """A data folder, a case or an image that cannot be used."""


class ConfigurationError(BratsError):
    """A setting, a checkpoint or an output folder that cannot be used."""


DISK_ERRORS = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "make room for it"),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), "allow access to it, or name another place"),
    **dict.fromkeys(
        (errno.ENOTDIR, errno.EEXIST, errno.EISDIR), "a file is in the way of a folder; name another place"
    ),
    **dict.fromkeys((errno.ENOENT, errno.ENOTCONN, errno.ESTALE, errno.EIO), "see that its disk is there"),
}
"""What a person can do about errors of the operating system, by their number."""


def not_a_file(path: Path) -> str:
    """What is wrong with a path that should be a file."""
    return "is a folder or device, not a file; name a file in it." if path.exists() else "no such file."


def not_a_folder(path: Path) -> str:
    """What is wrong with a path that should be a folder."""
    return "is a file; name the folder that it lies in." if path.exists() else "no such folder."


def root_cause(error: BaseException) -> BratsError | None:
    """The `BratsError` that started a chain of exceptions, if one did, or what a disk refused.

    MONAI wraps what a transform or a configuration expression raises, so ours may lie several causes down.
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, BratsError):
            return seen
        if isinstance(seen, OSError) and seen.errno in DISK_ERRORS:
            return BratsError(
                f"{os.fsdecode(seen.filename or 'the disk')}: {seen.strerror}; {DISK_ERRORS[seen.errno]}."
            )
        seen = seen.__cause__ or seen.__context__
    return None


def about_case(case: str, error: BaseException) -> DatasetError | None:
    """What a chain of exceptions says about one case, in one line that begins with its id.

    Returns:
        None for what is not about the case: a setting, a full disk, a mistake in the code.
    """
    ours = root_cause(error)
    if ours is not None:
        message = str(ours)
        if not isinstance(ours, DatasetError):
            return None
        return DatasetError(message if message.startswith(f"{case}: ") else f"{case}: {message}")
    cause = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    return DatasetError(f"{case}: {cause}") if isinstance(cause, ValueError) else None


def printable(text: str) -> str:
    """`text` for a terminal or a table: control characters and bytes that are no UTF-8 are written out.

    A file's name may hold an escape sequence, which a terminal would obey.
    """
    shown = "".join(c if c == "\n" or c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    return shown.encode("utf-8", "backslashreplace").decode("utf-8")


def show_what_the_terminal_knows() -> None:
    """From now on a terminal, or a file, of another encoding than UTF-8 gets a ? for what it cannot show."""
    if isinstance(sys.stdout, TextIOWrapper):  # a notebook's is of its own kind, and in UTF-8
        sys.stdout.reconfigure(errors="replace")


def show_errors_in_one_line() -> None:
    """From now on an uncaught `BratsError` ends the process with one line on stderr and status 1."""
    show_what_the_terminal_knows()
    sys.excepthook = _print_one_line


def _print_one_line(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    ours = root_cause(error)
    if ours is None:
        traceback.print_exception(kind, error, trace)
    else:
        print(f"error: {printable(str(ours))}", file=sys.stderr)
