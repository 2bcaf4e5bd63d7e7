"""Pictures of a prediction."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from transforms.labels import ENHANCING, MODALITY_TITLES
from workflows.data.case_images import load_label_map
from workflows.data.convention_of_cases import decide_label_convention
from workflows.data.find_cases import find_cases
from workflows.image_files.brain import brain_mask, grey_limits
from workflows.image_files.oriented import Plane, as_classes, oriented, read_oriented, upright
from workflows.messages.errors import DatasetError
from workflows.pictures.case_scene import brain_box
from workflows.pictures.drawing import add_legend, class_patches, save, scan_figure, show_scan

BOX_MARGIN_PX = 4


def draw_prediction(folder: Path, prediction: Path, out: Path, modalities: Sequence[str], caption: str = "") -> Path:
    """Draw the axial slice with the most predicted tumour of the one case in a folder, as radiologists look at it: each
    modality, the prediction, and the case's own segmentation if it has one.

    Args:
        prediction: label map on the grid of the case's images, enhancing tumour 3 or 4.
    """
    dataset = find_cases(folder, modalities)
    if len(dataset.cases) != 1:
        raise DatasetError(f"{folder}: holds {len(dataset.cases)} cases; name one patient's folder.")
    (case,) = dataset.cases
    label_map = as_classes(read_oriented(prediction).voxels, {4: ENHANCING})
    axial = int((label_map > 0).sum((0, 1)).argmax())
    volumes = {name: read_oriented(case.source(name)).voxels for name in modalities}
    brains = {name: brain_mask(volume) for name, volume in volumes.items()}
    rows, columns, _ = brain_box(brains[modalities[0]][..., axial : axial + 1], BOX_MARGIN_PX)

    def cut(volume: NDArray[Any]) -> NDArray[Any]:
        return upright(volume[rows, columns], Plane.axial, axial)

    scans = {name: cut(volume) for name, volume in volumes.items()}
    overlays = {"prediction": cut(label_map)}
    if case.segmentation:
        with suppress(DatasetError):  # where nobody knows what its labels mean, the prediction is shown alone
            classes = decide_label_convention(dataset.cases).classes
            overlays["reference"] = cut(as_classes(oriented(load_label_map(case)).voxels, classes))
    panels = len(scans) + len(overlays)
    figure = scan_figure(3.2 * panels, 3.9)
    axes = figure.subplots(1, panels, squeeze=False)
    limits = {name: grey_limits(scan[cut(brains[name])]) for name, scan in scans.items()}
    for axis, (name, scan) in zip(axes[0], scans.items(), strict=False):
        show_scan(axis, scan, MODALITY_TITLES[name], limits[name])
    under = modalities[0]
    for axis, (name, labels) in zip(axes[0][len(scans) :], overlays.items(), strict=True):
        show_scan(axis, scans[under], name, limits[under], labels=labels)
    add_legend(figure, class_patches())
    figure.suptitle(f"{case.id}, axial slice {axial}{f' ({caption})' if caption else ''}", color="white", fontsize=11)
    return save(figure, out)
