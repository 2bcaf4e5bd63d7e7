"""The settings that belong to a checkpoint, read from the files beside it."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workflows.messages.errors import ConfigurationError
from workflows.settings.setting_checks import NONE

if TYPE_CHECKING:
    pass
from workflows.files.run_folder import RUN_CONFIGURATION, TUNED_SETTINGS_FILE, _json_beside

IN_CHANNELS = "@in_channels"
EXPRESSIONS_OF_OURS = (NONE, "$len(@modalities)", "$len(@modalities) * (2 * @neighbours + 1)")
SETTINGS_OF_A_NETWORK = (
    *("modalities", "slice_range", "whole_brain", "size_px", "normalisation", "crop_to_brain", "cube_mm"),
    *("planes", "mirrored", "neighbours", "network_def", "brain_only"),
)
"""What inference must take over from the training of the checkpoint it uses."""
BEFORE_CUBES = {"cube_mm": None, "planes": ["axial"], "mirrored": False}
"""What runs read whose configuration is older than these settings."""
MODULES_OF_OURS = ("networks.unet", "networks.packed", "networks.slabs")
TUNED_SETTINGS = (
    *("smallest_component_mm3", "largest_component_only", "smallest_enhancing_mm3"),
    *("expected_dice", "temperature"),
)
"""What `brats-unet tune` chose for a checkpoint, and the file beside it that says so."""


def settings_beside(checkpoint: str | Path, named: Collection[str] = ()) -> dict[str, Any]:
    """The settings in `SETTINGS_OF_A_NETWORK` with which a run trained its checkpoint, and those in `TUNED_SETTINGS`
    that were chosen for it; empty where it is alone.

    A configuration is code, and this one is read unasked: what came with a checkpoint from elsewhere must run nothing.

    Args:
        named: settings that the user gives, which are not taken from there.
    Raises:
        ConfigurationError: naming a setting that would run code other than building a network of ours or of MONAI.
    """
    settings: dict[str, Any] = {}
    for file, names in ((RUN_CONFIGURATION, SETTINGS_OF_A_NETWORK), (TUNED_SETTINGS_FILE, TUNED_SETTINGS)):
        found = _json_beside(checkpoint, file)
        found = {**BEFORE_CUBES, **found} if file == RUN_CONFIGURATION and found else found
        settings |= {name: found[name] for name in names if name in found and name not in named}
    for name, value in settings.items():
        if code := _code_in(value):
            raise ConfigurationError(
                f"{Path(checkpoint).parent}: {name} beside the weights holds the code {code[:100]!r}, which is not "
                f"run unasked; if you trust it, give {name} in a configuration of your own by --config FILE."
            )
    return settings


def _code_in(value: object) -> str | None:
    """The first expression, macro or foreign class in a setting; None where there is none."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key == "_target_" and not _is_network(inner):
                return str(inner)
            if (key.startswith("_") and key != "_target_") or (key != "_target_" and _code_in(inner)):
                return _code_in(inner) or str(key)
        return None
    if isinstance(value, list):
        return next((code for code in map(_code_in, value) if code), None)
    harmless = not isinstance(value, str) or value in EXPRESSIONS_OF_OURS or not value.startswith(("$", "%"))
    return None if harmless else str(value)


def _is_network(target: object) -> bool:
    from monai.networks import nets

    if not isinstance(target, str):
        return False
    module, _, name = target.rpartition(".")
    return module in MODULES_OF_OURS or (
        module in ("", "monai.networks.nets") and inspect.isclass(vars(nets).get(name))
    )
