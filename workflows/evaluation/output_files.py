"""What an evaluation leaves in its folder, and shows on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from workflows.evaluation.scores_as_text import as_markdown, explanations, score_tables
from workflows.files.json_files import write_json
from workflows.files.text_files import write_text
from workflows.scoring.lesions import LESION_PENALTY_MM
from workflows.scoring.per_case_csv import PER_CASE_FILE, Row, write_rows
from workflows.scoring.score_case import Rules
from workflows.scoring.score_list import EMPTY_HD95_MM, SCORES
from workflows.scoring.statistics import INTERVAL_METHOD, summarise
from workflows.scoring.surface_distances import Definition

SUMMARY_FILE, SCORES_FILE = "summary.json", "scores.md"
DICE_PICTURE, VOLUMES_PICTURE = "dice_by_region.png", "volumes.png"
SCORE_FILES = (PER_CASE_FILE, SUMMARY_FILE, SCORES_FILE, DICE_PICTURE, VOLUMES_PICTURE)
"""All that an evaluation writes beside label maps."""

SCHEMA_VERSION = f"1.{max(score.since for score in SCORES)}"
"""Of docs/summary.schema.json: the first number changes when an entry goes or means another thing, the second when one
is added."""

HD95_AS = {"brats": "BraTS takes it (surfaces weighed by area)", "monai": "MONAI takes it (surface voxels counted)"}


def summary_of(
    rows: Sequence[Row],
    rules: Rules,
    hd95: Definition,
    source: Mapping[str, str],
    skipped: Sequence[Mapping[str, str]] = (),
    sections: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """The content of `summary.json`.

    Args:
        source: what was scored and where it came from, by name, in words.
        skipped: {"case", "reason"} of the cases left out.
        sections: further entries by the names in `SECTION_TABLES`.
    """
    regions = summarise(rows)
    return {
        "schema_version": SCHEMA_VERSION,
        "cases": len({row["case"] for row in rows}),
        "skipped": [dict(case) for case in skipped],
        "settings": {
            "rules": rules,
            "hd95": hd95,
            "hd95_as": HD95_AS[hd95],
            "empty_hd95_mm": EMPTY_HD95_MM[rules],
            "lesion_penalty_mm": LESION_PENALTY_MM,
            "grid": "whole volumes on the patients' own grids",
        },
        "source": dict(source),
        "mean_dice": {name: region["dice"]["mean"] for name, region in regions.items()},
        "regions": regions,
        "interval": INTERVAL_METHOD,
        **(sections or {}),
    }


def report_scores(rows: Sequence[Row], out: Path, **described: Any) -> dict[str, Any]:
    """Write `per_case.csv`, `summary.json`, `scores.md` and two pictures into `out`, and print the tables.

    Returns:
        The summary, made from the rows and what `described` gives to `summary_of`.
    Raises:
        ConfigurationError: if the folder cannot be written to.
    """
    from workflows.evaluation.score_figures import draw_dice, draw_volumes

    summary = summary_of(rows, **described)
    pictures = {"Dice per case and region": DICE_PICTURE, "Predicted against true volume": VOLUMES_PICTURE}
    text = as_markdown(summary, pictures)
    write_rows(rows, out / PER_CASE_FILE)
    draw_dice(rows, out / DICE_PICTURE)
    draw_volumes(rows, out / VOLUMES_PICTURE)
    write_text(out / SCORES_FILE, text)
    write_json(summary, out / SUMMARY_FILE)
    for table in score_tables(summary):
        table.print()
    print("\n".join(explanations(summary)))
    print(f"{PER_CASE_FILE}, {SUMMARY_FILE}, {SCORES_FILE}, {DICE_PICTURE} and {VOLUMES_PICTURE} in {out.resolve()}")
    return summary
