"""What a training run leaves in its folder, by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workflows.messages.errors import ConfigurationError

if TYPE_CHECKING:
    pass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass
LAST, LOG, CURVES = "last.pt", "training.log", "curves.png"
MODEL = "model.pt"
RUN_SPLIT_FILE = "split.json"
RUN_CONFIGURATION = "config.json"
TUNED_SETTINGS_FILE = "post_processing.json"


def run_configuration(checkpoint: str | Path) -> dict[str, Any]:
    """The configuration that a run saved beside its checkpoint; empty where there is none."""
    return _json_beside(checkpoint, RUN_CONFIGURATION)


def _json_beside(checkpoint: str | Path, name: str) -> dict[str, Any]:
    file = Path(checkpoint).parent / name
    try:
        return dict(json.loads(file.read_text())) if file.is_file() else {}
    except (ValueError, TypeError, RecursionError) as error:
        raise ConfigurationError(f"{file}: is not valid JSON ({error}).") from error
