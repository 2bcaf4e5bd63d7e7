"""Checkpoints: which are meant, and the settings that belong to them, read from the files beside them."""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from workflows.files.run_folder import MODEL, RUN_CONFIGURATION, TUNED_SETTINGS_FILE, json_beside
from workflows.messages.errors import ConfigurationError, not_a_file
from workflows.settings.bundle_files import bundle_root
from workflows.settings.setting_checks import NONE

logger = logging.getLogger(__name__)

MODEL_CARD = "README.md"
"""Lies beside weights that were shipped, and not in a run's folder."""
OLD_CHANNELS = ("$len(@modalities)", "$len(@modalities) * (2 * @neighbours + 1)")
"""How runs from before there were inputs counted them."""
SETTINGS_OF_A_NETWORK = ("input", "network_def", "brain_only")
"""What inference must take over from the training of the checkpoint it uses."""
MODULES_OF_OURS = ("networks.unet", "networks.packed", "networks.slabs")
INPUTS = ("transforms.inputs.BrainCube", "transforms.inputs.AxialWindow")
TUNED_SETTINGS = (
    *("smallest_component_mm3", "largest_component_only", "smallest_enhancing_mm3"),
    *("expected_dice", "temperature"),
)
"""What `brats-unet tune` chose for a checkpoint, and the file beside it that says so."""


def named_checkpoints(paths: Sequence[Path]) -> dict[str, Any]:
    """The settings `checkpoint` and `more_checkpoints` for files, and for all model.pt in and below folders by name.

    Raises:
        ConfigurationError: if a folder holds none.
    """
    named: dict[Path, Path] = {}
    for path in paths:
        files = sorted(path.rglob(MODEL)) if path.is_dir() else [path]
        if not files:
            raise ConfigurationError(
                f"{path}: no {MODEL} in this folder or below it; name a checkpoint or a run's folder."
            )
        for file in files:
            named.setdefault(file.absolute(), file)
    if not named:
        return {}
    first, *more = map(str, named.values())
    return {"checkpoint": first, **({"more_checkpoints": more} if more else {})}


def warn_of_trained_cases(split_file: str | Path, section: str, more: Sequence[str | Path]) -> None:
    """Say where further checkpoints were trained on cases that they are now asked about, as folds are."""
    asked = _cases(Path(split_file), section)
    for checkpoint in more:
        known = asked & _cases(Path(checkpoint).with_name("split.json"), "training")
        if known:
            logger.warning(
                f"{checkpoint}: was trained on {len(known)} of the {len(asked)} {section} cases; "
                "figures and choices made on them flatter."
            )


def _cases(split_file: Path, section: str) -> set[str]:
    try:
        return {str(entry["case"]) for entry in json.loads(split_file.read_text(encoding="utf-8"))[section]}
    except (OSError, ValueError, KeyError, TypeError):
        return set()  # whoever reads the split for its cases says what is wrong with it


def default_checkpoint() -> str:
    """The weights shipped in the bundle."""
    return str(Path(bundle_root()) / "models" / "model.pt")


def check_checkpoint(checkpoint: str | Path) -> None:
    """Raises `ConfigurationError` in one line where the weights are missing."""
    if Path(checkpoint).is_dir():
        raise ConfigurationError(f"{checkpoint}: {not_a_file(Path(checkpoint))}")
    if not Path(checkpoint).is_file():
        raise ConfigurationError(
            f"{checkpoint}: no such weights; name some by --checkpoint FILE, "
            "or train with  brats-unet train --dataset-dir DIR --out RUN  and use RUN/model.pt."
        )


def settings_beside(checkpoint: str | Path, named: Collection[str] = ()) -> dict[str, Any]:
    """The settings in `SETTINGS_OF_A_NETWORK` with which a run trained its checkpoint, and those in `TUNED_SETTINGS`
    that were chosen for it, without those that the user has named; empty where the checkpoint is alone.

    A configuration is code, and this one is read unasked: what came with a checkpoint from elsewhere must run nothing.

    Raises:
        ConfigurationError: naming a setting that would run code other than building a network of ours or of MONAI.
    """
    settings: dict[str, Any] = {}
    for file, names in ((RUN_CONFIGURATION, SETTINGS_OF_A_NETWORK), (TUNED_SETTINGS_FILE, TUNED_SETTINGS)):
        found = json_beside(checkpoint, file)
        if file == RUN_CONFIGURATION and found and "input" not in found:
            found = _with_input(found)
        settings |= {name: found[name] for name in names if name in found and name not in named}
    for name, value in settings.items():
        if code := _code_in(value):
            raise ConfigurationError(
                f"{Path(checkpoint).parent}: {name} beside the weights holds the code {code[:100]!r}, which is not "
                f"run unasked; if you trust it, give {name} in a configuration of your own by --config FILE."
            )
    return settings


def _with_input(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of a run from before there were inputs, as it would be written now."""
    from transforms.inputs import definition_of_old_settings

    network = configuration.get("network_def")
    if isinstance(network, Mapping) and network.get("in_channels") in OLD_CHANNELS:
        network = {**network, "in_channels": "@in_channels"}
    given = {**configuration, "input": definition_of_old_settings(configuration)}
    return {**given, "network_def": network} if network is not None else given


def _code_in(value: object) -> str | None:
    """The first expression, macro or foreign class in a setting; None where there is none."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key == "_target_" and not (str(inner) in INPUTS or _is_network(inner)):
                return str(inner)
            if (key.startswith("_") and key != "_target_") or (key != "_target_" and _code_in(inner)):
                return _code_in(inner) or str(key)
        return None
    if isinstance(value, list):
        return next((code for code in map(_code_in, value) if code), None)
    harmless = not isinstance(value, str) or value == NONE or not value.startswith(("$", "%"))
    return None if harmless else str(value)


def _is_network(target: object) -> bool:
    from monai.networks import nets

    if not isinstance(target, str):
        return False
    module, _, name = target.rpartition(".")
    return module in MODULES_OF_OURS or (
        module in ("", "monai.networks.nets") and inspect.isclass(vars(nets).get(name))
    )
