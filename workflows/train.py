"""A training run: its folder, its data, its beginning and its end. What happens in between stands in `train.json`."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from transforms.files import write_whole
from transforms.labels import NUM_CLASSES
from transforms.windows import slice_window
from workflows.configuration import (
    RUN_CONFIGURATION,
    config_files,
    refuse_unknown,
    run_workflow,
    running_parser,
)
from workflows.errors import ConfigurationError, DatasetError
from workflows.label_conventions import LABEL_CONVENTIONS
from workflows.nifti_files import axial_slices
from workflows.split import SECTIONS, obtain_datalist, samples

logger = logging.getLogger(__name__)

MODEL, LAST, LOG, CURVES = "model.pt", "last.pt", "training.log", "curves.png"


def train(variants: Iterable[str], overrides: Mapping[str, Any]) -> None:
    """Run `train.json` with overlays and overrides, as `python -m monai.bundle run training` would."""
    from monai.bundle import ConfigParser

    files = config_files("train", variants)
    refuse_unknown(overrides, ConfigParser.load_config_files(files))
    run_workflow("training", files, overrides)


def new_run_dir() -> str:
    """A folder below `runs` that is named after the present second and does not exist."""
    name = time.strftime("runs/%Y-%m-%d_%H-%M-%S")
    number, path = 1, Path(name)
    while path.exists():
        number += 1
        path = Path(f"{name}_{number}")
    return str(path)


def begin_run(run_dir: str, dataset_dir: str, seed: int) -> None:
    """Make the run's folder, save the configuration in it and seed every random generator.

    Raises:
        ConfigurationError: if the folder holds another run.
    """
    from monai.utils import set_determinism

    folder = Path(run_dir)
    taken = [name for name in (MODEL, LAST, LOG) if (folder / name).exists()]
    if taken:
        raise ConfigurationError(f"{folder}: holds an earlier run ({', '.join(taken)}); name another folder.")
    parser = running_parser()
    if parser is not None:
        own = {"dataset_dir": str(Path(dataset_dir).resolve()), "run_dir": str(folder.resolve())}
        text = json.dumps({**parser.get(), **own}, indent=2, default=str)
        write_whole(folder / RUN_CONFIGURATION, lambda path: path.write_text(text))
    set_determinism(seed)
    logger.info(f"run folder {folder.resolve()}; watch it with  tensorboard --logdir {folder}")


def check_network(network: Any, modalities: Sequence[str], size_px: int) -> None:
    """Try the network on one empty slice before any patient is read.

    Raises:
        ConfigurationError: if it does not take slices of this size and number of modalities, or has other classes.
    """
    import torch

    was_training = network.training
    try:
        with torch.no_grad():
            scores = network.eval()(torch.zeros(1, len(modalities), size_px, size_px))
    except (ValueError, RuntimeError) as error:
        raise ConfigurationError(
            f"the network does not fit size_px {size_px} and {len(modalities)} modalities: {error}"
        ) from error
    finally:
        network.train(was_training)
    if scores.shape[1] != NUM_CLASSES:
        raise ConfigurationError(f"the network has {scores.shape[1]} classes; the labels have {NUM_CLASSES}.")


def check_window(datalist: Mapping[str, Any], slice_range: Sequence[int]) -> None:
    """Compare the window of slices with every header, before any image is read.

    Raises:
        DatasetError: naming the first case whose volume the window leaves.
    """
    cases = [case for section in SECTIONS for case in datalist[section]]
    for case in cases:
        depth, spacing_mm = axial_slices(case["image"][0])
        try:
            slice_window(slice_range, spacing_mm, depth)
        except ValueError as error:
            raise DatasetError(f"{case['case']}: {error}") from error


def end_run(run_dir: str) -> None:
    """Draw the run's curves and say where the results are."""
    from workflows.curves import draw_curves

    folder = Path(run_dir)
    draw_curves(folder)
    logger.info(f"best weights {folder / MODEL}, full state {folder / LAST}, figures {folder / LOG} and {CURVES}")


def datalist(
    dataset_dir: str | Path,
    modalities: Sequence[str],
    split_file: str | None,
    run_dir: str | Path,
    seed: int,
) -> dict[str, Any]:
    """The cases of each section as MONAI's transforms take them.

    Args:
        split_file: a datalist as `brats-unet split` writes it. Without one the study's proportions are applied to the
            cases found, and the split is written into `run_dir`, never into the data folder.
    Returns:
        "training", "validation", "testing": [{"case": id, "image": [one file per modality], "label": file}, …];
        "label_values": class index of each value in the label files.
    """
    split = obtain_datalist(dataset_dir, split_file, run_dir, modalities, seed)
    sections = {section: samples(split[section], modalities) for section in SECTIONS}
    logger.info(", ".join(f"{len(cases)} {section}" for section, cases in sections.items()) + " cases")
    return {**sections, "label_values": dict(LABEL_CONVENTIONS[split["label_convention"]].classes)}
