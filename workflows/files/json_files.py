"""JSON files that a run writes for others to read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transforms.files import write_whole
from workflows.messages.errors import ConfigurationError


def write_json(content: Any, path: Path | str) -> None:
    """Write `content` as JSON, whole or not at all: readers never see half a file.

    Raises:
        ConfigurationError: if the folder cannot be written to.
    """
    text = json.dumps(content, indent=2) + "\n"
    try:
        write_whole(Path(path), lambda partial: partial.write_text(text, encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be written ({error.strerror or error}).") from error
