"""Pictures of one case: modalities, planes, all slices, classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from skimage.util import montage

from transforms.labels import MODALITY_TITLES, NUM_CLASSES
from workflows.image_files.oriented import Plane, upright
from workflows.pictures.case_scene import CaseScene
from workflows.pictures.drawing import (
    WINDOW_RGB,
    add_legend,
    class_patches,
    class_rgb,
    class_title,
    mark_edges,
    overlay,
    scan_figure,
    show_scan,
)

PANEL_IN = 3.2
MONTAGE_WIDTH_IN = 16.0
GAP_PX = 2
GAP_GREY = (60, 60, 60)


def panels(scene: CaseScene, rows: int, columns: int, plane: Plane | None = None) -> tuple[Figure, NDArray[Any]]:
    """A black page with room for each picture, in the proportions of the slice."""
    width, height = scene.extent_mm(plane or scene.plane)
    figure = scan_figure(PANEL_IN * columns, rows * (PANEL_IN * height / width + 0.3) + 0.8)
    return figure, figure.subplots(rows, columns, squeeze=False)


def modalities_figure(scene: CaseScene) -> Figure:
    """One slice in every modality, and the segmentation over the first."""
    figure, axes = panels(scene, 1, len(scene.scans) + (scene.labels is not None))
    for axis, modality in zip(axes[0], scene.scans, strict=False):
        _show(axis, scene, modality, MODALITY_TITLES[modality])
    if scene.labels is not None:
        first = next(iter(scene.scans))
        _show(axes[0, -1], scene, first, f"segmentation over {MODALITY_TITLES[first]}", scene.labels)
        add_legend(figure, class_patches(scene.values))
    mark_edges(axes[0, 0], scene.plane)
    figure.suptitle(scene.title(), color="white")
    return figure


def planes_figure(scene: CaseScene) -> Figure:
    """The three planes through one point, without and with the segmentation."""
    modality = next(iter(scene.scans))
    rows = 1 if scene.labels is None else 2
    extents = [scene.extent_mm(plane) for plane in Plane]
    widths, height = [width for width, _ in extents], max(height for _, height in extents)
    scale = 4 * PANEL_IN / sum(widths)
    figure = scan_figure(scale * sum(widths), rows * (scale * height + 0.3) + 0.8)
    axes = figure.subplots(rows, 3, squeeze=False, width_ratios=widths)
    for column, plane in enumerate(Plane):
        title = f"{plane}, slice {scene.slices[plane]}"
        _show(axes[0, column], scene, modality, title, plane=plane)
        _mark_other_planes(axes[0, column], scene, plane)
        mark_edges(axes[0, column], plane)
        if scene.labels is not None:
            _show(axes[1, column], scene, modality, "with the segmentation", scene.labels, plane)
    if scene.labels is not None:
        add_legend(figure, class_patches(scene.values))
    figure.suptitle(scene.title(f"{MODALITY_TITLES[modality]} in three planes"), color="white")
    return figure


def _mark_other_planes(axis: Axes, scene: CaseScene, plane: Plane) -> None:
    """Lines where the other two planes cut this one."""
    index = {other.axis: scene.slices[other] for other in Plane}
    across, along = plane.sides
    x, y = index[across] - scene.box[across].start, index[along] - scene.box[along].start
    if plane is not Plane.axial:
        y = scene.box[along].stop - 1 - index[along]
    axis.axvline(x, color="white", lw=0.8, ls=(0, (4, 4)), alpha=0.7)
    axis.axhline(y, color="white", lw=0.8, ls=(0, (4, 4)), alpha=0.7)


def classes_figure(scene: CaseScene) -> Figure:
    """The four classes of a slice, one by one."""
    assert scene.labels is not None
    modality = next(iter(scene.scans))
    labels = scene.cut(scene.labels)
    inside = upright(scene.labels, scene.plane, scene.slices[scene.plane])
    figure, axes = panels(scene, 1, NUM_CLASSES + 1)
    _show(axes[0, 0], scene, modality, "all classes", scene.labels)
    mark_edges(axes[0, 0], scene.plane)
    for index in range(NUM_CLASSES):
        count = np.count_nonzero(inside == index)
        title = f"{class_title(index, scene.values)}\n{count:,} pixels"
        _show(axes[0, index + 1], scene, modality, title)
        colour = np.zeros((*labels.shape, 4))
        colour[labels == index] = (*class_rgb(index), 0.75 if index else 0.6)
        axes[0, index + 1].imshow(colour, interpolation="nearest", aspect=scene.aspect(scene.plane))
    add_legend(figure, class_patches(scene.values, range(NUM_CLASSES)))
    figure.suptitle(scene.title(), color="white")
    return figure


def montage_figure(scene: CaseScene) -> Figure:
    """All slices of the plane, with a frame around the window in use."""
    modality = next(iter(scene.scans))
    tiles = _tiles(scene, modality)
    count, rows_px, columns_px = tiles.shape[:3]
    aspect, axial = scene.aspect(scene.plane), scene.plane is Plane.axial
    columns = max(1, round(np.sqrt(count * 1.35 * rows_px * aspect / columns_px)))
    rows = -(-count // columns)
    blank = np.zeros((rows * columns - count, *tiles.shape[1:]), tiles.dtype)
    tiles = np.concatenate([tiles, blank])
    sheet = montage(tiles, fill=GAP_GREY, grid_shape=(rows, columns), padding_width=GAP_PX, channel_axis=3)
    height = MONTAGE_WIDTH_IN * sheet.shape[0] * aspect / sheet.shape[1]
    figure = scan_figure(MONTAGE_WIDTH_IN, height + 0.9)
    axis = figure.subplots()
    axis.imshow(sheet, aspect=aspect, interpolation="antialiased")
    axis.set_axis_off()
    grid = _Grid(columns, rows_px + GAP_PX, columns_px + GAP_PX)
    for index in range(count):
        x, y = grid.corner(index)
        axis.text(x + 4, y + 4, str(index), color="white", fontsize=6.5, va="top")
    axis.add_collection(
        LineCollection(_frame(scene, grid, count), colors=[WINDOW_RGB], linewidths=2.5 if axial else 1.2)
    )
    first, end = scene.own_window
    where = "" if axial else ", between the lines"
    own = f"axial slices {first}–{end - 1} in use{where}" if end > first else "the slices in use leave the volume"
    patches = class_patches(scene.values) if scene.labels is not None else []
    add_legend(figure, [*patches, Line2D([], [], color=WINDOW_RGB, lw=2.5, label=own)])
    figure.suptitle(scene.title(f"all {count} {scene.plane} slices, {MODALITY_TITLES[modality]}"), color="white")
    return figure


def _tiles(scene: CaseScene, modality: str) -> NDArray[Any]:
    """(slices, rows, columns, 3) uint8: every slice, cut to the brain's box, with the classes over it."""
    (low, high), plane = scene.grey[modality], scene.plane
    within = scene.within(plane)
    scan, labels = scene.scans[modality][within], None if scene.labels is None else scene.labels[within]
    tiles = []
    for index in range(scan.shape[plane.axis]):
        grey = np.clip((upright(scan, plane, index) - low) / (high - low), 0, 1)
        colour = np.repeat(grey[..., None], 3, axis=-1).astype(np.float32)
        if labels is not None:
            over = overlay(upright(labels, plane, index)).astype(np.float32)
            colour = colour * (1 - over[..., 3:]) + over[..., :3] * over[..., 3:]
        tiles.append((colour * 255).astype(np.uint8))
    return np.stack(tiles)


@dataclass(frozen=True)
class _Grid:
    """Where `montage` puts its tiles."""

    columns: int
    pitch_y: int
    pitch_x: int

    def corner(self, index: int) -> tuple[float, float]:
        """Left and upper edge of a tile, in the middle of the gap."""
        row, column = divmod(index, self.columns)
        return column * self.pitch_x + GAP_PX / 2 - 0.5, row * self.pitch_y + GAP_PX / 2 - 0.5


def _frame(scene: CaseScene, grid: _Grid, count: int) -> list[list[tuple[float, float]]]:
    """Lines around the tiles of the window; in another plane than the axial one, across each tile."""
    first, end = scene.own_window
    if scene.plane is not Plane.axial:
        top = scene.box[2].stop
        return [
            [(x, y + 0.5 + top - edge), (x + grid.pitch_x, y + 0.5 + top - edge)]
            for x, y in map(grid.corner, range(count))
            for edge in (first, end)
            if scene.box[2].start <= edge <= top
        ]
    lines = []
    for index in range(first, end):
        x, y = grid.corner(index)
        right, below = x + grid.pitch_x, y + grid.pitch_y
        column = index % grid.columns
        sides = {
            index - grid.columns: [(x, y), (right, y)],
            index + grid.columns: [(x, below), (right, below)],
            index - 1 if column else -1: [(x, y), (x, below)],
            index + 1 if column < grid.columns - 1 else -1: [(right, y), (right, below)],
        }
        lines += [line for neighbour, line in sides.items() if not first <= neighbour < end]
    return lines


def _show(
    axis: Axes,
    scene: CaseScene,
    modality: str,
    title: str,
    labels: NDArray[Any] | None = None,
    plane: Plane | None = None,
) -> None:
    plane = plane or scene.plane
    cut_labels = None if labels is None else scene.cut(labels, plane)
    scan = scene.cut(scene.scans[modality], plane)
    show_scan(axis, scan, title, scene.grey[modality], scene.aspect(plane), cut_labels)
