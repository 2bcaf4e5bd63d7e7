"""Evaluation of a checkpoint: label maps predicted for a section of a datalist, scored on the patients' own grids."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data import MetaTensor
from monai.engines import IterationEvents
from monai.transforms import Compose, Orientation, Resize, Transform

from transforms.boxes import Box, bounding_box, widened
from transforms.crop import BOX_END, BOX_START
from transforms.geometry import same_place
from transforms.inputs import BrainCube, Input, study_slices_of
from transforms.labels import BACKGROUND
from transforms.pipelines import label_slices
from transforms.regions import background_outside_brain
from transforms.slices import AXIAL_ORIENTATION, StackSlicesd, plain, spacing_mm
from transforms.soft_labels import expand_labels
from transforms.windows import slice_window
from workflows.data.label_conventions import convention_named
from workflows.evaluation.output_files import SCORE_FILES, report_scores
from workflows.evaluation.study_computed import case_sums, study_figures, study_table, tumour_accuracy
from workflows.files.outputs import check_outputs
from workflows.files.run_folder import RUN_SPLIT_FILE, run_configuration
from workflows.machine.ranks import from_first, joined
from workflows.messages.errors import ConfigurationError, DatasetError
from workflows.prediction.predict import check_predictions, predict
from workflows.scoring.false_positives import FalsePositives, false_positives, pooled
from workflows.scoring.per_case_csv import rows_of_case
from workflows.scoring.pixel_sums import region_dice
from workflows.settings.checkpoints import check_checkpoint, warn_of_trained_cases
from workflows.splits.datalist import SECTIONS, read_datalist, samples

logger = logging.getLogger(__name__)

ARGMAX, EXPECTED_DICE = "argmax", "expected dice"
"""The stages before any post-processing step and after all of them, the latter where `expected_dice` asks for it."""


def run_evaluation(variants: Iterable[str], overrides: Mapping[str, Any]) -> None:
    """Run `inference.json` with the overlay `evaluate.json`; data and split are the run's own unless others are named.

    Raises:
        ConfigurationError: if neither the checkpoint's run nor `overrides` name them.
    """
    predict(["evaluate", *variants], evaluation_settings(overrides))


def evaluation_settings(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """`overrides`; data and split that they do not name are those of the checkpoint's own run."""
    checkpoint = Path(overrides["checkpoint"])
    check_checkpoint(checkpoint)
    own = run_configuration(checkpoint)
    defaults = {name: own.get(name) for name in ("dataset_dir", "soft_labels")}
    defaults["split_file"] = str(checkpoint.parent / RUN_SPLIT_FILE)
    settings = {name: value for name, value in {**defaults, **overrides}.items() if value is not None}
    warn_of_trained_cases(settings["split_file"], settings.get("section", ""), settings.get("more_checkpoints", ()))
    return settings


def datalist(
    dataset_dir: str | Path,
    split_file: str | Path,
    section: str,
    modalities: Sequence[str],
    output_dir: str | Path | None = None,
) -> dict[str, Any]:
    """The labelled cases of one section.

    Args:
        output_dir: where scores and label maps will be written.
    Returns:
        "cases": [{"case": id, "image": [one file per modality], "label": file}, …]; "label_values": class index of
        each value in the label files.
    Raises:
        ConfigurationError: if no split or an unknown or empty section is named, or something would be written into
            the data folder, or replace somebody else's file.
    """
    if not str(dataset_dir) or not str(split_file):
        needed = "--dataset_dir DIR and --split_file FILE"
        raise ConfigurationError(f"evaluation needs {needed}; a run keeps its {RUN_SPLIT_FILE}.")
    if section not in SECTIONS:
        raise ConfigurationError(f"no section {section!r}; there are {', '.join(SECTIONS)}.")
    split = read_datalist(split_file, dataset_dir, section)
    cases = samples(split[section], modalities)
    if not cases:
        raise ConfigurationError(f"{split_file}: the section {section} is empty.")
    if output_dir is not None:
        check_predictions([case["case"] for case in cases], output_dir, dataset_dir)
        check_outputs(Path(output_dir) / name for name in SCORE_FILES)
    return {"cases": cases, "label_values": dict(convention_named(split["label_convention"]).classes)}


def source_in_words(
    checkpoint: str | Path, more_checkpoints: Sequence[str | Path], dataset_dir: str | Path, section: str
) -> dict[str, str]:
    """What is scored, for the summary."""
    checkpoints = ", ".join(map(str, [checkpoint, *more_checkpoints]))
    return {"checkpoint": checkpoints, "dataset_dir": str(dataset_dir), "section": section}


class Evaluation:
    """Scores each case as it is predicted, and at the end writes and prints the tables.

    Args:
        output_dir: for the files that `workflows.evaluation.output_files` names.
        cleaning: the post-processing steps that are switched on, by name, see `transforms.cleaning`.
        input: what the network is shown. The study's figures are computed on its window of axial slices; of a cube,
            whose grid has no such slices, on those of the final probabilities.
        described: "rules", "hd95" and "source", see `workflows.evaluation.output_files.summary_of`.
        soft_labels: as in training.
        brain_only: as in prediction.
        expected_dice: whether label maps have grown after the cleaning, see `transforms.decision`.
    """

    def __init__(
        self,
        output_dir: str | Path,
        cleaning: Mapping[str, Transform],
        input: Input,
        described: Mapping[str, Any],
        soft_labels: bool = False,
        brain_only: bool = True,
        expected_dice: bool = False,
    ) -> None:
        study = study_slices_of(input)
        self.output_dir, self.cleaning, self.slice_range = Path(output_dir), cleaning, tuple(study.slice_range)
        self.described = {**described, "rules": str(described["rules"])}  # a command line reads 2020 as a number
        self.brain_only = brain_only
        self.to_study_label = Compose(label_slices(study, soft_labels))
        self.to_study_image = Compose([*study.selection_steps("image"), StackSlicesd("image")])
        self.to_axial = Orientation(AXIAL_ORIENTATION, labels=None)
        self.in_cube, self.to_study_grid = isinstance(input, BrainCube), Resize(study.grid, mode="trilinear")
        self.rows: list[dict[str, Any]] = []
        self.study_sums: list[torch.Tensor] = []
        self.tumour_accuracies: list[float] = []
        self.expected_dice = expected_dice
        self.stages = {name: Stage() for name in (ARGMAX, *cleaning, *([EXPECTED_DICE] if expected_dice else []))}
        *_, self.last_stage = self.stages.values()

    def attach(self, engine: Engine) -> None:
        """Score after each case, and report at the end."""
        engine.add_event_handler(IterationEvents.FORWARD_COMPLETED, self._keep_scores)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._score_batch)
        engine.add_event_handler(Events.COMPLETED, self._finish)

    def _keep_scores(self, engine: Engine) -> None:
        """Keep the network's scores on its own grid, before post-processing replaces them."""
        self.network_scores = engine.state.output["pred"]  # type: ignore[index]  # Ignite declares an integer

    def _score_batch(self, engine: Engine) -> None:
        state: Any = engine.state  # Ignite declares output and batch as integers
        for batch, output, scores in zip(state.batch, state.output, self.network_scores, strict=True):
            case, label = batch["case"], output["label"]
            if output["argmax_map"].shape != label.shape or not same_place(output["argmax_map"].affine, label.affine):
                raise DatasetError(f"{case}: its segmentation has another shape or affine than its images.")
            final, true = (np.asarray(volume.cpu())[0] for volume in (output["label_map"], label))
            self._add_stages(case, {ARGMAX: None, **self.cleaning}, output["argmax_map"], label)
            if self.expected_dice:
                self._add_stages(case, {EXPECTED_DICE: None}, output["label_map"], label)
            self._add_study(case, batch, scores, output)
            how = self.described["rules"], self.described["hd95"]
            self.rows += rows_of_case(case, final, true, label.pixdim.tolist(), *how)
            self.tumour_accuracies.append(tumour_accuracy(final, true))

    def _add_stages(
        self, case: str, steps: Mapping[str, Transform | None], label_map: MetaTensor, label: MetaTensor
    ) -> None:
        """Score a label map after each step; None leaves it as it is."""
        affine, reference = np.asarray(label.affine, dtype=np.float64), np.asarray(label.cpu())[0]
        own, true, box = cut_to_tumour(label_map, label)  # a step costs a tenth there, and may work in place
        sample: dict[Any, Any] = {"label_map": own}
        for name, step in steps.items():
            sample = dict(step(sample)) if step else sample
            stage = self.stages[name]
            stage.dice.append(region_dice(sample["label_map"].as_tensor(), true.as_tensor()))
            whole = np.zeros(reference.shape, np.uint8)
            whole[box] = sample["label_map"][0].cpu().numpy()
            stage.cases[case] = false_positives(whole, reference, affine, self.slice_range)

    def _add_study(
        self, case: str, batch: Mapping[Any, Any], scores: torch.Tensor, output: Mapping[str, MetaTensor]
    ) -> None:
        image = cast(MetaTensor, self.to_axial(output["pred"]) if self.in_cube else batch["image"])
        try:
            slice_window(self.slice_range, spacing_mm(image), image.shape[-1])
        except ValueError as error:
            logger.warning(f"{case}: left out of the study's table, since the {error}")
            return
        box = {key: batch[key] for key in (BOX_START, BOX_END) if key in batch and not self.in_cube}
        target = expand_labels(self.to_study_label({**box, "label": output["label"]})["label"])
        if self.in_cube:
            probabilities = self._study_slices(self.to_study_grid(image), image)
        else:
            shown, scored = (self._study_slices(volume, image) for volume in (image, scores))
            probabilities = scored.float().softmax(dim=1)
            if self.brain_only:
                probabilities = background_outside_brain(probabilities, shown, channel_dim=1)
        self.study_sums.append(case_sums(probabilities, target.to(probabilities.device)))

    def _study_slices(self, volume: torch.Tensor, image: MetaTensor) -> torch.Tensor:
        """The slices of the study's window in a volume on the grid of an image."""
        as_image = MetaTensor(plain(volume), affine=image.affine)
        return cast(torch.Tensor, self.to_study_image({"image": as_image})["image"])

    def _finish(self, engine: Engine) -> None:
        self._gather()
        if self.rows:
            mean_dice = from_first(self._report)
            engine.state.metrics |= {f"{name.lower()}_dice": mean for name, mean in mean_dice.items()}

    def _gather(self) -> None:
        """Put the cases of all ranks together, in the order in which one process would have scored them."""
        self.rows, self.study_sums = joined(self.rows), joined(self.study_sums)
        self.tumour_accuracies = joined(self.tumour_accuracies)
        for stage in self.stages.values():
            stage.cases, stage.dice = dict(joined(list(stage.cases.items()))), joined(stage.dice)

    def _report(self) -> dict[str, float]:
        """Write and print; returns the mean Dice by region."""
        sections = {
            "study": self._study(),
            "post_processing": {"after_each_step": {name: stage.figures() for name, stage in self.stages.items()}},
            "false_positives": self._false_positives_by_case(),
        }
        return dict(report_scores(self.rows, self.output_dir, **self.described, sections=sections)["mean_dice"])

    def _study(self) -> dict[str, Any]:
        if not self.study_sums:
            return {"cases": 0, "figures": []}
        figures = study_figures(self.study_sums)
        table = study_table(figures, self.rows, self.tumour_accuracies, self.last_stage.figures()["false_slice_share"])
        return {"cases": len(self.study_sums), "figures": table}

    def _false_positives_by_case(self) -> dict[str, Any]:
        more = len(self.stages) > 1
        named = {"by_argmax": self.stages[ARGMAX]} | ({"after_all_steps": self.last_stage} if more else {})
        return {name: {case: asdict(counted) for case, counted in stage.cases.items()} for name, stage in named.items()}


class Stage:
    """The label maps of all cases after one post-processing step and those before it."""

    def __init__(self) -> None:
        self.cases: dict[str, FalsePositives] = {}
        self.dice: list[dict[str, float]] = []

    def figures(self) -> dict[str, float]:
        """Mean Dice per region, and the figures of `false_positives.pooled`."""
        means = {f"{name.lower()}_dice": float(np.mean([dice[name] for dice in self.dice])) for name in self.dice[0]}
        return means | pooled(list(self.cases.values()))


def cut_to_tumour(label_map: MetaTensor, reference: MetaTensor, margin: int = 0) -> tuple[MetaTensor, MetaTensor, Box]:
    """Copies of both, cut to the box around any tumour in either: no component and no overlap is lost.

    Args:
        label_map, reference: (1, H, W, D) class indices.
        margin: extra voxels on every side, as far as the volume goes.
    Returns:
        Both, and where in the volume they were.
    """
    tumour = ((label_map != BACKGROUND) | (reference != BACKGROUND))[0].cpu().numpy()
    box = widened(bounding_box(tumour), margin, tumour.shape) if tumour.any() else (slice(0, 1),) * 3
    maps = (label_map, reference)
    own, true = (MetaTensor(map_.as_tensor()[:, *box].clone(), affine=map_.affine) for map_ in maps)
    return own, true, box
