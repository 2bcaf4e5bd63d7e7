"""The study's prediction figures: for each patient the slices with most false positives, the worst patient first."""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine, Events
from matplotlib.lines import Line2D
from monai.transforms import Orientation
from nibabel.affines import voxel_sizes
from numpy.typing import NDArray
from skimage.feature import peak_local_max

from transforms.geometry import voxel_ml
from transforms.labels import BACKGROUND, CLASS_NAMES, MODALITY_TITLES, NUM_CLASSES
from transforms.slices import AXIAL_ORIENTATION
from workflows.evaluation.evaluate_checkpoint import run_evaluation
from workflows.files.outputs import check_outputs
from workflows.files.run_folder import MODEL
from workflows.image_files.brain import grey_limits
from workflows.image_files.oriented import Plane, pixel_aspect, read_oriented, upright
from workflows.messages.errors import ConfigurationError, DatasetError, not_a_folder
from workflows.pictures.case_scene import brain_box
from workflows.pictures.drawing import add_legend, class_patches, mark_edges, save, scan_figure, show_scan

logger = logging.getLogger(__name__)

SLICES_APART = 10
BOX_MARGIN_PX = 4
PANEL_IN = 2.9
PROBABILITY_COLOURMAP = "magma"


def draw_figures(run: Path, variants: Sequence[str], overrides: Mapping[str, Any]) -> None:
    """Predict test cases of a run by the bundle's inference, and draw them; an override of None leaves the default."""
    if run.is_file():
        raise ConfigurationError(f"{run}: {not_a_folder(run)}")
    given = {name: value for name, value in overrides.items() if value is not None}
    check_outputs(Path(str(given.get("output_dir", "figures"))).glob("[0-9][0-9]_*.png"))
    run_evaluation(["figures", *variants], {"checkpoint": str(run / MODEL), **given})


def chosen(
    cases: Sequence[dict[str, Any]], names: Sequence[str] | None, count: int | None, seed: int
) -> list[dict[str, Any]]:
    """The cases named, or `count` random ones, or all.

    Raises:
        ConfigurationError: if a name is not among the cases, or the count below 1.
    """
    if names:
        known = {case["case"]: case for case in cases}
        if unknown := [name for name in names if name not in known]:
            raise ConfigurationError(f"{', '.join(unknown)}: not in this section; it has {', '.join(known)}.")
        return [known[name] for name in dict.fromkeys(names)]
    if count is None:
        return list(cases)
    if count < 1:
        raise ConfigurationError(f"a count of {count} draws nothing; ask for 1 case or more.")
    return random.Random(seed).sample(list(cases), min(count, len(cases)))


@dataclass(frozen=True)
class SliceOfCase:
    """What one picture shows; all arrays are (rows, columns), right way up.

    Args:
        probabilities: (classes, rows, columns).
        false_positives: voxels of the slice that are tumour in the prediction alone; `case_…`: of the whole volume.
    """

    case: str
    plane: Plane
    index: int
    aspect: float
    scans: Mapping[str, NDArray[Any]]
    reference: NDArray[np.uint8]
    prediction: NDArray[np.uint8]
    probabilities: NDArray[np.floating]
    false_positives: int
    case_false_positives_ml: float


class SliceFigures:
    """Draws slices of the cases that an evaluator predicts and numbers the files, most false positives first.

    Args:
        cases: what is predicted, as `chosen` gives it.
        index: the slice to draw, counted from the patient's bottom, front or right; by default `worst_slices`.
        caption: words for the title.
    """

    def __init__(
        self,
        output_dir: str | Path,
        cases: Sequence[Mapping[str, Any]],
        modalities: Sequence[str],
        plane: str = "axial",
        index: int | None = None,
        slices_per_case: int = 1,
        caption: str = "",
    ) -> None:
        self.output_dir, self.modalities, self.caption = Path(output_dir), tuple(modalities), caption
        self.files = {case["case"]: case["image"] for case in cases}
        self.plane, self.index, self.slices_per_case = Plane(plane), index, slices_per_case
        self.slices: list[SliceOfCase] = []

    def attach(self, engine: Engine) -> None:
        """Collect slices of each case, and draw at the end."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._take_batch)
        engine.add_event_handler(Events.COMPLETED, self._draw)

    def _take_batch(self, engine: Engine) -> None:
        state: Any = engine.state  # Ignite declares output and batch as integers
        for batch, output in zip(state.batch, state.output, strict=True):
            case = batch["case"]
            self.slices += self._slices_of(case, output)
            volume_ml = self.slices[-1].case_false_positives_ml
            logger.info(f"{state.iteration}/{state.epoch_length} {case}: {volume_ml:.1f} ml of false positives")

    def _slices_of(self, case: str, output: Mapping[str, Any]) -> list[SliceOfCase]:
        turn: Any = Orientation(axcodes=AXIAL_ORIENTATION, labels=None)  # declared to give tensors without an affine
        volumes = {key: turn(output[key].cpu()) for key in ("pred", "label_map", "label")}
        spacing_mm = voxel_sizes(np.asarray(volumes["label_map"].affine))
        probabilities, prediction, reference = (np.asarray(volume) for volume in volumes.values())
        files = zip(self.modalities, self.files[case], strict=True)
        scans = {name: read_oriented(Path(file)).voxels for name, file in files}
        if any(volume.shape != prediction.shape[1:] for volume in (reference[0], *scans.values())):
            raise DatasetError(f"{case}: its scans and its segmentation differ in shape; run  brats-unet audit.")
        false = (prediction[0] != BACKGROUND) & (reference[0] == BACKGROUND)
        tumour = (prediction[0] != BACKGROUND) | (reference[0] != BACKGROUND)

        def cut(volume: NDArray[Any], index: int) -> NDArray[Any]:
            return upright(volume, self.plane, index)

        return [
            SliceOfCase(
                case=case,
                plane=self.plane,
                index=index,
                aspect=pixel_aspect(spacing_mm, self.plane),
                scans={name: cut(scan, index) for name, scan in scans.items()},
                reference=cut(reference[0], index),
                prediction=cut(prediction[0], index),
                probabilities=np.stack([cut(channel, index) for channel in probabilities]),
                false_positives=int(cut(false, index).sum()),
                case_false_positives_ml=float(false.sum() * voxel_ml(spacing_mm)),
            )
            for index in self._indices(case, false, tumour)
        ]

    def _indices(self, case: str, false: NDArray[np.bool_], tumour: NDArray[np.bool_]) -> list[int]:
        depth = false.shape[self.plane.axis]
        if self.index is None:
            return worst_slices(false, tumour, self.plane, self.slices_per_case)
        if not 0 <= self.index < depth:
            slices = f"{self.plane.value} slice {self.index}; they go from 0 to {depth - 1}"
            raise ConfigurationError(f"{case}: has no {slices}.")
        return [self.index]

    def _draw(self) -> None:
        ranked = sorted(self.slices, key=lambda s: (-s.case_false_positives_ml, s.case, -s.false_positives))
        for rank, shown in enumerate(ranked, start=1):
            name = f"{rank:02d}_{shown.case}_{shown.plane.value}_{shown.index:03d}.png"
            save_slice(shown, self.output_dir / name, self.caption)
        logger.info(f"{len(ranked)} figures in {self.output_dir.resolve()}, most false positives first")


def worst_slices(false: NDArray[np.bool_], tumour: NDArray[np.bool_], plane: Plane, count: int) -> list[int]:
    """Up to `count` slices with most false positives, the worst first, at least `SLICES_APART` slices from one another;
    without any false positive the one with most tumour.

    Args:
        false, tumour: masks of one shape, with axes growing to the patient's left, posterior and superior.
    """
    per_slice = false.sum(plane.sides)
    if not per_slice.any():
        return [int(tumour.sum(plane.sides).argmax())]
    peaks = peak_local_max(per_slice, min_distance=SLICES_APART, threshold_abs=0, num_peaks=count, exclude_border=False)
    return [int(index) for index in peaks[:, 0]]


def save_slice(shown: SliceOfCase, out: Path, caption: str = "") -> Path:
    """Draw one slice: above the scans, the reference and the class map, below the probabilities it was taken from.

    False positives are outlined in white. The brain's box is shown, with a margin.
    """
    brain = np.any([scan != 0 for scan in shown.scans.values()], axis=0)
    rows, columns, _ = brain_box(brain[..., None], BOX_MARGIN_PX)
    brain = brain[rows, columns]
    height, width = (rows.stop - rows.start) * shown.aspect, columns.stop - columns.start
    panels = max(len(shown.scans) + 2, NUM_CLASSES)
    figure = scan_figure(PANEL_IN * panels, 2 * (PANEL_IN * height / width + 0.25) + 0.7)
    axes = figure.subplots(2, panels)
    for axis in axes.flat:
        axis.set_axis_off()
    limits = {name: grey_limits(scan[scan != 0]) for name, scan in shown.scans.items()}
    for axis, (name, scan) in zip(axes[0], shown.scans.items(), strict=False):
        show_scan(axis, scan[rows, columns], MODALITY_TITLES[name], limits[name], shown.aspect)
    name, scan = next(iter(shown.scans.items()))
    reference_axis, prediction_axis = axes[0][len(shown.scans) : len(shown.scans) + 2]
    maps = {"reference": (reference_axis, shown.reference), "prediction": (prediction_axis, shown.prediction)}
    for title, (axis, labels) in maps.items():
        show_scan(axis, scan[rows, columns], title, limits[name], shown.aspect, labels[rows, columns])
    false = ((shown.prediction != BACKGROUND) & (shown.reference == BACKGROUND))[rows, columns]
    if false.any():
        prediction_axis.contour(false.astype(float), levels=[0.5], colors="white", linewidths=0.8)
    for index, axis in enumerate(axes[1][:NUM_CLASSES]):
        picture = axis.imshow(
            shown.probabilities[index][rows, columns], cmap=PROBABILITY_COLOURMAP, vmin=0, vmax=1, aspect=shown.aspect
        )
        if brain.any() and not brain.all():
            axis.contour(brain.astype(float), levels=[0.5], colors="0.5", linewidths=0.6)
        axis.set_title(f"probability: {CLASS_NAMES[index]}", color="white", fontsize=11)
    bar = figure.colorbar(picture, ax=axes[1].tolist(), fraction=0.015, pad=0.01, ticks=(0, 0.5, 1))
    bar.ax.tick_params(colors="white", labelsize=9)
    mark_edges(axes[0][0], shown.plane)
    outline = Line2D([], [], color="white", linewidth=1, label="false positive")
    add_legend(figure, [*class_patches(), outline])
    where = f"{shown.case}, {shown.plane.value} slice {shown.index}{f' ({caption})' if caption else ''}"
    how_much = f"{shown.false_positives} false positive voxels, {shown.case_false_positives_ml:.1f} ml in the case"
    figure.suptitle(f"{where}: {how_much}", color="white", fontsize=12)
    return save(figure, out)
