"""The picture of a comparison of networks: mean Dice against size, time and memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from workflows.pictures.drawing import chart_figure, plain, save

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F", "#F0E442")
MARKERS = "osD^vPX<>"
"""Okabe and Ito's colours, a grey, and as many shapes."""
LEGEND_COLUMNS = 5


def draw_networks(rows: Sequence[Mapping[str, Any]], path: Path, cases: str) -> Path:
    """Three panels with a point per row of `network_tables.network_row`; the line through it spans the cases."""
    seconds = rows[0]["seconds_are"]
    panels = {
        "parameters (millions)": [row["parameters"] / 1e6 for row in rows],
        f"prediction per case ({seconds} seconds)": [row["prediction_seconds"] for row in rows],
        "memory of the training (GB)": [row["training_gb"] for row in rows],
    }
    figure = chart_figure(14, 5)
    all_axes = figure.subplots(1, len(panels), sharey=True)
    for axes, (title, values) in zip(all_axes, panels.items(), strict=True):
        _draw_panel(axes, rows, values)
        axes.set_xlabel(title)
    all_axes[0].set_ylabel("mean Dice of WT, TC and ET")
    named = all_axes[0].get_legend_handles_labels()
    figure.legend(*named, loc="outside lower center", ncols=LEGEND_COLUMNS, frameon=False)
    figure.suptitle(f"Mean Dice of {cases}; lines from the worst case to the best", fontsize=11)
    return save(figure, path)


def look(number: int) -> tuple[str, str]:
    """Colour and shape of a network's point; the tenth has the first one's colour in the second one's shape."""
    return COLOURS[number % len(COLOURS)], MARKERS[(number + number // len(COLOURS)) % len(MARKERS)]


def _draw_panel(axes: Axes, rows: Sequence[Mapping[str, Any]], values: Sequence[float]) -> None:
    axes.set_xscale("log")
    low, high = min(values), max(values)
    axes.set_xlim(low / (high / low * 1.5) ** 0.3, high * (high / low * 1.5) ** 0.3)
    axes.set_ylim(-0.02, 1.02)
    for number, (row, value) in enumerate(zip(rows, values, strict=True)):
        means = [sum(dice.values()) / len(dice) for dice in row["by_case"].values()]
        colour, marker = look(number)
        axes.plot([value, value], [min(means), max(means)], color=colour, linewidth=1, alpha=0.5, zorder=1)
        point: dict[str, Any] = {"markersize": 9, "fillstyle": "none", "markeredgewidth": 2, "zorder": 3}
        axes.plot(value, row["mean_dice"], marker, label=row["network"], color=colour, **point)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5, 7)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.25)
    plain(axes)
