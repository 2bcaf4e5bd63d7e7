"""Charts of a data set: labels, volumes, slices, windows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from transforms.labels import CLASS_NAMES, NUM_CLASSES
from transforms.windows import STUDY_WINDOW
from workflows.explore.data_in_words import named_windows
from workflows.explore.survey import DatasetSurvey
from workflows.pictures.drawing import WINDOW_RGB, add_legend, chart_figure, class_patches, class_rgb, plain

TUMOUR_CLASSES = range(1, NUM_CLASSES)
CASES_NAMED = 45
"""More names on one axis cannot be read."""

WINDOW_MARKS = (("*", 14), ("D", 8))
"""Marker and size of the study's window and of the one chosen."""
CONTOURS = (0.5, 0.8, 0.9, 0.95, 0.99)


def labels_figure(survey: DatasetSurvey) -> Figure:
    """In how many cases each label value is present and missing."""
    found = survey.label_values()
    total = len(survey.labelled)
    figure = chart_figure(9, 1.3 + 0.55 * len(found))
    axis = figure.subplots()
    names = []
    for row, (value, cases) in enumerate(found.items()):
        index = survey.convention.class_of(value)
        names.append(f"{value:g}  {CLASS_NAMES[index] if index is not None else 'no class'}")
        empty = total - len(cases)
        axis.barh(row, len(cases), color=class_rgb(index or 0), edgecolor="0.3")
        axis.barh(row, empty, left=len(cases), color="white", edgecolor="0.6", hatch="////", lw=0.6)
        note = f"all {total}" if not empty else f"{len(cases)} of {total}, {empty} without"
        axis.annotate(note, (total, row), (6, 0), textcoords="offset points", va="center")
    axis.set_yticks(range(len(names)), names)
    axis.invert_yaxis()
    axis.set_xlabel("cases (hatched: without this label)")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_xticks([tick for tick in axis.get_xticks() if tick <= total])
    axis.set_xlim(0, total * 1.25)
    axis.set_title(f"Label values present in {total} segmentations")
    plain(axis)
    return figure


def volumes_figure(survey: DatasetSurvey) -> Figure:
    """Volume of each class in each case, and its spread over the cases."""
    cases = [(case.id, case.class_ml(survey.convention.classes)) for case in survey.labelled]
    cases.sort(key=lambda pair: sum(pair[1].values()), reverse=True)
    figure = chart_figure(14, 6)
    bars, spread = figure.subplots(1, 2, width_ratios=(2.4, 1))
    below = np.zeros(len(cases))
    for index in TUMOUR_CLASSES:
        ml = np.array([volumes[index] for _, volumes in cases])
        bars.bar(np.arange(len(cases)), ml, bottom=below, width=0.9, color=class_rgb(index), edgecolor="none")
        below += ml
    _mark_empty(bars, cases, below)
    bars.set_ylim(0)
    bars.set_ylabel("volume, ml (1,000 voxels of 1 mm³)")
    bars.set_title(f"Tumour of {len(cases)} cases, largest first")
    bars.set_xlim(-0.7, len(cases) - 0.3)
    if len(cases) <= CASES_NAMED:
        names = [name for name, _ in cases]
        bars.set_xticks(range(len(cases)), names, rotation=60, ha="right", rotation_mode="anchor", fontsize=8)
    else:
        bars.set_xlabel("cases")
    _draw_spread(spread, [[volumes[index] for _, volumes in cases] for index in TUMOUR_CLASSES])
    plain(bars, spread)
    add_legend(figure, class_patches(survey.convention.values), "black")
    return figure


def _mark_empty(axis: Axes, cases: Sequence[tuple[str, dict[int, float]]], tops: NDArray[Any]) -> None:
    """A coloured cross over the bar for every class that the case lacks."""
    step = max(tops.max(initial=0), 1) * 0.035
    for number, (_, volumes) in enumerate(cases):
        missing = [index for index in TUMOUR_CLASSES if not volumes[index]]
        for place, index in enumerate(missing, start=1):
            height = tops[number] + place * step
            axis.plot(number, height, marker="X", ms=8, color=class_rgb(index), mec="0.2", mew=0.6)
    if any(not volumes[index] for _, volumes in cases for index in TUMOUR_CLASSES):
        axis.plot([], [], marker="X", ms=8, ls="", color="white", mec="0.2", label="class is empty in this case")
        axis.legend(frameon=False, loc="upper right")


def _draw_spread(axis: Axes, volumes: Sequence[Sequence[float]]) -> None:
    rng = np.random.default_rng(0)
    for place, (index, ml) in enumerate(zip(TUMOUR_CLASSES, volumes, strict=True)):
        there = np.array([value for value in ml if value])
        sideways = place + rng.uniform(-0.25, 0.25, len(there))
        axis.scatter(sideways, there, s=22, color=class_rgb(index), edgecolor="0.3", lw=0.5, zorder=2)
        if len(there):
            axis.hlines(np.median(there), place - 0.38, place + 0.38, color="black", lw=2, zorder=3)
            axis.annotate(f"{np.median(there):.1f} ml", (place + 0.4, np.median(there)), va="center", fontsize=9)
    axis.set_yscale("log")
    axis.yaxis.set_major_formatter(FuncFormatter(lambda ml, _: f"{ml:g}"))
    axis.set_xlim(-0.6, len(volumes) + 0.2)
    axis.set_xticks(range(len(volumes)), [CLASS_NAMES[index].replace(" ", "\n") for index in TUMOUR_CLASSES])
    axis.set_ylabel("volume, ml (logarithmic)")
    axis.set_title("A dot per case, a line at the median")


def slices_figure(survey: DatasetSurvey, chosen: tuple[int, int]) -> Figure:
    """The tumours along the body's axis, and what a window keeps of each case."""
    area = survey.area_per_mm()
    figure = chart_figure(14, 6)
    along, kept = figure.subplots(1, 2, width_ratios=(1.9, 1))
    along.stackplot(
        np.arange(area.shape[1]) + 0.5, area, colors=[class_rgb(i) for i in TUMOUR_CLASSES], edgecolor="0.3", lw=0.4
    )
    windows = named_windows(chosen)
    for (name, (first, end)), style in zip(windows.items(), ("-", "--"), strict=False):
        along.axvspan(first, end, facecolor=WINDOW_RGB, alpha=0.13, zorder=0)
        along.axvline(first, color=WINDOW_RGB, lw=2, ls=style, label=f"window {first}–{end - 1}, {name}")
        along.axvline(end, color=WINDOW_RGB, lw=2, ls=style)
    along.set_xlim(0, max(area.shape[1], 1))
    along.set_ylim(0, max(area.sum(axis=0).max(initial=0), 0.01) * 1.22)
    along.set_xlabel("axial slice of 1 mm, from the bottom of the volume")
    along.set_ylabel("mean area per case, cm²")
    along.set_title(f"Tumour per axial slice, mean of {len(survey.labelled)} cases")
    along.legend(loc="upper left", framealpha=0.9, edgecolor="none")
    for (name, (first, end)), style in zip(windows.items(), ("-", "--"), strict=False):
        shares = sorted(survey.shares_kept((first, end)), reverse=True)
        ranks = (np.arange(len(shares)) + 0.5) / max(len(shares), 1) * 100
        kept.plot(ranks, shares, style, color=WINDOW_RGB, marker="o", ms=4, label=f"{first}–{end - 1}, {name}")
    kept.set_ylim(0, 1.03)
    kept.set_xlim(0, 100)
    kept.yaxis.set_major_formatter(PercentFormatter(1))
    kept.set_xlabel("% of cases with tumour, best kept first")
    kept.set_ylabel("share of the case's tumour inside the window")
    kept.set_title("What the window keeps of each case")
    kept.legend(frameon=False, loc="lower left")
    plain(along, kept)
    add_legend(figure, class_patches(survey.convention.values), "black")
    return figure


def windows_figure(survey: DatasetSurvey, chosen: tuple[int, int]) -> Figure:
    """The share of each class's volume that every possible window keeps."""
    area, windows = survey.area_per_mm(), named_windows(chosen)
    rows = {"whole tumour": area.sum(axis=0)} | {CLASS_NAMES[i]: area[i - 1] for i in TUMOUR_CLASSES}
    figure = chart_figure(16, 4.9)
    axes = figure.subplots(1, len(rows), sharex=True, sharey=True)
    for axis, (name, row) in zip(axes, rows.items(), strict=True):
        below = np.concatenate([[0.0], np.cumsum(row)]) / (row.sum() or 1)
        shares = below[:, None] - below[None, :]  # rows: end, columns: first
        shares[np.tril_indices_from(shares, -1)[::-1]] = np.nan
        image = axis.imshow(shares, origin="lower", cmap="cividis", vmin=0, vmax=1)
        if row.any():
            _draw_contours(axis, shares)
        for window, (marker, size) in zip(windows.values(), WINDOW_MARKS, strict=False):
            axis.plot(*window, marker=marker, ms=size, color=WINDOW_RGB, mec="white", ls="")
        first, end = (min(max(edge, 0), len(row)) for edge in STUDY_WINDOW)
        study = f"{STUDY_WINDOW[0]}–{STUDY_WINDOW[1] - 1}"
        axis.set_title(f"{name}\n{study} keeps {below[end] - below[first]:.1%}", fontsize=11)
        axis.set_xlabel("first slice")
    axes[0].set_ylabel("end (the slice after the last)")
    figure.colorbar(image, ax=axes, format=PercentFormatter(1), label="share kept", shrink=0.85)
    handles = []
    for (name, (first, end)), (marker, size) in zip(windows.items(), WINDOW_MARKS, strict=False):
        text = f"{name}, {first}–{end - 1}"
        handles += axes[0].plot([], [], marker, ms=size, color=WINDOW_RGB, mec="0.4", label=text)
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)
    return figure


def _draw_contours(axis: Axes, shares: NDArray[Any]) -> None:
    """Lines of equal share. Their names stand at the left, away from the windows' marks, alternately at two places."""
    lines = axis.contour(shares, levels=CONTOURS, colors="black", linewidths=0.8)
    places = []
    for number, level in enumerate(CONTOURS):
        x = round(shares.shape[1] * (0.06 if number % 2 else 0.2))
        reached = np.flatnonzero(shares[:, x] >= level)
        if reached.size:
            places.append((x, int(reached[0])))
    axis.clabel(lines, fmt=lambda level: f"{level:.0%}", fontsize=8, manual=places)
