"""A training run: its folder, its data, its beginning and its end. What happens in between stands in `train.json`."""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transforms.files import remove_partial, write_whole
from transforms.labels import NUM_CLASSES
from transforms.windows import slice_window
from workflows.data.label_conventions import convention_named
from workflows.data.reading import BY_NAMES, Reading
from workflows.files.outputs import check_outputs
from workflows.files.run_folder import CURVES, LAST, LOG, MODEL, RUN_CONFIGURATION, RUN_SPLIT_FILE, run_configuration
from workflows.image_files.nifti_files import axial_slices
from workflows.machine.allocation import keep_freed_memory, spare_collector_the_imports
from workflows.machine.processes import use_allowed_processors
from workflows.machine.ranks import continue_command, from_first, is_first, wait_for_all
from workflows.machine.stopping import exit_status
from workflows.messages.errors import ConfigurationError, DatasetError
from workflows.settings.bundle_files import config_files
from workflows.settings.overrides import refuse_misspelt, run_workflow, running_workflow
from workflows.settings.setting_checks import NONE, refuse_lost_code
from workflows.splits.datalist import SECTIONS, samples
from workflows.splits.split import obtain_datalist

if TYPE_CHECKING:
    from transforms.inputs import Input
    from workflows.training.run_state import RunState

logger = logging.getLogger(__name__)

WRITTEN = (RUN_CONFIGURATION, RUN_SPLIT_FILE, CURVES)
RESUME = "resume"
LAST_EPOCH = {"val_interval": "@max_epochs"}
"""With these settings `model.pt` holds the weights after the last epoch: validating once, at the end, leaves nothing to
choose on the validation cases, which can then be scored."""


def train(variants: Iterable[str], overrides: Mapping[str, Any], resume: bool = False) -> None:
    """Run `train.json` with overlays and overrides, as `python -m monai.bundle run training` would.

    With `resume` the run in `overrides["run_dir"]` continues, with its own configuration where nothing else is named.
    """
    from monai.bundle import ConfigParser

    if resume:
        own = Path(overrides["run_dir"]) / RUN_CONFIGURATION
        began_with = run_configuration(own)
        refuse_lost_code(own, began_with)
        if "tracking_uri" in began_with:  # tracked from its beginning, and it would be so twice
            overrides = {name: value for name, value in overrides.items() if name != "tracking"}
        variants = [*([str(own)] if own.is_file() else []), *variants, RESUME]
    files = config_files("train", variants)
    refuse_misspelt(overrides, ConfigParser.load_config_files(files))
    run_workflow("training", files, overrides)


def new_run_dir() -> str:
    """A folder below `runs` that is named after the present second and does not exist; the same for all ranks."""
    name = time.strftime("runs/%Y-%m-%d_%H-%M-%S")
    names = chain([name], (f"{name}_{number}" for number in count(2)))
    return from_first(lambda: next(free for free in names if not Path(free).exists()))


def outside_data(folder: str, dataset_dir: str) -> str:
    """The folder, for what MONAI writes before a run's first step; `ConfigurationError` if the data lie there."""
    check_outputs([Path(folder) / "any"], [dataset_dir])
    return folder


def begin_run(
    run_dir: str,
    dataset_dir: str,
    seed: int,
    resume: bool = False,
    cache_dir: str | None = None,
    amp: bool | None = None,
) -> None:
    """Make the run's folder, save the configuration in it and seed every random generator.

    Args:
        resume: continue what the folder holds; its configuration is kept until the state turns out to fit the new one.
    Raises:
        ConfigurationError: if the folder holds another run, or `cache_dir` lies in the data folder.
    """
    from monai.utils import set_determinism

    if cache_dir:
        check_outputs([Path(cache_dir) / "any"], [dataset_dir], setting="cache_dir")
    from_first(lambda: _claim(Path(run_dir), dataset_dir, resume, amp))
    keep_freed_memory()
    use_allowed_processors()
    spare_collector_the_imports()
    set_determinism(seed)
    logger.info(f"run folder {Path(run_dir).resolve()}; watch it with  tensorboard --logdir {run_dir}")


def _claim(folder: Path, dataset_dir: str, resume: bool, amp: bool | None) -> None:
    check_outputs([folder / name for name in WRITTEN], [dataset_dir])
    taken = [name for name in (MODEL, LAST, LOG) if (folder / name).exists()]
    if taken and not resume:
        raise ConfigurationError(
            f"{folder}: holds an earlier run ({', '.join(taken)}); name another folder, or continue it by --resume."
        )
    remove_partial(folder)
    if not (folder / LAST).exists():
        save_configuration(folder, dataset_dir, amp)
        return
    try:  # before any patient is read; TensorBoard's thread would otherwise be the first to find out
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise type(error)(error.errno, error.strerror, str(folder)) from error


def save_configuration(run_dir: str | Path, dataset_dir: str, amp: bool | None = None) -> None:
    """Keep the running workflow's configuration as the run's `config.json`.

    `amp` by default depends on the machine; it is saved, so that the run continues the same way on another one.
    """
    folder = Path(run_dir)
    if configuration := current_configuration():
        own = {"dataset_dir": str(Path(dataset_dir).resolve()), "run_dir": str(folder.resolve()), "resume": False}
        text = json.dumps({**configuration, **own, **({} if amp is None else {"amp": amp})}, indent=2)
        write_whole(folder / RUN_CONFIGURATION, lambda path: path.write_text(text, encoding="utf-8"))


def current_configuration() -> dict[str, Any]:
    """The running workflow's configuration as JSON holds it; empty outside of one."""
    workflow = running_workflow()
    settings = json.loads(json.dumps(workflow.parser.get(), default=str)) if workflow is not None else {}
    return {name: None if value == NONE else value for name, value in settings.items()}


def check_network(network: Any, input: Input) -> None:
    """Try the network on one empty slice before any patient is read.

    Raises:
        ConfigurationError: if it does not take slices of this size and number of channels, or has other classes.
    """
    import torch

    from transforms.inputs import slice_shape

    was_training = network.training
    try:
        with torch.no_grad():
            scores = network.eval()(torch.zeros(1, *slice_shape(input)))
    except (ValueError, RuntimeError) as error:
        raise ConfigurationError(
            f"the network does not fit size_px {input.size_px} and {input.in_channels} input channels: {error}"
        ) from error
    finally:
        network.train(was_training)
    if scores.shape[1] != NUM_CLASSES:
        raise ConfigurationError(f"the network has {scores.shape[1]} classes; the labels have {NUM_CLASSES}.")


def check_window(datalist: Mapping[str, Any], input: Input) -> None:
    """Compare the window of slices, if there is one, with every header, before any image is read.

    Raises:
        DatasetError: naming the first case whose volume the window leaves.
    """

    def check(slice_range: Sequence[int]) -> None:
        for case in chain.from_iterable(datalist[section] for section in SECTIONS):
            depth, spacing_mm = axial_slices(case["image"][0])
            try:
                slice_window(slice_range, spacing_mm, depth)
            except ValueError as error:
                raise DatasetError(f"{case['case']}: {error}") from error

    if slice_range := input.slice_range:
        from_first(lambda: check(slice_range))


def end_run(run_dir: str, state: RunState, validated: bool = True) -> None:
    """Draw the run's curves and say where the results are.

    Raises:
        SystemExit: with the signal's status, if the run was asked to stop.
    """
    if is_first():
        _conclude(Path(run_dir), state, validated)
    wait_for_all()  # `torchrun` ends the others as soon as one has ended with a status
    if state.stop.signal:
        raise SystemExit(exit_status(state.stop.signal))


def _conclude(folder: Path, state: RunState, validated: bool) -> None:
    from workflows.monitoring.curves import draw_curves

    if state.stop.signal:
        again = f"continue with  {continue_command(folder)}"
        print(f"stopped by {state.stop.signal.name} {state.stopped_at}; {again}", file=sys.stderr)
        return
    draw_curves(folder)
    kept = "best weights" if validated else "weights after the last epoch"
    logger.info(f"{kept} {folder / MODEL}, full state {folder / LAST}, figures {folder / LOG} and {CURVES}")
    then = "choose the post-processing by  brats-unet tune" if validated else "use them by  brats-unet predict PATIENT"
    logger.info(f"next: {then} --checkpoint {folder / MODEL}")


def datalist(
    dataset_dir: str | Path,
    modalities: Sequence[str],
    split_file: str | None,
    run_dir: str | Path,
    seed: int,
    all_cases: bool = False,
    reading: Reading = BY_NAMES,
) -> dict[str, Any]:
    """The cases of each section as MONAI's transforms take them.

    Args:
        split_file: a datalist as `brats-unet split` writes it. Without one the study's proportions are applied to the
            cases found, and the split is written into `run_dir`, never into the data folder.
        all_cases: train on all cases found instead, and validate on none.
        reading: of the data folder, without `split_file`.
    Returns:
        "training", "validation", "testing": [{"case": id, "image": [one file per modality], "label": file}, …];
        "label_values": class index of each value in the label files.
    """
    split = from_first(lambda: obtain_datalist(dataset_dir, split_file, run_dir, modalities, seed, all_cases, reading))
    sections = {section: samples(split[section], modalities) for section in SECTIONS}
    logger.info(", ".join(f"{len(cases)} {section}" for section, cases in sections.items()) + " cases")
    if not sections["validation"]:
        logger.info(f"nothing to validate on: {MODEL} will hold the weights after the last epoch")
    return {**sections, "label_values": dict(convention_named(split["label_convention"]).classes)}
