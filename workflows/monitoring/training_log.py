"""`training.log`: the figures of every epoch as CSV."""

from __future__ import annotations

import csv
import logging
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events
from torch.optim import Optimizer

from transforms.files import write_whole

logger = logging.getLogger(__name__)
FIGURES = (
    *("loss", "accuracy", "study_dice", "study_mean_iou", "precision", "sensitivity", "specificity"),
    *("wt_dice", "tc_dice", "et_dice"),
)
SHOWN_FIGURES = {
    "loss": "loss",
    "val_loss": "val loss",
    "val_wt_dice": "val WT",
    "val_tc_dice": "val TC",
    "val_et_dice": "val ET",
}
"""What a person sees of every epoch, with titles."""
LOG_COLUMNS = ("epoch", "lr", *FIGURES, *(f"val_{figure}" for figure in FIGURES))


def figures_of_epoch(trainer: Engine, validator: Engine) -> dict[str, Any]:
    """The trainer's figures, and the validator's if it validated in this epoch."""
    validated = validator.state.epoch == trainer.state.epoch  # else its figures are of an earlier epoch
    return {**trainer.state.metrics, **(validator.state.metrics if validated else {})}


class TrainingLog:
    """`training.log`: one CSV row of `LOG_COLUMNS` per epoch, and a plain line where no table is shown.

    Attach it to the trainer after the handler that validates, and before those that report or change the learning rate.
    A run that continues keeps its rows.
    """

    def __init__(self, path: str | Path, validator: Engine, optimizer: Optimizer) -> None:
        self.path, self.validator, self.optimizer = Path(path), validator, optimizer
        self.rows: list[dict[str, Any]] = []
        self.started = time.monotonic()

    @idist.one_rank_only()
    def attach(self, engine: Engine) -> None:
        """To the trainer."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Add the row of the epoch that has ended."""
        engine.state.metrics["lr"] = self.optimizer.param_groups[0]["lr"]  # where TensorBoard's handler finds it
        figures = {"epoch": engine.state.epoch, **figures_of_epoch(engine, self.validator)}
        self.rows.append({column: figures.get(column, "") for column in LOG_COLUMNS})
        write_whole(self.path, self._write)
        if not sys.stdout.isatty():  # there `EpochTable` says it
            logger.info(self._line(engine, figures))

    def _start(self, engine: Engine) -> None:
        self.started, self.first_epoch = time.monotonic(), engine.state.epoch
        if self.first_epoch and self.path.exists():
            with self.path.open(encoding="utf-8", newline="") as log:
                rows = [row for row in csv.DictReader(log) if int(row["epoch"]) <= self.first_epoch]
            self.rows = [{column: row.get(column, "") for column in LOG_COLUMNS} for row in rows]

    def _write(self, path: Path) -> None:
        with path.open("w", encoding="utf-8", newline="") as log:
            writer = csv.DictWriter(log, LOG_COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)

    def _line(self, engine: Engine, figures: Mapping[str, Any]) -> str:
        scores = ", ".join(f"{name} {figures[name]:.3f}" for name in SHOWN_FIGURES if name in figures)
        done, total = engine.state.epoch, engine.state.max_epochs or engine.state.epoch
        per_epoch = (time.monotonic() - self.started) / max(done - self.first_epoch, 1)
        return f"epoch {done}/{total}: {scores}; {per_epoch:.0f} s per epoch, {per_epoch * (total - done):.0f} s left"
