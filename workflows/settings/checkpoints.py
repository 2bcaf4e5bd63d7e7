"""Several checkpoints whose class probabilities are averaged: which are meant, and do they read the same input."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from workflows.files.run_folder import MODEL
from workflows.messages.errors import ConfigurationError, not_a_file
from workflows.settings.bundle_files import bundle_root

logger = logging.getLogger(__name__)


def named_checkpoints(paths: Sequence[Path]) -> dict[str, Any]:
    """The settings `checkpoint` and `more_checkpoints` for the files and folders that a person named.

    Args:
        paths: a folder stands for each model.pt in it and below it, in the order of their names.
    Raises:
        ConfigurationError: if a folder holds none.
    """
    named: dict[Path, Path] = {}
    for path in paths:
        files = sorted(path.rglob(MODEL)) if path.is_dir() else [path]
        if not files:
            raise ConfigurationError(
                f"{path}: no {MODEL} in this folder or below it; name a checkpoint or a run's folder."
            )
        for file in files:
            named.setdefault(file.absolute(), file)
    if not named:
        return {}
    first, *more = map(str, named.values())
    return {"checkpoint": first, **({"more_checkpoints": more} if more else {})}


def warn_of_trained_cases(split_file: str | Path, section: str, more: Sequence[str | Path]) -> None:
    """Say where further checkpoints were trained on cases that they are now asked about, as folds are."""
    asked = _cases(Path(split_file), section)
    for checkpoint in more:
        known = asked & _cases(Path(checkpoint).with_name("split.json"), "training")
        if known:
            logger.warning(
                f"{checkpoint}: was trained on {len(known)} of the {len(asked)} {section} cases; "
                "figures and choices made on them flatter."
            )


def _cases(split_file: Path, section: str) -> set[str]:
    try:
        return {str(entry["case"]) for entry in json.loads(split_file.read_text(encoding="utf-8"))[section]}
    except (OSError, ValueError, KeyError, TypeError):
        return set()  # whoever reads the split for its cases says what is wrong with it


MODEL_CARD = "README.md"
"""Lies beside weights that were shipped, and not in a run's folder."""


def default_checkpoint() -> str:
    """The weights shipped in the bundle."""
    return str(Path(bundle_root()) / "models" / "model.pt")


def check_checkpoint(checkpoint: str | Path) -> None:
    """Raises `ConfigurationError` in one line where the weights are missing."""
    if Path(checkpoint).is_dir():
        raise ConfigurationError(f"{checkpoint}: {not_a_file(Path(checkpoint))}")
    if not Path(checkpoint).is_file():
        raise ConfigurationError(
            f"{checkpoint}: no such weights; name some by --checkpoint FILE, "
            "or train with  brats-unet train --dataset-dir DIR --out RUN  and use RUN/model.pt."
        )
