"""JSON files that a command writes for others to read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from workflows.files.text_files import write_text


def write_json(content: Any, path: Path | str) -> None:
    """Write `content` as JSON; errors as in `workflows.files.text_files.write_or_refuse`."""
    write_text(Path(path), json.dumps(content, indent=2) + "\n")
