"""One row per network of a comparison, from the files that its steps have left."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transforms.labels import REGIONS
from workflows.evaluation.output_files import SUMMARY_FILE
from workflows.scoring.per_case_csv import PER_CASE_FILE, read_rows

COLUMNS = (
    *("network", "parameters", "epochs", "steps_per_epoch", "seconds_per_step", "seconds_are"),
    *("training_minutes", "training_wall_minutes", "training_gb", "prediction_seconds", "prediction_gb"),
    *("cases", "mean_dice", *(f"{region.lower()}_dice" for region in REGIONS)),
    *(f"{region.lower()}_hd95_mm" for region in REGIONS),
)
"""Of networks.csv. Seconds are of the processor or of the wall clock, as `seconds_are` says; `training_minutes` is the
whole process, reading the cases included; `prediction_seconds` the median over the cases; memory the most at once in
10⁹ bytes, of the GPU where there is one. Dice and HD95 are means over the cases."""


def network_row(folder: Path) -> dict[str, Any] | None:
    """`COLUMNS` of a network, and "by_case": {case: {region: Dice}}; None where it is not finished."""
    files = (folder / "steps.json", folder / "training.json", folder / "scores" / "cost.json")
    if not all(file.is_file() for file in files):
        return None
    steps, training, prediction = (json.loads(file.read_text()) for file in files)
    summary = json.loads((folder / "scores" / SUMMARY_FILE).read_text())
    on_gpu = "gpu_memory_gb" in training
    memory = "gpu_memory_gb" if on_gpu else "memory_gb"
    by_case: dict[str, dict[str, float]] = defaultdict(dict)
    for row in read_rows(folder / "scores" / PER_CASE_FILE):
        if row["region"] in REGIONS:
            by_case[row["case"]][row["region"]] = row["dice"]
    dice = {f"{region.lower()}_dice": summary["mean_dice"][region] for region in REGIONS}
    hd95 = {f"{region.lower()}_hd95_mm": summary["regions"][region]["hd95_mm"]["mean"] for region in REGIONS}
    return {
        "network": folder.name,
        **{name: steps[name] for name in ("parameters", "steps_per_epoch", "seconds_per_step")},
        "epochs": training["epochs"],
        "seconds_are": "wall clock" if on_gpu else "CPU",
        "training_minutes": training["wall_seconds" if on_gpu else "cpu_seconds"] / 60,
        "training_wall_minutes": training["wall_seconds"] / 60,
        "training_gb": training[memory],
        "prediction_seconds": prediction["seconds_per_case"],
        "prediction_gb": prediction[memory],
        "cases": summary["cases"],
        "mean_dice": sum(dice.values()) / len(dice),
        **dice,
        **hd95,
        "by_case": dict(by_case),
    }


def cases_in_words(rows: Sequence[Mapping[str, Any]]) -> str:
    """How many cases were scored, e.g. "1 case"."""
    cases = rows[0]["cases"]
    return f"{cases} case{'s' * (cases != 1)}"
