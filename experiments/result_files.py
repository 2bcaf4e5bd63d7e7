"""The figures of an experiment: results/NAME.json, one entry per fold, written as soon as the fold is scored."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from workflows.files.json_files import write_json

RESULTS = Path(__file__).with_name("results")
ON_GPU = RESULTS / "gpu"
"""Figures of runs on a GPU, which rounds otherwise: compared among themselves."""

Figures = dict[str, Any]
"""Of one fold: the scores of its cases, what it cost, and the settings."""
Results = dict[str, dict[int, Figures]]
"""Figures by experiment and fold."""


def read_results(folder: Path) -> Results:
    """All that was measured, in the order of names and folds."""
    return {file.stem: read_experiment(file.stem, folder) for file in sorted(folder.glob("*.json"))}


def read_experiment(name: str, folder: Path) -> dict[int, Figures]:
    """Figures by fold, in the order of the folds; none where there is no file."""
    file = folder / f"{name}.json"
    return {int(fold): figures for fold, figures in json.loads(file.read_text()).items()} if file.is_file() else {}


def write_fold(figures: Mapping[str, Any], folder: Path) -> Path:
    """Put the figures of one fold into the file of their experiment; those of its other folds stay as they are."""
    name, file = figures["experiment"], folder / f"{figures['experiment']}.json"
    with _locked(folder):
        folds = {**read_experiment(name, folder), figures["fold"]: dict(figures)}
        write_json({str(fold): folds[fold] for fold in sorted(folds)}, file)
    return file


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Threads and processes that finish folds of the same experiment at the same time change its file in turn."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
