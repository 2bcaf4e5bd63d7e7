"""Files that a command writes for others to read, whole or not at all: readers never see half a file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

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


def write_json(content: Any, path: Path | str) -> None:
    """Write `content` as JSON; errors as in `write_or_refuse`."""
    text = json.dumps(content, indent=2) + "\n"
    write_or_refuse(Path(path), lambda partial: partial.write_text(text, encoding="utf-8"))
