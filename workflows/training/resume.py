"""Whether an interrupted run can be continued with a configuration, and what has changed since it began."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workflows.files.run_folder import LAST, RUN_SPLIT_FILE, run_configuration
from workflows.messages.errors import ConfigurationError
from workflows.phantom.phantom import default_dataset
from workflows.settings.weights import check_weights
from workflows.training.train import current_configuration

logger = logging.getLogger(__name__)

WHERE_THINGS_ARE = ("run_dir", "dataset_dir", "split_file", "cache_dir", "resume", "_meta_")
PART_OF_THE_STATE = (
    *("input#modalities", "split_seed", "slices_per_step", "best_figure", "best_is_lowest", "scored_network"),
    *("optimizer", "learning_rate", "lr_scheduler", "lr_steps_per_epoch", "lr_schedule", "all_cases"),
)
"""Settings whose effect is saved in `last.pt`: that would overwrite another value in silence, or not fit it."""


def dataset_of_run(run_dir: str) -> str | Path:
    """The data folder of the run that is continued; of one that begins the generated data set."""
    return run_configuration(Path(run_dir) / LAST).get("dataset_dir") or default_dataset()


def accept(resume: bool, run_dir: str, dataset_dir: str, split_file: str | None, network: Any, amp: bool) -> None:
    """To `resume` a run, compare the running configuration with the one it was started with; say what has changed.

    Raises:
        ConfigurationError: naming the settings that cannot be changed within a run, or the first layer that differs.
    """
    folder = Path(run_dir)
    if not resume:
        return
    if not (folder / LAST).exists():
        logger.info(f"{folder} holds no {LAST} yet: starting afresh")
        return
    before, now = run_configuration(folder / LAST), current_configuration()
    own = folder / RUN_SPLIT_FILE
    if split_file and own.exists() and Path(split_file).read_bytes() != own.read_bytes():
        raise ConfigurationError(f"{folder}: keeps its own split; leave --split out, or start a new run.")
    if before and now:
        resolved = {"dataset_dir": str(Path(dataset_dir).resolve()), "amp": amp}
        changes = differences(before, {**now, **resolved})
        refused = [change for name, change in changes.items() if _is_part_of_the_state(name, before)]
        if refused:
            raise ConfigurationError(
                f"{folder}: cannot be resumed with {'; '.join(refused)}: this is part of its saved state. "
                "Leave it as it was, or start a new run."
            )
        for change in changes.values():
            logger.warning(f"changed since the run began: {change}")
    check_weights(network, folder / LAST)


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, str]:
    """What differs between two configurations, by id, each as "id: before → now"."""
    old, new = _flat(before), _flat(now)
    changed = [name for name in [*old, *new] if old.get(name) != new.get(name)]
    return {name: f"{name}: {_shown(old, name)} → {_shown(new, name)}" for name in changed}


def _flat(configuration: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in configuration.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{name}#")
        elif name not in WHERE_THINGS_ARE or name == "dataset_dir":
            flat[name] = value
    return flat


def _shown(flat: Mapping[str, Any], name: str) -> str:
    return json.dumps(flat[name], ensure_ascii=False) if name in flat else "nothing"


def _is_part_of_the_state(name: str, before: Mapping[str, Any]) -> bool:
    top = name.split("#")[0]
    # The length of a run shapes the learning rate of each step, if the schedule asks for it. A reference to a part of a
    # setting, which MONAI writes `@train::dataloader`, is not one to the whole.
    schedule = json.dumps(before.get("lr_scheduler", ""))
    return (
        top in PART_OF_THE_STATE
        or name in PART_OF_THE_STATE
        or re.search(rf"@{re.escape(top)}(?![#:\w])", schedule) is not None
    )
