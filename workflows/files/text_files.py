"""Text files that a command writes for others to read."""

from __future__ import annotations

from pathlib import Path

from transforms.files import write_whole
from workflows.messages.errors import ConfigurationError


def write_text(path: Path, text: str) -> None:
    """Write `text`, whole or not at all: readers never see half a file.

    Raises:
        ConfigurationError: if the file cannot be written.
    """
    try:
        write_whole(path, lambda partial: partial.write_text(text, encoding="utf-8", newline="\n"))
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be written ({error.strerror or error}).") from error
