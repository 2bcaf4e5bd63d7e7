"""Files that a command writes for others to read, whole or not at all: readers never see half a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from transforms.files import write_whole
from workflows.messages.errors import ConfigurationError


def write_or_refuse(path: Path, write: Callable[[Path], object]) -> None:
    """`transforms.files.write_whole`, whose error names the file.

    Raises:
        ConfigurationError: if the file cannot be written.
    """
    try:
        write_whole(path, write)
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be written ({error.strerror or error}).") from error


def write_text(path: Path, text: str) -> None:
    """Write `text`, and the bytes of a name that are no text as escapes; errors as in `write_or_refuse`."""
    content = text.encode("utf-8", "backslashreplace")
    write_or_refuse(path, lambda partial: partial.write_bytes(content))
