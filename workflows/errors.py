"""Errors that a person can act on, and the one line in which they are shown."""

from __future__ import annotations

import errno
import os
import sys
import traceback
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
    **dict.fromkeys((errno.ENOENT, errno.ENOTCONN, errno.ESTALE, errno.EIO), "see that its disk is there"),
}
"""What a person can do about errors of the operating system, by their number."""


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


def show_errors_in_one_line() -> None:
    """From now on an uncaught `BratsError` ends the process with one line on stderr and status 1."""
    sys.excepthook = _print_one_line


def _print_one_line(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    ours = root_cause(error)
    if ours is None:
        traceback.print_exception(kind, error, trace)
    else:
        print(f"error: {ours}", file=sys.stderr)
