"""What a training run leaves in its folder, by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from workflows.messages.errors import ConfigurationError

LAST, LOG, CURVES = "last.pt", "training.log", "curves.png"
MODEL = "model.pt"
RUN_SPLIT_FILE = "split.json"
RUN_CONFIGURATION = "config.json"
TUNED_SETTINGS_FILE = "post_processing.json"


def run_configuration(checkpoint: str | Path) -> dict[str, Any]:
    """The configuration that a run saved beside its checkpoint; empty where there is none."""
    return json_beside(checkpoint, RUN_CONFIGURATION)


def json_beside(checkpoint: str | Path, name: str) -> dict[str, Any]:
    """What the JSON file `name` in a checkpoint's folder holds; empty where there is none.

    Raises:
        ConfigurationError: if it is no JSON object.
    """
    file = Path(checkpoint).parent / name
    try:
        return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}
    except (ValueError, TypeError, RecursionError) as error:
        raise ConfigurationError(f"{file}: is not valid JSON ({error}).") from error
