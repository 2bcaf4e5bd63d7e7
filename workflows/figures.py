"""Pictures of a prediction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray

from transforms.files import write_whole
from transforms.labels import CLASS_COLOURS, CLASS_NAMES, ENHANCING, MODALITY_TITLES
from workflows.dataset import Case, find_cases
from workflows.errors import DatasetError
from workflows.nifti_files import load_image

matplotlib.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Patch

OVERLAY_OPACITY = 0.6
BOX_MARGIN_PX = 4


def draw_prediction(folder: Path, prediction: Path, out: Path, modalities: Sequence[str], caption: str = "") -> Path:
    """`prediction_figure` of the one case in a folder, with its own segmentation beside where it has one."""
    dataset = find_cases(folder, modalities)
    if len(dataset.cases) != 1:
        raise DatasetError(f"{folder}: holds {len(dataset.cases)} cases; name one patient's folder.")
    convention = dataset.with_convention().convention
    classes = convention.classes if convention else None
    return prediction_figure(dataset.cases[0], prediction, out, modalities, classes, caption)


def prediction_figure(
    case: Case,
    prediction: Path,
    out: Path,
    modalities: Sequence[str],
    reference_classes: Mapping[int, int] | None = None,
    caption: str = "",
) -> Path:
    """The axial slice with the most predicted tumour: each modality, the prediction, and the reference if known.

    The patient's left is on the right of the picture, as radiologists look at it.

    Args:
        prediction: label map on the grid of the case's images, enhancing tumour 3 or 4.
        reference_classes: class index of each value in the case's own segmentation; None leaves it out.
    """
    label_map = _as_classes(_volume(prediction), {4: ENHANCING})
    axial = int((label_map > 0).sum((0, 1)).argmax())
    scans = {name: _volume(case.source(name))[..., axial] for name in modalities}
    box = _brain_box(next(iter(scans.values())))
    scans = {name: scan[box] for name, scan in scans.items()}
    overlays = {"prediction": label_map[..., axial][box]}
    if reference_classes and case.segmentation:
        overlays["reference"] = _as_classes(_volume(case.segmentation), reference_classes)[..., axial][box]
    panels = len(scans) + len(overlays)
    figure, axes = plt.subplots(1, panels, figsize=(3.2 * panels, 3.9), facecolor="black", squeeze=False)
    for axis, (name, scan) in zip(axes[0], scans.items(), strict=False):
        _show(axis, MODALITY_TITLES[name], scan)
    under = scans[modalities[0]]
    for axis, (name, labels) in zip(axes[0][len(scans) :], overlays.items(), strict=True):
        _show(axis, name, under, labels)
    legend = [Patch(color=_rgb(c), label=CLASS_NAMES[c]) for c in CLASS_COLOURS]
    figure.legend(handles=legend, loc="lower center", ncols=len(legend), frameon=False, labelcolor="white")
    figure.suptitle(f"{case.id}, axial slice {axial}{f' ({caption})' if caption else ''}", color="white", fontsize=11)
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    write_whole(out, lambda path: figure.savefig(path, dpi=110, facecolor="black"))
    plt.close(figure)
    return out


def _volume(file: Path) -> NDArray:
    """Voxels with axes growing to the patient's left, posterior and superior."""
    import nibabel as nib

    image = load_image(file)
    turn = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(image.affine), nib.orientations.axcodes2ornt(("L", "P", "S"))
    )
    return np.asarray(image.as_reoriented(turn).dataobj)


def _as_classes(label_map: NDArray, classes: Mapping[int, int]) -> NDArray[np.uint8]:
    values = np.rint(label_map).astype(np.uint8)
    return np.array([classes.get(value, value) for value in range(256)], dtype=np.uint8)[values]


def _brain_box(scan: NDArray) -> tuple[slice, ...]:
    """The box around what is not background in one slice, with a margin."""
    found = np.argwhere(scan != scan[0, 0])
    if not len(found):
        return (slice(None), slice(None))
    low, high = found.min(0) - BOX_MARGIN_PX, found.max(0) + BOX_MARGIN_PX + 1
    return tuple(slice(max(first, 0), end) for first, end in zip(low, high, strict=True))


def _show(axis: Axes, title: str, scan: NDArray, labels: NDArray | None = None) -> None:
    brain = scan[scan != 0]
    limits = np.percentile(brain, (1, 99.5)) if brain.size else (0, 1)
    axis.imshow(scan.T, cmap="gray", vmin=limits[0], vmax=limits[1])
    if labels is not None:
        overlay = np.zeros((*labels.T.shape, 4))
        for index in CLASS_COLOURS:
            overlay[index == labels.T] = (*_rgb(index), OVERLAY_OPACITY)
        axis.imshow(overlay, interpolation="nearest")
    axis.set_title(title, color="white")
    axis.set_axis_off()


def _rgb(index: int) -> tuple[float, float, float]:
    red, green, blue = CLASS_COLOURS[index]
    return red / 255, green / 255, blue / 255
