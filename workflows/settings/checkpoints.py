"""Several checkpoints whose class probabilities are averaged: which are meant, and do they read the same input."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from workflows.files.run_folder import MODEL, run_configuration
from workflows.messages.errors import ConfigurationError
from workflows.settings.beside_checkpoint import SETTINGS_OF_A_NETWORK, settings_beside
from workflows.settings.bundle_files import bundle_root, config_files

logger = logging.getLogger(__name__)

INPUT_SETTINGS = tuple(
    name for name in SETTINGS_OF_A_NETWORK if name not in ("network_def", "slice_range", "whole_brain")
)
"""What two runs must share for their networks to be asked about the same slices and to answer for the same voxels."""


def named_checkpoints(paths: Sequence[Path]) -> dict[str, Any]:
    """The settings `checkpoint` and `more_checkpoints` for the files and folders that a person named.

    Args:
        paths: a folder stands for each model.pt in it and below it, in the order of their names.
    Raises:
        ConfigurationError: if a folder holds none.
    """
    named: dict[Path, Path] = {}
    for path in paths:
        for file in _files(path):
            named.setdefault(file.absolute(), file)
    files = list(named.values())
    if not files:
        return {}
    return {"checkpoint": str(files[0])} | ({"more_checkpoints": list(map(str, files[1:]))} if files[1:] else {})


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(path.rglob(MODEL))
    if not found:
        raise ConfigurationError(f"{path}: no {MODEL} in this folder or below it; name a checkpoint or a run's folder.")
    return found


def check_same_input(first: str | Path, settings: Mapping[str, Any], more: Sequence[str | Path]) -> None:
    """Compare the settings with which further checkpoints were trained with those of this prediction.

    A checkpoint without its run's configuration beside it is taken to have the same.

    Raises:
        ConfigurationError: naming the first setting that differs.
    """
    defaults: dict[str, Any] = json.loads(Path(config_files("inference")[0]).read_text(encoding="utf-8"))
    for checkpoint in more:
        if not run_configuration(checkpoint):
            continue
        own = {**defaults, **settings_beside(checkpoint)}
        for name in _compared(settings):
            here, there = settings[name], own[name]
            if _plain(here) != _plain(there):
                raise ConfigurationError(
                    f"{checkpoint}: cannot be averaged with {first}: {name} is {there} in its run and {here} here; "
                    "average checkpoints that read the same input."
                )


def _compared(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """The window matters to the input only where intensities are divided by its maximum."""
    return (*INPUT_SETTINGS, *(("slice_range",) if settings["normalisation"] == "window_maximum" else ()))


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, list | tuple) else value


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
    if not Path(checkpoint).is_file():
        raise ConfigurationError(
            f"{checkpoint}: no such weights; name some by --checkpoint FILE, "
            "or train with  brats-unet train --dataset-dir DIR --out RUN  and use RUN/model.pt."
        )
