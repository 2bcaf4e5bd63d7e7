"""Pictures of what the network sees: a slice before and after preprocessing, and its label map one-hot encoded."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from monai.data import MetaTensor
from numpy.typing import NDArray

from transforms.inputs import AxialWindow
from transforms.labels import CLASS_NAMES, MODALITY_TITLES, NUM_CLASSES
from transforms.pipelines import preprocessing
from transforms.soft_labels import SoftLabelsd, expand_labels
from workflows.data.reader import CaseReader
from workflows.explore.case_figures import PANEL_IN, panels
from workflows.image_files.brain import grey_limits
from workflows.image_files.oriented import pixel_aspect, upright
from workflows.pictures.case_scene import CaseScene
from workflows.pictures.drawing import add_legend, class_patches, mark_edges, scan_figure, show_scan

SIZE_PX = 128
PREPROCESSED_PERCENTILES = (0, 99.8)
"""Percentiles of a preprocessed brain that are shown black and white."""
ZOOM_MARGIN_MM = 12
NORMALISATIONS: dict[str, str] = {
    "zscore": "z-scores of the brain",
    "window_maximum": "÷ the window's maximum (study)",
}


def preprocessing_figure(scene: CaseScene) -> Figure:
    """One slice of every modality as in the file and after both normalisations, with a bar of intensities."""
    columns: dict[str, dict[str, NDArray[Any]]] = {"in the file": dict(scene.scans)}
    for name, title in NORMALISATIONS.items():
        if (volumes := _preprocessed(scene, name)) is not None:
            columns[title] = volumes
    rows = min(len(scene.scans), len(columns))
    figure, axes = panels(scene, rows, max(len(scene.scans), len(columns)))
    if rows != len(scene.scans):
        axes = axes.T
    for column, (title, volumes) in enumerate(columns.items()):
        for row, (modality, volume) in enumerate(volumes.items()):
            axis = axes[row, column]
            in_file = volume is scene.scans[modality]  # preprocessed, the background is zero
            limits = scene.grey[modality] if in_file else grey_limits(volume[volume != 0], PREPROCESSED_PERCENTILES)
            _show_with_bar(figure, axis, scene, volume, f"{MODALITY_TITLES[modality]}\n{title}", limits)
    mark_edges(axes[0, 0], scene.plane)
    figure.set_size_inches(figure.get_figwidth() * 1.25, figure.get_figheight() + 0.3 * rows)
    place = f"{scene.plane} slice {scene.slices[scene.plane]}"
    pixels = f"axial slices of {scene.shape[0]}×{scene.shape[1]} pixels become {SIZE_PX}×{SIZE_PX}"
    figure.suptitle(scene.title(f"{place}; {pixels}"), color="white")
    return figure


def _preprocessed(scene: CaseScene, normalisation: str) -> dict[str, NDArray[Any]] | None:
    """Volumes by modality as the network reads them; None if the window of slices leaves the volume."""
    first, end = scene.own_window
    if end <= first:
        return None
    mm: Any = [edge * scene.spacing_mm[2] for edge in (first, end)]  # they need not be whole
    input = AxialWindow(slice_range=mm, size_px=SIZE_PX, normalisation=normalisation)
    chain = preprocessing(input, CaseReader())
    images = [str(scene.case.source(modality)) for modality in scene.scans]
    image = cast(dict[str, Any], chain({"image": images}))["image"]
    return dict(zip(scene.scans, np.asarray(image), strict=True))


def _show_with_bar(
    figure: Figure, axis: Axes, scene: CaseScene, volume: NDArray[Any], title: str, limits: tuple[float, float]
) -> None:
    brain = tuple((part.start / n, part.stop / n) for part, n in zip(scene.box, scene.shape, strict=True))
    show_scan(axis, _zoomed(scene, volume, brain), title, limits, _aspect_of(scene, volume))
    bar = figure.colorbar(axis.images[0], ax=axis, shrink=0.85, pad=0.02)
    bar.ax.tick_params(colors="white", labelsize=8)
    bar.outline.set_edgecolor("white")


def one_hot_figure(scene: CaseScene) -> Figure:
    """The label map around the tumour of a slice as four channels, as it is and resized as in the study."""
    assert scene.labels is not None
    index = scene.slices[scene.plane]
    shares = _study_shares(scene.labels)
    zoom = _around_tumour(scene)
    own = _zoomed(scene, scene.labels, zoom)
    height = PANEL_IN * own.shape[0] * scene.aspect(scene.plane) / own.shape[1]
    figure = scan_figure(PANEL_IN * (NUM_CLASSES + 1) + 0.8, 2 * (height + 0.5) + 0.8)
    axes = figure.subplots(2, NUM_CLASSES + 1)
    first = next(iter(scene.scans))
    limits, aspect = scene.grey[first], scene.aspect(scene.plane)
    show_scan(axes[0, 0], _zoomed(scene, scene.scans[first], zoom), "label map", limits, aspect, own)
    mark_edges(axes[0, 0], scene.plane)
    axes[1, 0].set_axis_off()
    words = (
        f"above: every voxel 0 or 1\n\nbeside: resized to\n{SIZE_PX}×{SIZE_PX} pixels bilinearly,\n"
        "as the study did:\nshares from 0 to 1"
    )
    centred: dict[str, Any] = {"ha": "center", "va": "center", "transform": axes[1, 0].transAxes}
    axes[1, 0].text(0.5, 0.5, words, color="white", fontsize=10, **centred)
    drawn: list[AxesImage] = []
    for channel in range(NUM_CLASSES):
        show_scan(axes[0, channel + 1], own == channel, f"channel {channel}: {CLASS_NAMES[channel]}", (0, 1), aspect)
        part = _zoomed(scene, shares[channel], zoom)
        show_scan(axes[1, channel + 1], part, f"channel {channel}, shares", (0, 1), _aspect_of(scene, shares[channel]))
        drawn += [*axes[0, channel + 1].images, *axes[1, channel + 1].images]
    for image in drawn:
        image.set_interpolation("nearest")
        _frame(image.axes)
    bar = figure.colorbar(drawn[0], ax=axes[:, -1].tolist(), shrink=0.85)
    bar.ax.tick_params(colors="white")
    bar.set_label("share of the class", color="white")
    add_legend(figure, class_patches(scene.values))
    figure.suptitle(scene.title(f"{scene.plane} slice {index} one-hot encoded"), color="white")
    return figure


def _frame(axis: Axes) -> None:
    """A grey line around a channel, which may be empty and all black."""
    axis.set_axis_on()
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_color("0.4")


def _study_shares(labels: NDArray[Any]) -> NDArray[Any]:
    """(classes, SIZE_PX, SIZE_PX, D): the share of each pixel that belongs to a class, 0 to 1."""
    soften = SoftLabelsd(keys="label", spatial_size=(SIZE_PX, SIZE_PX, -1))
    tumour = torch.as_tensor(np.asarray(soften({"label": MetaTensor(labels[None])})["label"]))
    return np.asarray(expand_labels(tumour[None].flatten(3))).reshape(NUM_CLASSES, *tumour.shape[1:])


def _around_tumour(scene: CaseScene) -> tuple[tuple[float, float], ...]:
    """The tumour of the slice, or else the brain: first and last edge along the three axes as shares of the volume."""
    assert scene.labels is not None
    plane = scene.plane
    found = np.argwhere(scene.labels.take([scene.slices[plane]], plane.axis))
    edges = []
    for axis, (part, size, length) in enumerate(zip(scene.box, scene.spacing_mm, scene.shape, strict=True)):
        low, high = part.start, part.stop
        if len(found) and axis != plane.axis:
            margin = ZOOM_MARGIN_MM / size
            low, high = max(0, found[:, axis].min() - margin), min(length, found[:, axis].max() + 1 + margin)
        edges.append((low / length, high / length))
    return tuple(edges)


def _zoomed(scene: CaseScene, volume: NDArray[Any], zoom: tuple[tuple[float, float], ...]) -> NDArray[Any]:
    """The slice to look at, cut out of a volume of any resolution."""
    plane = scene.plane
    parts = [
        slice(round(low * n), max(round(high * n), round(low * n) + 1))
        for (low, high), n in zip(zoom, volume.shape, strict=True)
    ]
    parts[plane.axis] = slice(None)
    index = int((scene.slices[plane] + 0.5) / scene.shape[plane.axis] * volume.shape[plane.axis])
    return upright(volume[tuple(parts)], plane, index)


def _aspect_of(scene: CaseScene, volume: NDArray[Any]) -> float:
    spacing = [size * n / m for size, n, m in zip(scene.spacing_mm, scene.shape, volume.shape, strict=True)]
    return pixel_aspect(spacing, scene.plane)
