"""The picture of a comparison of networks: mean Dice against size, time and memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from workflows.drawing import chart_figure, save
from workflows.network_tables import cases_in_words

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F", "#F0E442")
MARKERS = "osD^vPX<>"
"""Okabe and Ito's colours, a grey, and as many shapes; a tenth network starts anew, and the labels tell it apart."""
LABEL_HEIGHT = 0.065  # of the panel's height
LABEL_DISTANCE = 0.05  # of its width
LABEL_WIDTH = 0.36
PUSHES = 200


def draw_networks(rows: Sequence[Mapping[str, Any]], path: Path) -> Path:
    """Three panels, one point per network with its name; the line through it spans the cases.

    Args:
        rows: see `network_rows.network_row`.
    """
    seconds = rows[0]["seconds_are"]
    panels = {
        "parameters (millions)": [row["parameters"] / 1e6 for row in rows],
        f"prediction per case ({seconds} seconds)": [row["prediction_seconds"] for row in rows],
        "memory of the training (GB)": [row["training_gb"] for row in rows],
    }
    figure = chart_figure(14, 4.6)
    all_axes = figure.subplots(1, len(panels), sharey=True)
    for axes, (title, values) in zip(all_axes, panels.items(), strict=True):
        _draw_panel(axes, rows, values)
        axes.set_xlabel(title)
    all_axes[0].set_ylabel("mean Dice of WT, TC and ET")
    figure.suptitle(f"Mean Dice of {cases_in_words(rows)}; lines from the worst case to the best", fontsize=11)
    return save(figure, path)


def _draw_panel(axes: Axes, rows: Sequence[Mapping[str, Any]], values: Sequence[float]) -> None:
    axes.set_xscale("log")
    low, high = min(values), max(values)
    axes.set_xlim(low / (high / low * 1.5) ** 0.3, high * (high / low * 1.5) ** 0.3)
    axes.set_ylim(-0.02, 1.02)
    for number, (row, value) in enumerate(zip(rows, values, strict=True)):
        means = [sum(dice.values()) / len(dice) for dice in row["by_case"].values()]
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
        axes.plot([value, value], [min(means), max(means)], color=colour, linewidth=1, alpha=0.5, zorder=1)
        axes.plot(value, row["mean_dice"], marker, color=colour, markersize=8, markeredgecolor="white", zorder=3)
    _label(axes, [row["network"] for row in rows], values, [row["mean_dice"] for row in rows])
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5, 7)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _label(axes: Axes, names: Sequence[str], x: Sequence[float], y: Sequence[float]) -> None:
    """Names beside their points, moved up or down where two would overlap, each with a thin line to its point."""
    to_axes = axes.transScale + axes.transLimits
    points = [tuple(to_axes.transform(point)) for point in zip(x, y, strict=True)]
    places = apart([point[1] for point in points], LABEL_HEIGHT)
    for name, (across, up), place in zip(names, points, places, strict=True):
        right = across + LABEL_DISTANCE + LABEL_WIDTH < 1
        axes.annotate(
            name,
            xy=(across, up),
            xytext=(across + LABEL_DISTANCE * (1 if right else -1), place),
            xycoords="axes fraction",
            textcoords="axes fraction",
            ha="left" if right else "right",
            va="center",
            fontsize=9,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5, "alpha": 0.8},
            zorder=2,  # below the markers, which it must not hide
            arrowprops={"arrowstyle": "-", "color": "0.6", "linewidth": 0.7, "shrinkB": 4},
        )


def apart(heights: Sequence[float], distance: float) -> list[float]:
    """Heights in the same order that lie `distance` apart at least: neighbours that are too close push each other away
    by equal parts, the lowest no further down than half a distance above the panel's end.
    """
    order = sorted(range(len(heights)), key=lambda index: heights[index])
    moved = list(heights)
    for _ in range(PUSHES):
        moved[order[0]] = max(moved[order[0]], distance / 2)
        for below, above in pairwise(order):
            push = max(0.0, distance - (moved[above] - moved[below])) / 2
            moved[below] -= push
            moved[above] += push
    moved[order[0]] = max(moved[order[0]], distance / 2)
    for below, above in pairwise(order):  # what is left of it
        moved[above] = max(moved[above], moved[below] + distance)
    return moved
