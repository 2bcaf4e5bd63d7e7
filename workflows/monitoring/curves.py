"""A run's curves, drawn from its `training.log`: training against validation, with the best epoch marked."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from transforms.labels import REGION_NAMES, REGIONS
from workflows.files.outputs import check_outputs
from workflows.files.run_folder import CURVES, LOG, run_configuration
from workflows.messages.errors import ConfigurationError, not_a_folder
from workflows.pictures.drawing import plain, save

PANELS = {
    "accuracy": "accuracy",
    "loss": "loss",
    "study_dice": "Dice, the study's",
    "study_mean_iou": "mean IoU, the study's",
    **{f"{region.lower()}_dice": f"Dice, {REGION_NAMES[region]}" for region in REGIONS},
}
SHARES = ("dice", "iou")
"""Ends of the names of figures that are drawn from 0 to 1; the others would be flat lines there."""
COLUMNS_OF_PANELS = 4
TRAINING_COLOUR, VALIDATION_COLOUR, BEST_COLOUR = "#0072B2", "#D55E00", "#555555"  # of Okabe and Ito's palette
DEFAULT_BEST = "val_mean_region_dice"

Row = Mapping[str, float]


def draw_curves(run: Path, out: Path | None = None) -> Path:
    """Draw `RUN/training.log`, by default as `RUN/curves.png`.

    Raises:
        ConfigurationError: if there is no log, or it is not one.
    """
    rows = read_log(run / LOG)
    settings = run_configuration(run / LOG)
    best = best_epoch(rows, str(settings.get("best_figure", DEFAULT_BEST)), settings.get("best_is_lowest") is True)
    out = out or run / CURVES
    check_outputs([out])
    return save(curves_figure(rows, best), out, dpi=100)


def read_log(log: Path) -> list[dict[str, float]]:
    """The rows of a `training.log`; a figure that was not computed in an epoch is NaN.

    Raises:
        ConfigurationError: if it is missing, holds no epoch, or a line is no row of figures.
    """
    if log.parent.is_file():
        raise ConfigurationError(f"{log.parent}: {not_a_folder(log.parent)}")
    if not log.is_file():
        raise ConfigurationError(f"{log}: no such file; name the folder of a run, as  brats-unet train --out RUN.")
    with log.open(encoding="utf-8", newline="", errors="replace") as file:
        table = csv.DictReader(file)
        lacking = {"epoch", *PANELS} - set(table.fieldnames or ())
        if lacking:
            raise ConfigurationError(f"{log}: is no training log; it has no column {', '.join(sorted(lacking))}.")
        rows = [_numbers(row, f"{log}, line {table.line_num}") for row in table]
    if not rows:
        raise ConfigurationError(f"{log}: holds no epoch yet; wait for the first one to end.")
    return rows


def _numbers(row: Mapping[str, Any], where: str) -> dict[str, float]:
    try:
        return {name: float(value) if value else math.nan for name, value in row.items()}
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"{where}: is no row of figures.") from error


def best_epoch(rows: Sequence[Row], figure: str = DEFAULT_BEST, lowest: bool = False) -> int | None:
    """The epoch whose weights a run keeps: the first with the best figure; None where no epoch has that figure.

    `figure` is a column, or "val_mean_region_dice", the mean of the regions' columns; `lowest` is for a loss.
    """
    parts = [f"val_{region.lower()}_dice" for region in REGIONS] if figure == DEFAULT_BEST else [figure]
    scored = {int(row["epoch"]): sum(row.get(part, math.nan) for part in parts) * (-1 if lowest else 1) for row in rows}
    known = {epoch: score for epoch, score in scored.items() if not math.isnan(score)}
    return max(known, key=lambda epoch: known[epoch]) if known else None


def curves_figure(rows: Sequence[Row], best: int | None) -> Figure:
    """One panel per entry of `PANELS`, above each the validation figure of the best epoch, and last the legend."""
    lines = -(-(len(PANELS) + 1) // COLUMNS_OF_PANELS)
    figure = Figure(figsize=(3.3 * COLUMNS_OF_PANELS, 2.6 * lines), layout="constrained")
    panels = list(figure.subplots(lines, COLUMNS_OF_PANELS).flat)
    for axes, (name, title) in zip(panels, PANELS.items(), strict=False):
        _draw_panel(axes, rows, name, best)
        axes.set_title(title, fontsize=10, loc="left")
    for axes in panels[len(PANELS) :]:
        axes.set_axis_off()
    handles, labels = panels[0].get_legend_handles_labels()
    panels[len(PANELS)].legend(handles, labels, loc="center", frameon=False, fontsize=11)
    return figure


def _draw_panel(axes: Axes, rows: Sequence[Row], name: str, best: int | None) -> None:
    epochs = [row["epoch"] for row in rows]
    curves = (("training", name, TRAINING_COLOUR), ("validation", f"val_{name}", VALIDATION_COLOUR))
    for label, column, colour in curves:
        points = [(epoch, row[column]) for epoch, row in zip(epochs, rows, strict=True) if column in row]
        known = [(epoch, value) for epoch, value in points if math.isfinite(value)]
        axes.plot(*zip(*known, strict=True) if known else ([], []), color=colour, marker=".", markersize=4, label=label)
    if best is not None:
        value = next(row.get(f"val_{name}", math.nan) for row in rows if row["epoch"] == best)
        axes.axvline(best, color=BEST_COLOUR, linestyle=":", linewidth=1.2, label=f"best epoch, {best}")
        if math.isfinite(value):
            axes.plot(best, value, "o", color=VALIDATION_COLOUR, markerfacecolor="white", markersize=6)
            axes.set_title(f"{value:.3f}", fontsize=10, loc="right", color=VALIDATION_COLOUR)
    if name.endswith(SHARES):
        axes.set_ylim(0, 1)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    axes.set_xlabel("epoch", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25)
    plain(axes)
