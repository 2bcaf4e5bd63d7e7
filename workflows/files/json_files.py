"""JSON files that a run writes for others to read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from workflows.files.text_files import write_text


def write_json(content: Any, path: Path | str) -> None:
    """Write `content` as JSON, whole or not at all: readers never see half a file.

    Raises:
        ConfigurationError: if the file cannot be written.
    """
    write_text(Path(path), json.dumps(content, indent=2) + "\n")
