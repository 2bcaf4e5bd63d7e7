"""Charts of a data set: intensities, places of the tumours in the brain, and what cropping to it would save."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from transforms.labels import CLASS_NAMES, MODALITY_TITLES
from workflows.explore.survey import PROJECTION_PX, QUANTILES, Z_SCORE_EDGES, CaseSurvey, DatasetSurvey
from workflows.image_files.oriented import Plane
from workflows.pictures.drawing import WINDOW_RGB, chart_figure, class_rgb, mark_edges, plain

RAW_BINS = 80
EDGE_MM = 14
CENTRE_BLUR = 0.05
"""Standard deviation of the heat map's blur, as a share of the brain's box: about 7 to 9 mm."""


def intensities_figure(survey: DatasetSurvey) -> Figure:
    """Histograms of the brain by modality: of every case as in its file, and z-scored by class over all cases."""
    modalities = survey.modalities
    figure = chart_figure(max(4.2 * len(modalities), 7), 7)
    axes = figure.subplots(2, len(modalities), squeeze=False)
    for column, modality in enumerate(modalities):
        _draw_raw(axes[0, column], survey, modality)
        _draw_z_scores(axes[1, column], survey, modality)
    axes[0, 0].set_ylabel("share of the brain's voxels per bin")
    axes[1, 0].set_ylabel("density within the class")
    handles, names = axes[1, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=4, frameon=False)
    return figure


def _draw_raw(axis: Axes, survey: DatasetSurvey, modality: str) -> None:
    quantiles = [case.quantiles[modality] for case in survey.cases if modality in case.quantiles]
    low = min(float(values[1]) for values in quantiles)
    high = max(float(np.interp(0.98, QUANTILES, values)) for values in quantiles)
    edges = np.linspace(min(low, 0), high if high > low else low + 1, RAW_BINS + 1)
    for values in quantiles:
        share = np.diff(np.interp(edges, values, QUANTILES))
        axis.stairs(share, edges, color="0.25", alpha=max(0.08, min(0.6, 6 / len(quantiles))), lw=1)
    axis.set(
        title=f"{MODALITY_TITLES[modality]}, a line per case ({len(quantiles)})", xlabel="intensity as in the file"
    )
    axis.set(xlim=(edges[0], edges[-1]), ylim=(0, None))
    plain(axis)


def _draw_z_scores(axis: Axes, survey: DatasetSurvey, modality: str) -> None:
    sums = {index: np.zeros(len(Z_SCORE_EDGES) - 1) for index in range(len(CLASS_NAMES))}
    for case in survey.cases:
        for value, counts in case.z_scores.get(modality, {}).items():
            index = survey.convention.classes.get(value)
            if index is not None and (index or case.labelled or not survey.labelled):
                sums[index] += counts
    width = Z_SCORE_EDGES[1] - Z_SCORE_EDGES[0]
    for index, counts in sums.items():
        if not counts.sum():
            continue
        name = CLASS_NAMES[index] if index else ("brain outside the tumour" if survey.labelled else "brain")
        density = counts / counts.sum() / width
        axis.stairs(density, Z_SCORE_EDGES, fill=True, color=(*class_rgb(index), 0.35 if index else 0.5))
        axis.stairs(density, Z_SCORE_EDGES, color=[0.7 * part for part in class_rgb(index)], lw=1.6, label=name)
    axis.set_title(f"{MODALITY_TITLES[modality]}, z-scored, all cases")
    axis.set_xlabel("standard deviations from the brain's mean")
    axis.set(xlim=(Z_SCORE_EDGES[0], Z_SCORE_EDGES[-1]), ylim=(0, None))
    plain(axis)


def centres_figure(survey: DatasetSurvey) -> Figure:
    """The centres of the tumours, each in its brain stretched to the mean size of all brains."""
    located = [case for case in survey.labelled if case.tumour_centre is not None]
    centres = np.array([case.tumour_centre for case in located]).reshape(-1, 3)
    size_mm = np.mean(
        [np.ptp(case.brain_box_mm, axis=1) for case in survey.cases if case.brain_box_mm is not None], axis=0
    )
    figure, axes = _three_planes(size_mm)
    for axis, plane in zip(axes, Plane, strict=True):
        sides = list(plane.sides)
        width, height = size_mm[sides]
        outline = np.mean([case.brain_seen_from[plane.axis] for case in survey.cases if case.brain_seen_from], axis=0)
        heat = _heat(centres[:, sides])
        if plane is Plane.axial:
            place: dict[str, Any] = {"origin": "upper", "extent": (0, width, height, 0)}
        else:
            place = {"origin": "lower", "extent": (0, width, 0, height)}
        shades: dict[str, Any] = {"cmap": "magma", "vmin": 0, "vmax": max(float(heat.max()), 1e-9)}
        axis.imshow(np.where(outline.T >= 0.5, heat.T, np.nan), interpolation="bilinear", **place, **shades)
        x = (np.arange(-1, PROJECTION_PX + 1) + 0.5) / PROJECTION_PX
        axis.contour(x * width, x * height, np.pad(outline, 1).T, levels=[0.5], colors="white", linewidths=1.2)
        dot = np.clip(400 / max(len(centres), 1), 5, 30)
        axis.scatter(*(centres[:, sides] * size_mm[sides]).T, s=dot, color="white", edgecolor="black", lw=0.5)
        _finish_plane(axis, plane, size_mm)
    figure.suptitle(f"Centres of {len(centres)} tumours: dots, and their density (brighter: more)", color="white")
    bar = figure.colorbar(axes[0].images[0], ax=axes.tolist(), shrink=0.7, ticks=[])
    bar.set_label("few → many centres nearby", color="white")
    return figure


def _heat(points: NDArray[Any]) -> NDArray[Any]:
    """(PROJECTION_PX, PROJECTION_PX) density of points given as shares of the box."""
    counts, _ = np.histogramdd(points, bins=PROJECTION_PX, range=[(0, 1), (0, 1)])
    return np.asarray(gaussian_filter(counts, CENTRE_BLUR * PROJECTION_PX, mode="constant"))


def boxes_figure(survey: DatasetSurvey) -> Figure:
    """The box around each brain and the one around all, and the share of voxels that cropping to them leaves out."""
    cases = [case for case in survey.cases if case.brain_box_mm is not None]
    boxes = np.array([case.brain_box_mm for case in cases])  # (cases, 3, 2)
    size_mm = np.array([case.size_mm for case in cases]).max(axis=0)
    union = np.stack([boxes[..., 0].min(axis=0), boxes[..., 1].max(axis=0)], axis=1)
    volume = np.stack([np.zeros(3), size_mm], axis=1)
    figure, axes = _three_planes(size_mm)
    for axis, plane in zip(axes, Plane, strict=True):
        sides = list(plane.sides)
        for box in boxes:
            axis.add_patch(_rectangle(box[sides], color="white", lw=0.8, alpha=max(0.12, min(0.8, 8 / len(cases)))))
        axis.add_patch(_rectangle(union[sides], color=WINDOW_RGB, lw=2.5))
        axis.add_patch(_rectangle(volume[sides], color="0.6", lw=2))
        _finish_plane(axis, plane, size_mm)
    own, common = crop_savings(cases)
    unit = np.array([[0, 1], [0, 1]])
    handles = [
        _rectangle(unit, color="0.6", lw=2, label="the volume"),
        _rectangle(unit, color="white", lw=0.8, label="the brain of one case"),
        _rectangle(unit, color=WINDOW_RGB, lw=2.5, label="holds every brain"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, labelcolor="white")
    figure.suptitle(
        f"Cropping to each brain's own box leaves out {np.median(own):.0%} of the voxels (median of {len(cases)}), "
        f"to the common box {common:.0%}",
        color="white",
    )
    return figure


def crop_savings(cases: list[CaseSurvey]) -> tuple[list[float], float]:
    """Share 0 to 1 of each volume outside its brain's box, and the mean share outside the box that holds all brains."""
    boxes = np.array([case.brain_box_mm for case in cases])
    volumes = np.array([np.prod(case.size_mm) for case in cases])
    own = 1 - np.prod(boxes[..., 1] - boxes[..., 0], axis=1) / volumes
    union = np.prod(boxes[..., 1].max(axis=0) - boxes[..., 0].min(axis=0))
    return own.tolist(), float(np.mean(1 - np.minimum(union / volumes, 1)))


def _three_planes(size_mm: NDArray[Any]) -> tuple[Figure, NDArray[Any]]:
    """A black page with axial, coronal and sagittal axes on one scale."""
    widths = [size_mm[0], size_mm[0], size_mm[1]]
    height = max(size_mm[1], size_mm[2])
    scale = 13 / sum(widths)
    figure = chart_figure(14, scale * height + 1.6)
    figure.set_facecolor("black")
    return figure, figure.subplots(1, 3, width_ratios=widths)


def _rectangle(box: NDArray[Any], **style: Any) -> Rectangle:
    (x, right), (y, top) = box
    return Rectangle((x, y), right - x, top - y, fill=False, **style)


def _finish_plane(axis: Axes, plane: Plane, size_mm: NDArray[Any]) -> None:
    """Leave room for the letters around a picture of `size_mm`, with the patient's front or top upwards."""
    width, height = size_mm[list(plane.sides)]
    axis.set_xlim(-EDGE_MM, width + EDGE_MM)
    axis.set_ylim(*((height + EDGE_MM, -EDGE_MM) if plane is Plane.axial else (-EDGE_MM, height + EDGE_MM)))
    axis.set_aspect("equal")
    mark_edges(axis, plane)
    axis.set_title(f"{plane}", color="white")
    axis.set_axis_off()
