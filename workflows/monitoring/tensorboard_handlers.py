"""What TensorBoard shows beyond MONAI's scalars: slices with their tumour, the worst cases, settings, the network."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from matplotlib.colors import ListedColormap
from monai.handlers import TensorBoardStatsHandler
from monai.visualize import blend_images
from numpy.typing import NDArray
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from transforms.inputs import Input, shown_itself, slice_shape
from transforms.labels import CLASS_NAMES, NUM_CLASSES, REGIONS
from transforms.regions import background_outside_brain
from workflows.files.run_folder import RUN_CONFIGURATION, run_configuration
from workflows.image_files.brain import grey_limits
from workflows.monitoring.best_epoch import BestEpoch
from workflows.pictures.colours import CLASS_COLOURS
from workflows.pictures.drawing import OVERLAY_OPACITY, class_rgb
from workflows.training_data.slice_dataset import SliceDataset

logger = logging.getLogger(__name__)

SLICES_TAG = "validation_slices"
FALLEN_TAG = "cases_that_fell"
CASES_NAMED = 5

CLASS_COLOURMAP: Any = ListedColormap([class_rgb(index) for index in range(NUM_CLASSES)])
"""MONAI declares the name of one, and takes one."""

CHARTS = {
    "training against validation": ("loss", "accuracy", "study_dice", "study_mean_iou"),
    "counts, background included": ("precision", "sensitivity", "specificity"),
    "Dice of the regions": ("wt_dice", "tc_dice", "et_dice", "mean_region_dice"),
}
"""What the tab of custom scalars draws, each with its validation twin."""

COMPARED_FIGURES = ("val_mean_region_dice", "val_wt_dice", "val_tc_dice", "val_et_dice", "val_loss")
PLACES = ("dataset_dir", "run_dir", "split_file", "bundle_root", "device")
SECTIONS_OF_SETTINGS = ("input", "network_def", "loss", "optimizer", "lr_scheduler", "ema", "early_stop")


class Scalars(TensorBoardStatsHandler):
    """MONAI's, on the first rank only."""

    @idist.one_rank_only()
    def attach(self, engine: Engine) -> None:
        """To the trainer or the validator."""
        super().attach(engine)


class RunDescription:
    """The settings in the run's `config.json`, charts of training against validation, and the network's graph.

    Attach it to the trainer. The graph comes after the first epoch, so that tracing it does not delay the first slice.
    """

    def __init__(self, writer: SummaryWriter, network: torch.nn.Module, input: Input, run_dir: str | Path) -> None:
        self.writer, self.network, self.slice_shape = writer, network, slice_shape(input)
        self.run_dir = Path(run_dir)

    @idist.one_rank_only()
    def attach(self, engine: Engine) -> None:
        """To the trainer."""
        engine.add_event_handler(Events.STARTED, self._describe)
        engine.add_event_handler(Events.EPOCH_COMPLETED(once=1), self._write_graph)
        engine.add_event_handler(Events.COMPLETED, self._end)

    def _describe(self) -> None:
        settings = hyperparameters(run_configuration(self.run_dir / RUN_CONFIGURATION))
        experiment, start, self.end = hparams(settings, dict.fromkeys(COMPARED_FIGURES, 0.0))
        file: Any = self.writer.file_writer  # `add_hparams` would open a second run for them, without its scalars
        file.add_summary(experiment)
        file.add_summary(start)
        charts = {}
        for title, names in CHARTS.items():
            charts[title] = {name: ["Multiline", [f"^{name}$", f"^val_{name}$"]] for name in names}
        self.writer.add_custom_scalars(charts)
        self.writer.flush()

    def _write_graph(self) -> None:
        device = next(self.network.parameters()).device
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a check of the input's size counts as untraceable
            try:
                self.writer.add_graph(self.network, torch.zeros(1, *self.slice_shape, device=device))
            except RuntimeError as error:
                logger.warning(f"TensorBoard gets no graph of {type(self.network).__name__}: {error}")

    def _end(self) -> None:
        file: Any = self.writer.file_writer
        file.add_summary(self.end)
        self.writer.flush()


def hyperparameters(configuration: Mapping[str, Any]) -> dict[str, float | str]:
    """The settings that may differ between runs, as TensorBoard takes them, from what `config.json` holds.

    Returns:
        Numbers, words and short lists; of network, loss, optimiser and schedule the class under the section's name and
        the arguments as "section.argument". Expressions and file names are left out.
    """
    found: dict[str, float | str] = {}
    for name, value in configuration.items():
        if name in SECTIONS_OF_SETTINGS and isinstance(value, Mapping) and "_target_" in value:
            found[name] = str(value["_target_"]).rpartition(".")[2]
            found |= _plain_values({f"{name}.{key}": part for key, part in value.items() if key[0] != "_"})
        elif name not in PLACES and name[0] not in "_+":
            found |= _plain_values({name: value})
    return found


def _plain_values(settings: Mapping[str, Any]) -> dict[str, float | str]:
    plain: dict[str, float | str] = {}
    for name, value in settings.items():
        if isinstance(value, list) and all(isinstance(item, int | float | str) for item in value):
            value = ", ".join(map(str, value))
        if isinstance(value, bool):
            plain[name] = str(value).lower()
        elif isinstance(value, int | float) or (isinstance(value, str) and value and value[0] not in "$@%"):
            plain[name] = value
    return plain


class SliceOverlays:
    """A few validation slices, the same in every epoch: scan, prediction and reference side by side under one tag.

    They are taken from the batches that are scored anyway. Attach it to the validator.

    Args:
        count: slices in all, spread over the patients and, within a patient, over the stack.
        brain_only: show what would be predicted if nothing outside the brain could be tumour.
    """

    def __init__(self, writer: SummaryWriter, dataset: SliceDataset, count: int = 4, brain_only: bool = False) -> None:
        self.writer, self.dataset, self.count, self.brain_only = writer, dataset, count, brain_only
        self.tags: dict[tuple[int, int], str] = {}

    @idist.one_rank_only()
    def attach(self, engine: Engine) -> None:
        """To the validator."""
        engine.add_event_handler(Events.STARTED, self._choose)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._write_watched)
        engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: self.writer.flush())

    def _choose(self, engine: Engine) -> None:
        if self.tags:
            return
        for case, position in watched_slices(self.dataset, self.count):
            last = self.dataset.slices_per_case[case]
            self.tags[case, position] = f"{SLICES_TAG}/{self.dataset.names[case]}_{position + 1}_of_{last}"
        colours = "".join(f"| {CLASS_NAMES[c]} | #{r:02X}{g:02X}{b:02X} |\n" for c, (r, g, b) in CLASS_COLOURS.items())
        legend = f"Left to right: scan, prediction, reference.\n\n| class | colour |\n| --- | --- |\n{colours}"
        self.writer.add_text(SLICES_TAG, legend, engine.state.epoch)

    def _write_watched(self, engine: Engine) -> None:
        state: Any = engine.state  # Ignite declares output and batch as integers
        places = zip(state.batch["case"].tolist(), state.batch["slice"].tolist(), strict=True)
        for row, place in enumerate(places):
            if place in self.tags:
                image = shown_itself(self.dataset.input, state.output["image"][row], channel_dim=0)
                scores = state.output["pred"][row].float().softmax(0)
                shown = background_outside_brain(scores, image) if self.brain_only else scores
                label_maps = [classes.argmax(0).cpu().numpy() for classes in (shown, state.output["label"][row])]
                picture = side_by_side(image[0].cpu().numpy(), label_maps)
                self.writer.add_image(self.tags[place], picture, state.epoch)


def watched_slices(dataset: SliceDataset, count: int) -> list[tuple[int, int]]:
    """Patient and slice: of evenly spaced patients, the slices with most tumour in equal parts of the stack."""
    cases = len(dataset.names)
    chosen = [index * cases // count for index in range(count)]
    places = []
    for case in dict.fromkeys(chosen):
        tumour = dataset.case(case)["label"].flatten(1).count_nonzero(1).cpu().numpy()
        parts = np.array_split(np.arange(len(tumour)), min(chosen.count(case), len(tumour)))
        places += [(case, int(part[tumour[part].argmax()])) for part in parts]
    return places


def side_by_side(scan: NDArray[np.floating], label_maps: Sequence[NDArray[np.integer]]) -> NDArray[np.floating]:
    """A slice in grey, and again for each label map with the classes in their colours over it.

    Args:
        scan: (H, W), H along the patient's left and W along posterior.
        label_maps: (H, W) class indices each.
    Returns:
        (3, W, panels · H) from 0 to 1, anterior on top and the patient's left on the right.
    """
    low, high = grey_limits(scan[scan != 0])
    grey = np.where(scan != 0, (scan - low) / (high - low), 0).clip(0, 1)[None]
    panels = [
        blend_images(grey, labels[None] / (NUM_CLASSES - 1), OVERLAY_OPACITY, CLASS_COLOURMAP, rescale_arrays=False)
        for labels in (np.zeros(scan.shape, int), *label_maps)
    ]
    return np.concatenate([np.asarray(panel).swapaxes(1, 2) for panel in panels], axis=2)


class FallenCases:
    """As text: the validation cases whose Dice has fallen most since the best epoch.

    Attach it to the validator after `best`. The names are those of the cases of all ranks.
    """

    def __init__(self, writer: SummaryWriter, names: Sequence[str], best: BestEpoch) -> None:
        self.writer, self.names, self.best = writer, names, best
        self.best_dice = torch.empty(0)

    @idist.one_rank_only()
    def attach(self, engine: Engine) -> None:
        """To the validator."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def state_dict(self) -> dict[str, Any]:
        """The Dice of the cases in the best epoch."""
        return {"dice": self.best_dice}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.best_dice = state_dict["dice"]

    def __call__(self, engine: Engine) -> None:
        """Write the text of the epoch that has ended."""
        state: Any = engine.state
        dice: torch.Tensor = state.metric_details[state.key_metric_name]
        if self.best.epoch == state.epoch:
            self.best_dice = dice
            figure = self.best.figure
            text = f"Epoch {state.epoch} is the best so far ({figure} {state.metrics[figure]:.4f})."
        else:
            text = self._table(dice)
        self.writer.add_text(FALLEN_TAG, text, state.epoch)

    def _table(self, dice: torch.Tensor) -> str:
        change = (dice - self.best_dice).mean(1)
        fallen = [case for case in change.argsort().tolist() if change[case] < 0][:CASES_NAMED]
        if not fallen:
            return f"No case is worse than in epoch {self.best.epoch}, the best so far."
        regions = " | ".join(f"{region} then | now" for region in REGIONS)
        rows = [f"| case | mean Dice | {regions} |", "|" + " --- |" * (2 + 2 * len(REGIONS))]
        for case in fallen:
            pairs = zip(self.best_dice[case].tolist(), dice[case].tolist(), strict=True)
            cells = " | ".join(f"{then:.3f} | {now:.3f}" for then, now in pairs)
            rows.append(f"| {self.names[case]} | {change[case]:+.3f} | {cells} |")
        return "\n".join([f"Since epoch {self.best.epoch}, the best so far:", "", *rows])
