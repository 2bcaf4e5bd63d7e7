"""Evaluation: label maps predicted for a section of a datalist, scored on the patients' own grids."""

from __future__ import annotations

import csv
import io
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine, Events

from transforms.files import write_whole
from transforms.labels import REGION_NAMES, REGIONS
from workflows.configuration import run_configuration
from workflows.errors import ConfigurationError, DatasetError
from workflows.label_conventions import LABEL_CONVENTIONS
from workflows.predict import check_checkpoint, predict, volumes_ml
from workflows.scores import region_dice
from workflows.split import SECTIONS, read_datalist, samples

logger = logging.getLogger(__name__)

PER_CASE_FILE, SUMMARY_FILE = "per_case.csv", "summary.json"
COLUMNS = ("case", "region", "dice", "volume_ml", "reference_ml")


def run_evaluation(variants: Iterable[str], overrides: Mapping[str, Any]) -> None:
    """Run `inference.json` with the overlay `evaluate.json`; data and split are the run's own unless others are named.

    Raises:
        ConfigurationError: if neither the checkpoint's run nor `overrides` name them.
    """
    checkpoint = Path(overrides["checkpoint"])
    check_checkpoint(checkpoint)
    own = run_configuration(checkpoint)
    defaults = {"dataset_dir": own.get("dataset_dir"), "split_file": str(checkpoint.parent / "split.json")}
    named = {name: value for name, value in {**defaults, **overrides}.items() if value is not None}
    predict(["evaluate", *variants], named)


def datalist(
    dataset_dir: str | Path, split_file: str | Path, section: str, modalities: Sequence[str]
) -> dict[str, Any]:
    """The labelled cases of one section.

    Returns:
        "cases": [{"case": id, "image": [one file per modality], "label": file}, …]; "label_values": class index of
        each value in the label files.
    Raises:
        ConfigurationError: if no split or an unknown or empty section is named.
    """
    if not str(dataset_dir) or not str(split_file):
        raise ConfigurationError(
            "evaluation needs --dataset_dir DIR and --split_file FILE; a run keeps its split.json."
        )
    if section not in SECTIONS:
        raise ConfigurationError(f"no section {section!r}; there are {', '.join(SECTIONS)}.")
    split = read_datalist(split_file, dataset_dir)
    cases = samples(split[section], modalities)
    if not cases:
        raise ConfigurationError(f"{split_file}: the section {section} is empty.")
    return {"cases": cases, "label_values": dict(LABEL_CONVENTIONS[split["label_convention"]].classes)}


class CaseTable:
    """Scores each case's label map against its reference, writes `per_case.csv` and `summary.json`, prints a table."""

    def __init__(self, output_dir: str | Path) -> None:
        self.output_dir = Path(output_dir)
        self.rows: list[dict[str, Any]] = []

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._score_batch)
        engine.add_event_handler(Events.COMPLETED, self._finish)

    def _score_batch(self, engine: Engine) -> None:
        for batch, output in zip(engine.state.batch, engine.state.output, strict=True):  # type: ignore[call-overload]
            self.rows += score_case(batch["case"], output["label_map"], output["label"])

    def _finish(self, engine: Engine) -> None:
        means = mean_dice(self.rows)
        engine.state.metrics |= {f"{region.lower()}_dice": mean for region, mean in means.items()}
        summary = {
            "cases": len(self.rows) // len(REGIONS),
            "mean_dice": means,
            "grid": "whole volumes on the patients' own grid",
            "empty_regions": "both empty: Dice 1; one empty: Dice 0 (BraTS)",
        }
        write_whole(self.output_dir / PER_CASE_FILE, self._write_rows)
        text = json.dumps(summary, indent=2) + "\n"
        write_whole(self.output_dir / SUMMARY_FILE, lambda path: path.write_text(text))
        print_table(self.rows)
        logger.info(f"{PER_CASE_FILE} and {SUMMARY_FILE} in {self.output_dir.resolve()}")

    def _write_rows(self, path: Path) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        path.write_text(text.getvalue())


def score_case(case: str, prediction: Any, reference: Any) -> list[dict[str, Any]]:
    """One row per region.

    Args:
        prediction, reference: `MetaTensor`s (1, H, W, D) of class indices.
    Raises:
        DatasetError: if they lie on different grids.
    """
    if prediction.shape != reference.shape or not np.allclose(prediction.affine, reference.affine, atol=1e-3):
        raise DatasetError(f"{case}: its segmentation has another shape or affine than its images.")
    dice = region_dice(prediction, reference)
    volume, reference_volume = volumes_ml(prediction), volumes_ml(reference)
    return [
        {
            "case": case,
            "region": region,
            "dice": dice[region],
            "volume_ml": volume[region],
            "reference_ml": reference_volume[region],
        }
        for region in REGIONS
    ]


def mean_dice(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Mean over the cases, by region."""
    return {region: float(np.mean([row["dice"] for row in rows if row["region"] == region])) for region in REGIONS}


def print_table(rows: Sequence[dict[str, Any]]) -> None:
    """Dice per case and region, and their means."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title="Dice on whole volumes, native grid", title_justify="left")
    table.add_column("case")
    for region in REGIONS:
        table.add_column(f"{region}\n{REGION_NAMES[region]}", justify="right")
    cases = list(dict.fromkeys(row["case"] for row in rows))
    for case in cases:
        table.add_row(case, *(f"{row['dice']:.3f}" for row in rows if row["case"] == case))
    table.add_section()
    table.add_row(f"mean of {len(cases)}", *(f"{mean:.3f}" for mean in mean_dice(rows).values()))
    Console().print(table)
