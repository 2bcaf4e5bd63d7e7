"""Choose post-processing and temperature on validation cases; test cases are never used."""

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

from transforms.cleaning import cleaning_steps
from transforms.decision import BestExpectedDiced, reach
from transforms.slices import plain
from workflows.evaluation.calibration import BINS, CalibrationVoxels, calibration_table
from workflows.evaluation.evaluate_checkpoint import cut_to_tumour, evaluation_settings
from workflows.files.json_files import write_json
from workflows.files.outputs import check_outputs
from workflows.files.run_folder import TUNED_SETTINGS_FILE
from workflows.messages.errors import ConfigurationError
from workflows.messages.progress import track
from workflows.messages.text_tables import TextTable, cell
from workflows.prediction.predict import predict
from workflows.scoring.pixel_sums import region_dice

logger = logging.getLogger(__name__)

CANDIDATES: dict[str, tuple[Any, ...]] = {
    "smallest_component_mm3": (0, 50, 100, 250, 500, 1000, 2500, 5000),
    "largest_component_only": (False, True),
    "smallest_enhancing_mm3": (0, 50, 100, 200, 300, 500, 1000),
}
"""The values tried of each setting; the first does nothing. BraTS 2020's winner tried thresholds of this size."""
GROWTH = "expected_dice"
"""Tried after these, the default first."""

TRIALS_FILE = "post_processing_trials.json"
CALIBRATION_FILE = "calibration.json"

Maps = list[MetaTensor]


def run_tuning(variants: Iterable[str], overrides: Mapping[str, Any]) -> None:
    """Predict the validation cases without post-processing and write the settings that score best on them.

    Raises:
        ConfigurationError: if the test cases are named, or several checkpoints and no folder for what is chosen.
    """
    if overrides.get("section") == "testing":
        raise ConfigurationError("thresholds are never chosen on test cases; use --section validation or training.")
    if overrides.get("more_checkpoints") and "output_dir" not in overrides:
        raise ConfigurationError("the choice for several checkpoints has no folder of its own: name --out FOLDER.")
    settings = {"section": "validation", "output_dir": str(Path(overrides["checkpoint"]).parent)}
    out = Path(str({**settings, **overrides}["output_dir"]))
    check_outputs(out / name for name in (TUNED_SETTINGS_FILE, TRIALS_FILE, CALIBRATION_FILE))
    off = {name: values[0] for name, values in CANDIDATES.items()} | {"temperature": 1.0, GROWTH: False}
    predict(["evaluate", "tune", *variants], {**settings, **evaluation_settings({**settings, **overrides}), **off})


class Tuning:
    """Collects every case's label map and its reference, and at the end tries the candidates on them.

    Writes the overlay `post_processing.json`, `post_processing_trials.json` and `calibration.json`, which records the
    settings of the prediction, since the temperature is valid for these only. `averaged`: of several checkpoints.
    """

    def __init__(self, output_dir: str | Path, settings: Mapping[str, Any], averaged: bool = False) -> None:
        self.output_dir, self.settings, self.averaged = Path(output_dir), dict(settings), averaged
        self.voxels = CalibrationVoxels()
        self.maps: Maps = []
        self.references: Maps = []
        self.probabilities: list[torch.Tensor] = []  # of the same boxes, in 16 bits

    def attach(self, engine: Engine) -> None:
        """Collect each case, and choose at the end."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.COMPLETED, self._finish)

    def _collect(self, engine: Engine) -> None:
        state: Any = engine.state  # Ignite declares output and batch as integers
        for batch, output in zip(state.batch, state.output, strict=True):
            label_map, reference = output["argmax_map"].cpu(), output["label"].cpu()
            label_map, reference, box = cut_to_tumour(label_map, reference, max(reach(label_map.pixdim.tolist())))
            self.maps.append(label_map)
            self.references.append(reference)
            self.probabilities.append(plain(output["pred"])[(slice(None), *box)].half().cpu())
            self.voxels.add(output["pred"].cpu(), output["label"].cpu(), output["brain"].cpu())
            logger.info(f"{len(self.maps)}/{state.epoch_length} {batch['case']} predicted")

    def _finish(self) -> None:
        chosen, trials = choose(self.maps, self.references)
        chosen[GROWTH], of_growth = choose_growth(chosen, self.maps, self.references, self.probabilities)
        trials += of_growth
        calibration = self.voxels.calibrate()
        if calibration:
            chosen["temperature"] = calibration.temperature
            write_json(
                {**asdict(calibration), "bins": BINS, "settings": self.settings}, self.output_dir / CALIBRATION_FILE
            )
        tuned = self.output_dir / TUNED_SETTINGS_FILE
        write_json(chosen, tuned)
        write_json(trials, self.output_dir / TRIALS_FILE)
        as_table(trials, len(self.maps)).print()
        if calibration:
            calibration_table(calibration, len(self.maps)).print()
        how = f"with these checkpoints and --config {tuned}" if self.averaged else f"{tuned} from now on"
        logger.info(f"prediction and evaluation use {how}")


def choose(maps: Maps, references: Maps) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Settle one setting after the other, each given the ones before it, on (1, H, W, D) class indices per case.

    Returns:
        The best value of each setting, of equal ones the first; and what each candidate scored: "setting", "value",
        "mean_region_dice" over the regions and cases, "chosen".
    """
    chosen: dict[str, Any] = {}
    trials: list[dict[str, Any]] = []
    for name, values in track(CANDIDATES.items(), "settling post-processing", len(CANDIDATES)):
        scores = [
            mean_region_dice([applied(label_map, **{name: value}) for label_map in maps], references)
            for value in values
        ]
        best = int(np.argmax(scores))
        chosen[name] = values[best]
        maps = [applied(label_map, **{name: chosen[name]}) for label_map in maps]
        trials += _as_trials(name, values, scores, best)
    return chosen, trials


def choose_growth(
    chosen: Mapping[str, Any], maps: Maps, references: Maps, probabilities: Sequence[torch.Tensor]
) -> tuple[bool, list[dict[str, Any]]]:
    """Whether the tumour is to grow after the chosen steps, see `transforms.decision`, and what either scored.

    Per case (1, H, W, D) class indices, and (4, H, W, D) probabilities.
    """
    kept = [applied(label_map, **chosen) for label_map in maps]
    grow = BestExpectedDiced("label_map", "pred", "argmax_map")
    larger = [
        grow({"label_map": left.clone(), "argmax_map": found, "pred": of_case.float()})["label_map"]
        for left, found, of_case in zip(kept, maps, probabilities, strict=True)
    ]
    scores = [mean_region_dice(larger, references), mean_region_dice(kept, references)]
    best = int(np.argmax(scores))
    return best == 0, _as_trials(GROWTH, (True, False), scores, best)


def _as_trials(setting: str, values: Sequence[Any], scores: Sequence[float], best: int) -> list[dict[str, Any]]:
    return [
        {"setting": setting, "value": value, "mean_region_dice": score, "chosen": place == best}
        for place, (value, score) in enumerate(zip(values, scores, strict=True))
    ]


def applied(label_map: MetaTensor, **settings: Any) -> MetaTensor:
    """The label map after the steps that the settings switch on; a copy where they switch on none."""
    sample: dict[str, Any] = {"label_map": label_map.clone()}  # a step may work in place
    for step in cleaning_steps(**settings).values():
        sample = dict(step(sample))
    return cast(MetaTensor, sample["label_map"])


def mean_region_dice(maps: Sequence[MetaTensor], references: Sequence[MetaTensor]) -> float:
    """Mean over WT, TC and ET and the cases, by BraTS's rules."""
    pairs = zip(maps, references, strict=True)
    return float(np.mean([list(region_dice(label_map, reference).values()) for label_map, reference in pairs]))


def as_table(trials: Sequence[Mapping[str, Any]], cases: int) -> TextTable:
    """What each candidate scored."""
    rows = [
        [trial["setting"], str(trial["value"]), cell(trial["mean_region_dice"], 4), "chosen" * trial["chosen"]]
        for trial in trials
    ]
    columns = ["setting", "value", "mean Dice of WT, TC, ET", ""]
    return TextTable(f"Post-processing on {cases} validation cases", columns, rows)
