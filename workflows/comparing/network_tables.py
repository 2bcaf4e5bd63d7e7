"""What a comparison of networks found: a row for each, from the files that its steps have left, and the tables."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transforms.files import MARKDOWN_MARK
from transforms.labels import REGIONS
from workflows.evaluation.output_files import SUMMARY_FILE
from workflows.files.json_files import write_json
from workflows.files.text_files import write_text
from workflows.messages.text_tables import TextTable, cell
from workflows.scoring.per_case_csv import PER_CASE_FILE, read_rows, write_rows

COLUMNS = (
    *("network", "parameters", "epochs", "steps_per_epoch", "seconds_per_step", "seconds_are"),
    *("training_minutes", "training_wall_minutes", "training_gb", "prediction_seconds", "prediction_gb"),
    *("cases", "mean_dice", *(f"{region.lower()}_dice" for region in REGIONS)),
    *(f"{region.lower()}_hd95_mm" for region in REGIONS),
)
"""Of networks.csv. Seconds are of the processor or wall clock, as `seconds_are` says; `training_minutes` of the whole
process; `prediction_seconds` the median over the cases; memory the most at once in 10⁹ bytes, of the GPU if there is
one. Dice and HD95 are means over the cases."""

TABLE_FILE, JSON_FILE, MARKDOWN_FILE, PICTURE_FILE = "networks.csv", "networks.json", "networks.md", "networks.png"
TABLES = (TABLE_FILE, JSON_FILE, MARKDOWN_FILE, PICTURE_FILE)
TITLE = "Networks under one budget"
LEFT_TO_THE_FILES = ("training (CPU", "training (wall", "prediction (GB", "Dice", "HD95")
"""Beginnings of the columns for which a terminal is too narrow."""


def network_row(folder: Path) -> dict[str, Any] | None:
    """`COLUMNS` of a network, and "by_case": {case: {region: Dice}}; None where it is not finished."""
    files = (folder / "steps.json", folder / "training.json", folder / "scores" / "cost.json")
    if not all(file.is_file() for file in files):
        return None
    steps, training, prediction = (json.loads(file.read_text(encoding="utf-8")) for file in files)
    summary = json.loads((folder / "scores" / SUMMARY_FILE).read_text(encoding="utf-8"))
    on_gpu = "gpu_memory_gb" in training
    memory, seconds = ("gpu_memory_gb", "wall_seconds") if on_gpu else ("memory_gb", "cpu_seconds")
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
        "training_minutes": training[seconds] / 60,
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


def write_tables(rows: Sequence[Mapping[str, Any]], described: Mapping[str, Any], out: Path) -> None:
    """Write the four files from rows of `network_row`; `described` has "minutes" and "section" of the comparison.

    Raises:
        ConfigurationError: if the folder cannot be written to.
    """
    from workflows.comparing.network_figures import draw_networks

    table = table_of(rows)
    picture = f"![Mean Dice against cost]({PICTURE_FILE})"
    text = f"{MARKDOWN_MARK}\n{table.to_markdown()}\n{picture}\n\n{notes(rows, described)}"
    write_json({"schema_version": "1.0", **described, "networks": list(rows)}, out / JSON_FILE)
    draw_networks(rows, out / PICTURE_FILE, cases_in_words(rows))
    write_rows([{name: row[name] for name in COLUMNS} for row in rows], out / TABLE_FILE, COLUMNS)
    write_text(out / MARKDOWN_FILE, text)


def print_table(rows: Sequence[Mapping[str, Any]], out: Path) -> None:
    """The most important columns to the terminal, and where the files are; nothing where no network is finished."""
    if rows:
        whole = table_of(rows)
        places = [place for place, name in enumerate(whole.columns) if not name.startswith(LEFT_TO_THE_FILES)]
        short = [[cells[place] for place in places] for cells in (whole.columns, *whole.rows)]
        TextTable(TITLE, short[0], short[1:]).print()
        print(f"{TABLE_FILE}, {JSON_FILE}, {MARKDOWN_FILE} and {PICTURE_FILE} in {out.resolve()}", flush=True)


def table_of(rows: Sequence[Mapping[str, Any]]) -> TextTable:
    """The networks, the best mean Dice first."""
    seconds = rows[0]["seconds_are"]
    regions = [region.lower() for region in REGIONS]
    columns = {
        "network": lambda row: row["network"],
        "parameters (M)": lambda row: cell(row["parameters"] / 1e6, 2),
        "epochs": lambda row: str(row["epochs"]),
        f"training ({seconds} min)": lambda row: cell(row["training_minutes"], 1),
        "training (GB)": lambda row: cell(row["training_gb"], 2),
        f"prediction ({seconds} s)": lambda row: cell(row["prediction_seconds"], 1),
        "prediction (GB)": lambda row: cell(row["prediction_gb"], 2),
        f"Dice {' / '.join(REGIONS)}": lambda row: " / ".join(cell(row[f"{r}_dice"], 3) for r in regions),
        "mean Dice": lambda row: cell(row["mean_dice"], 3),
        f"HD95 {' / '.join(REGIONS)} (mm)": lambda row: " / ".join(cell(row[f"{r}_hd95_mm"], 1) for r in regions),
    }
    ordered = sorted(rows, key=lambda row: (-row["mean_dice"], row["network"]))
    return TextTable(TITLE, list(columns), [[of(row) for of in columns.values()] for row in ordered])


def notes(rows: Sequence[Mapping[str, Any]], described: Mapping[str, Any]) -> str:
    """How the figures came about and what they do not show, in Markdown."""
    cases, seconds = cases_in_words(rows), rows[0]["seconds_are"]
    clock = "processor time" if seconds == "CPU" else "wall clock"
    return (
        f"Each network was trained for as many whole epochs as fit in {described['minutes']:g} minutes of {clock} by "
        "its measured seconds per step, one at least; *training* is the whole process, reading the cases included. "
        f"Scores are of whole volumes of the {cases} of the section {described['section']}, with the weights "
        "after the last epoch; *prediction* is the median per case, from its files to its label map; memory is the "
        "most at once.\n\n"
        f"What this does not show: which network is best. It is one seed, one split and {cases}; recipe, "
        "learning rate and input are the same for all and were tuned to none but the default network; with more time "
        "larger networks may overtake smaller ones.\n"
    )
