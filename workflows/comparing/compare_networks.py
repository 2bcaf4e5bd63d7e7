"""Networks trained and scored under one budget: which segments how well, and what it costs."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from transforms.labels import STUDY_MODALITIES
from workflows.comparing.network_tables import TABLES, network_row, print_table, write_tables
from workflows.files.json_files import write_json
from workflows.files.outputs import check_outputs
from workflows.files.run_folder import MODEL, RUN_SPLIT_FILE
from workflows.machine.processes import in_own_process
from workflows.messages.errors import BratsError, ConfigurationError, not_a_file
from workflows.settings.bundle_files import bundle_root, config_files, known_settings
from workflows.settings.overrides import refuse_unknown
from workflows.splits.split import STUDY_SPLIT, obtain_datalist
from workflows.training.train import LAST_EPOCH, train

warnings.filterwarnings("ignore", message="parsing config_file")  # in the networks' processes too

NETWORKS = (
    *("packed_unet", "study_unet", "unet2d", "basic_unet", "residual_unet", "dynunet", "attention_unet"),
    *("flexible_unet", "unet3d"),
)
"""The bundle's overlays that choose a network and nothing else; a 3D one also sets what three dimensions need."""

SECTIONS_TO_SCORE = ("validation", "testing")
SETTINGS_FILE, STEPS_FILE, TRAINING_FILE = "comparison.json", "steps.json", "training.json"
DECIDED_HERE = ("max_epochs", "val_interval", "resume", "run_dir", "network_def")


@dataclass(frozen=True)
class Conditions:
    """What is the same for all networks: the budget of a training, the scored section of the split, overlays that come
    before each network's, and settings of train.json.
    """

    minutes: float = 9
    section: str = "validation"
    variants: Sequence[str] = ()
    overrides: Mapping[str, Any] = field(default_factory=dict)


def compare_networks(
    dataset_dir: Path,
    out: Path,
    networks: Sequence[str] = NETWORKS,
    split_file: Path | None = None,
    conditions: Conditions = Conditions(),
) -> None:
    """Train every network for `minutes`, score it, and write networks.csv, .json, .md and .png into `out`.

    The minutes are processor time of the training's steps, on a GPU wall clock. A one-cycle schedule must know its
    length beforehand, so each network first does a dozen real steps, whose median gives the number of epochs, one at
    least. Reading the cases and the one validation at the end are not in the budget, but in the measured cost. The
    weights after the last epoch are scored: nothing is chosen on the scored cases. Finished work is not repeated; an
    interrupted training starts again.

    Args:
        networks: overlays of train.json that define a network, names of the bundle's or paths.
        split_file: datalist; without one the study's proportions are applied, once for all networks.
    Raises:
        ConfigurationError: before any work, if a setting makes no sense; at the end, with the networks that failed.
    """
    overlays = _overlays(networks)
    _check(conditions)
    check_outputs([out / name for name in (RUN_SPLIT_FILE, *TABLES)], [dataset_dir])
    _keep_split(dataset_dir, split_file, out, conditions)
    described = {
        "dataset_dir": str(dataset_dir.resolve()),
        "minutes": conditions.minutes,
        "section": conditions.section,
    }
    _keep_settings({**described, "config": conditions.variants, "settings": conditions.overrides}, out)
    files = {"dataset_dir": str(dataset_dir), "split_file": str(out / RUN_SPLIT_FILE)}
    in_all = replace(conditions, overrides={**conditions.overrides, **files})
    failed: dict[str, BratsError] = {}
    for number, (name, overlay) in enumerate(overlays.items(), start=1):
        print(f"{number}/{len(overlays)} {name}: {out / name}", flush=True)
        try:
            _train_and_score(out / name, overlay, in_all)
        except BratsError as error:
            failed[name] = error
            print(f"{name}: {error}", flush=True)
        else:  # after each network, so that what is finished can be looked at
            write_tables(_finished(out, overlays), described, out)
    print_table(_finished(out, overlays), out)
    if failed:
        lines = "".join(f"\n  {name}: {error}" for name, error in failed.items())
        raise ConfigurationError(f"{len(failed)} of {len(overlays)} networks failed; start again to try them.{lines}")


def _finished(out: Path, names: Iterable[str]) -> list[dict[str, Any]]:
    return list(filter(None, (network_row(out / name) for name in names)))


def epochs_within(minutes: float, steps_per_epoch: int, seconds_per_step: float) -> int:
    """Whole epochs that fit in the budget; one where none does."""
    return max(1, int(minutes * 60 / (steps_per_epoch * seconds_per_step)))


def _train_and_score(folder: Path, overlay: str, conditions: Conditions) -> None:
    """One network, skipping what its folder holds already."""
    variants, settings, section = [*conditions.variants, overlay], conditions.overrides, conditions.section
    steps, training, scores = folder / STEPS_FILE, folder / TRAINING_FILE, folder / "scores"
    if network_row(folder):
        print("  is there, skipped", flush=True)
        return
    if not steps.is_file():
        print("  measuring its steps", flush=True)
        in_own_process(measure_steps, variants, settings, steps)
    cost = json.loads(steps.read_text(encoding="utf-8"))
    epochs = epochs_within(conditions.minutes, cost["steps_per_epoch"], cost["seconds_per_step"])
    if not training.is_file():
        steps_in_words = f"{cost['steps_per_epoch']} steps of {cost['seconds_per_step']:.2f} s"
        print(f"  training {epochs} epochs of {steps_in_words}", flush=True)
        shutil.rmtree(folder / "run", ignore_errors=True)  # of an interrupted training
        in_own_process(train_network, variants, settings, epochs, folder / "run", training)
    print(f"  scoring the cases of {section}", flush=True)
    in_own_process(score_network, settings, folder / "run", section, scores)


def _overlays(networks: Sequence[str]) -> dict[str, str]:
    """The overlays by the name that each network gets in the tables."""
    found: dict[str, str] = {}
    for network in networks:
        file = Path(config_files("train", [network])[1])
        if not any(name.split("#")[0] == "network_def" for name in json.loads(file.read_text(encoding="utf-8"))):
            known = ", ".join(NETWORKS)
            raise ConfigurationError(f"{network}: is no network; it has no network_def. Choose from {known}.")
        if found.setdefault(file.stem, network) != network:
            raise ConfigurationError(f"{network} and {found[file.stem]} have one name; rename one.")
    return found


def _check(conditions: Conditions) -> None:
    refuse_unknown(conditions.overrides, known_settings(bundle_root()))
    if not conditions.minutes > 0:
        raise ConfigurationError(f"minutes is {conditions.minutes}; it must be greater than 0.")
    if conditions.section not in SECTIONS_TO_SCORE:
        raise ConfigurationError(f"section is {conditions.section!r}; choose from {', '.join(SECTIONS_TO_SCORE)}.")
    if decided := [name for name in conditions.overrides if name.replace("::", "#").split("#")[0] in DECIDED_HERE]:
        raise ConfigurationError(f"{', '.join(decided)}: the comparison decides this for each network; leave it out.")


def _keep_split(dataset_dir: Path, split_file: Path | None, out: Path, conditions: Conditions) -> None:
    own, overrides = out / RUN_SPLIT_FILE, conditions.overrides
    if split_file and not split_file.is_file():
        raise ConfigurationError(f"{split_file}: {not_a_file(split_file)[:-1]}; make one by  brats-unet split.")
    if split_file and own.exists() and own.read_bytes() != split_file.read_bytes():
        raise ConfigurationError(f"{out}: holds a comparison on another split; name another --out.")
    modalities = overrides.get("input#modalities", STUDY_MODALITIES)
    split = obtain_datalist(dataset_dir, split_file, out, modalities, overrides.get("split_seed", STUDY_SPLIT.seed))
    if empty := [name for name in ("training", "validation", conditions.section) if not split[name]]:
        raise ConfigurationError(f"{split_file or dataset_dir}: no case is for {empty[0]}; make another split.")


def _keep_settings(settings: dict[str, Any], out: Path) -> None:
    file = out / SETTINGS_FILE
    now = json.loads(json.dumps(settings, default=str))
    if file.is_file():
        before = json.loads(file.read_text(encoding="utf-8"))
        if changed := [f"{name} {before.get(name)} → {now[name]}" for name in now if before.get(name) != now[name]]:
            other = f"other settings ({'; '.join(changed)})"
            raise ConfigurationError(f"{out}: holds a comparison with {other}; name another --out.")
    write_json(now, file)


# What is done with one network, in a process of its own. The process that waits needs none of the heavy imports.


def measure_steps(variants: Sequence[str], settings: Mapping[str, Any], out: Path) -> None:
    """Do the first steps of the training and write what they cost, see `network_costs.StepCosts`."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        train([*variants, "measure_steps"], {**settings, **LAST_EPOCH, "run_dir": str(run)})
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(run / "steps.json", out)


def train_network(
    variants: Sequence[str], settings: Mapping[str, Any], epochs: int, run: Path, cost_file: Path
) -> None:
    """Train for that many epochs and write what the whole process took."""
    from workflows.comparing.network_costs import peak_memory

    started = time.monotonic()
    train(variants, {**settings, **LAST_EPOCH, "max_epochs": epochs, "run_dir": str(run)})
    seconds = {"cpu_seconds": time.process_time(), "wall_seconds": time.monotonic() - started}
    write_json({"epochs": epochs, **seconds, **peak_memory()}, cost_file)


def score_network(settings: Mapping[str, Any], run: Path, section: str, out: Path) -> None:
    """Evaluate the weights after the last epoch as `brats-unet evaluate` does, and measure the prediction.

    Of the training's settings those are used that inference knows too.
    """
    from monai.bundle import ConfigParser

    from workflows.evaluation.evaluate_checkpoint import run_evaluation

    known = ConfigParser.load_config_files(config_files("inference", ["evaluate"]))
    shared = {name: value for name, value in settings.items() if name.replace("::", "#").split("#")[0] in known}
    own = {"checkpoint": str(run / MODEL), "output_dir": str(out), "section": section}
    run_evaluation(["measure_prediction"], {**shared, **own, "split_file": str(run / "split.json")})
