"""The real cases that experiments are measured on, and the folds they are divided into."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from workflows.data.case import load_entry
from workflows.data.find_cases import find_cases
from workflows.messages.errors import DatasetError

FOLDS = Path(__file__).with_name("folds.json")
SECTION = "validation"
"""Where the datalist of a fold holds the fold's cases; nothing is chosen on them, see `runs.PROTOCOL`."""


def read_folds() -> list[list[str]]:
    """The cases of each fold."""
    folds: list[list[str]] = json.loads(FOLDS.read_text())["folds"]
    return folds


def fold_split(fold: int, data: Path) -> dict[str, Any]:
    """The datalist of a fold: its cases under `SECTION`, those of all others to train on."""
    fold_of = {case: number for number, cases in enumerate(read_folds()) for case in cases}
    found = {case.id: case for case in find_cases(data).cases}
    if missing := sorted(set(fold_of) - set(found)):
        raise DatasetError(f"{data}: has no case {', '.join(missing)}, which {FOLDS.name} names.")
    split: dict[str, Any] = {"label_convention": "brats-to-2022", "training": [], "validation": [], "testing": []}
    for case, number in sorted(fold_of.items()):
        entry = load_entry(found[case], found[case].modalities, data)
        split[SECTION if number == fold else "training"].append(entry)
    return split


def real_data() -> Path:
    """The folder in BRATS_REAL_DATA.

    Raises:
        DatasetError: if it is unset.
    """
    if not os.environ.get("BRATS_REAL_DATA"):
        raise DatasetError("BRATS_REAL_DATA is unset; name the folder of the real cases.")
    return Path(os.environ["BRATS_REAL_DATA"]).resolve()
