"""Pictures of scores: Dice by region, and predicted against true volume."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from transforms.labels import REGION_NAMES, REGIONS
from workflows.pictures.drawing import chart_figure, save
from workflows.scoring.per_case_csv import Row
from workflows.scoring.score_case import DISTINCT

MEASURED, BY_RULE = "#0072b2", "#d55e00"  # two of Okabe and Ito's colours
DOT_SPREAD = 0.28  # of the distance between two boxes


def draw_dice(rows: Iterable[Row], path: Path) -> None:
    """A box per region and class with its median, quartiles and whiskers, and every case as a dot."""
    rows = list(rows)
    names = [name for name in DISTINCT if any(row["region"] == name for row in rows)]
    groups = [sorted((row for row in rows if row["region"] == name), key=lambda row: row["case"]) for name in names]
    figure = chart_figure(1.6 + 1.25 * len(names), 4.4)
    axes = figure.subplots()
    values = [[row["dice"] for row in group] for group in groups]
    axes.boxplot(values, widths=0.62, showfliers=False, medianprops={"color": "black", "linewidth": 1.6})
    for place, group in enumerate(groups, start=1):
        for across, row in zip(_spread(len(group)), group, strict=True):
            _dot(axes, place + across, row["dice"], row)
    labels = [f"{name}\nn = {len(group)}" for name, group in zip(names, groups, strict=True)]
    axes.set_xticks(range(1, len(names) + 1), labels)
    axes.set(ylim=(-0.03, 1.03), ylabel="Dice")
    axes.set_title("Dice per case, whole volumes", loc="left")
    axes.grid(axis="y", alpha=0.3)
    _legend(figure)
    save(figure, path)


def draw_volumes(rows: Iterable[Row], path: Path) -> None:
    """Predicted against true volume of WT, TC and ET with the line of identity, one dot per case."""
    rows = list(rows)
    figure = chart_figure(11, 4.4)
    panels = figure.subplots(1, len(REGIONS))
    for axes, region in zip(panels, REGIONS, strict=True):
        of_region = [row for row in rows if row["region"] == region]
        largest = max([1.0, *(max(row["volume_ml"], row["reference_ml"]) for row in of_region)]) * 1.05
        axes.plot([0, largest], [0, largest], color="grey", linewidth=1, linestyle="--", zorder=1)
        for row in of_region:
            _dot(axes, row["reference_ml"], row["volume_ml"], row)
        axes.set(
            xlim=(-0.03 * largest, largest), ylim=(-0.03 * largest, largest), aspect="equal", xlabel="reference (ml)"
        )
        axes.set_title(f"{region}: {REGION_NAMES[region]}, n = {len(of_region)}", fontsize=10)
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("prediction (ml)")
    _legend(figure)
    save(figure, path)


def _spread(count: int) -> Sequence[float]:
    """Where the dots of a box stand, so that equal values do not hide each other; the same on every run."""
    return list((np.arange(count) * 0.618034 % 1 - 0.5) * 2 * DOT_SPREAD) if count > 1 else [0.0] * count


def _dot(axes: Axes, x: float, y: float, row: Row) -> None:
    measured = row["empty"] == "no"
    marker, colour, label = ("o", MEASURED, "measured") if measured else ("D", BY_RULE, "by the rule for an empty mask")
    axes.plot(x, y, marker, color=colour, label=label, markersize=5, alpha=0.75, zorder=3, clip_on=False)


def _legend(figure: Figure) -> None:
    """Each kind of dot once, if there is more than one kind."""
    pairs = (zip(*axes.get_legend_handles_labels(), strict=True) for axes in figure.axes)
    kinds = {label: handle for handle, label in chain.from_iterable(pairs)}
    if len(kinds) > 1:
        figure.legend(kinds.values(), kinds.keys(), loc="outside lower center", ncols=len(kinds), frameon=False)
