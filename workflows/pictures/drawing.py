"""What all pictures share: colours, legends, a scan with its classes over it, and a file that is whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from transforms.files import PNG_METADATA
from transforms.labels import CLASS_NAMES
from workflows.files.text_files import write_or_refuse
from workflows.image_files.oriented import Plane
from workflows.pictures.colours import BACKGROUND_COLOUR, CLASS_COLOURS, WINDOW_COLOUR, Colour

OVERLAY_OPACITY = 0.6
DPI = 110


def rgb(colour: Colour) -> tuple[float, float, float]:
    """Red, green and blue from 0 to 1, as matplotlib takes them."""
    return colour.red / 255, colour.green / 255, colour.blue / 255


def class_rgb(index: int) -> tuple[float, float, float]:
    """The colour of a class; grey for the background."""
    return rgb(CLASS_COLOURS.get(index, BACKGROUND_COLOUR))


WINDOW_RGB = rgb(WINDOW_COLOUR)


def scan_figure(width_in: float, height_in: float) -> Figure:
    """A black page, on which scans are looked at."""
    figure = Figure(figsize=(width_in, height_in), facecolor="black")
    figure.set_layout_engine("constrained", h_pad=0.08)
    return figure


def chart_figure(width_in: float, height_in: float) -> Figure:
    """A white page for charts."""
    return Figure(figsize=(width_in, height_in), facecolor="white", layout="constrained")


def show_scan(
    axis: Axes,
    scan: NDArray[Any],
    title: str,
    limits: tuple[float, float],
    aspect: float = 1.0,
    labels: NDArray[Any] | None = None,
) -> None:
    """One slice (rows, columns) in grey with class indices over it; `aspect` is a pixel's height over width."""
    axis.imshow(scan, cmap="gray", vmin=limits[0], vmax=limits[1], aspect=aspect)
    if labels is not None:
        axis.imshow(overlay(labels), interpolation="nearest", aspect=aspect)
    axis.set_title(title, color="white", fontsize=11)
    axis.set_axis_off()


def overlay(labels: NDArray[Any], opacity: float = OVERLAY_OPACITY) -> NDArray[np.float64]:
    """(…) class indices to (…, 4) red, green, blue and opacity; the background is transparent."""
    colours = np.zeros((256, 4))
    for index in CLASS_COLOURS:
        colours[index] = (*class_rgb(index), opacity)
    return np.asarray(colours[labels])


def mark_edges(axis: Axes, plane: Plane) -> None:
    """R, L, A, P, S and I where the patient's right, left, front, back, top and bottom are."""
    left, right, top, bottom = plane.edges
    places = {left: (0.01, 0.5, "left", "center"), right: (0.99, 0.5, "right", "center")}
    places |= {top: (0.5, 0.99, "center", "top"), bottom: (0.5, 0.01, "center", "bottom")}
    for letter, (x, y, horizontal, vertical) in places.items():
        axis.text(
            *(x, y, letter), transform=axis.transAxes, ha=horizontal, va=vertical, color="white", fontsize=9,
            bbox={"facecolor": "black", "edgecolor": "none", "pad": 1, "alpha": 0.7},
        )  # fmt: skip


def class_patches(values: Mapping[int, int] | None = None, indices: Sequence[int] | None = None) -> list[Patch]:
    """Legend entries of classes, by default all but the background, with their values in the files if given."""
    return [
        Patch(facecolor=class_rgb(index), edgecolor="0.4", label=class_title(index, values))
        for index in (indices or CLASS_COLOURS)
    ]


def class_title(index: int, values: Mapping[int, int] | None = None) -> str:
    """The class's name, with the value that stands for it in the files where that is known."""
    return f"{CLASS_NAMES[index]} ({values[index]})" if values else CLASS_NAMES[index]


def add_legend(figure: Figure, patches: Sequence[Artist], colour: str = "white") -> None:
    """A row of classes below the picture."""
    figure.legend(handles=list(patches), loc="outside lower center", ncols=4, frameon=False, labelcolor=colour)


def plain(*axes: Axes) -> None:
    """Leave out the lines above and to the right of charts."""
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)


def save(figure: Figure, out: Path, dpi: int = DPI) -> Path:
    """Write a PNG, whole or not at all; raises `ConfigurationError` if the folder cannot be written to."""
    options: dict[str, Any] = {"dpi": dpi, "facecolor": figure.get_facecolor(), "metadata": PNG_METADATA}
    write_or_refuse(out, lambda path: figure.savefig(path, format="png", **options))
    return out
