"""What a setting may be, said before any work: MONAI finds out when it first needs the value, with a traceback."""

from __future__ import annotations

import difflib
import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from pydoc import locate
from typing import TYPE_CHECKING, Any

from transforms.labels import MODALITIES, NUM_CLASSES
from transforms.planes import AXIAL, PLANES
from workflows.messages.errors import ConfigurationError

if TYPE_CHECKING:
    from monai.bundle import ConfigParser

POSITIVE = (
    "max_epochs",
    "val_interval",
    "learning_rate",
    "slices_per_step",
    "slices_per_batch",
    "size_px",
    "temperature",
    "cache_gb",
)
SHARES = ("look_again_from",)
CHOICES: dict[str, tuple[Any, ...]] = {
    "normalisation": ("zscore", "window_maximum"),
    "et_label": (4, 3),
    "runtime": ("auto", "torch", "onnxruntime", "openvino", "openvino-bfloat16"),
}
_WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "True or False",
    str: "text",
    list: "a list",
    type(None): "None",
}
_NETWORK = "network_def"
NONE = "$None"
"""How an override of None reaches MONAI, which takes a plain None for no override."""


def check_values(parser: ConfigParser, root: str | Path) -> None:
    """Refuse settings of another type than the bundle's own, outside their range, or of an unknown network.

    What is an expression or a reference is left to MONAI.

    Args:
        root: the bundle's folder, whose files say what type a setting has.
    Raises:
        ConfigurationError: naming the setting and what it may be.
    """
    settings = {name: None if value == NONE else value for name, value in parser.get().items()}
    for name, kinds in setting_types(root).items():
        value = settings.get(name)
        if name in settings and _is_plain(value) and not _fits(value, kinds):
            meant = " or ".join(_WORDS[kind] for kind in sorted(kinds, key=lambda kind: list(_WORDS).index(kind)))
            raise ConfigurationError(f"{name} is {value!r}; it must be {meant}.")
    for name in POSITIVE:
        value = settings.get(name)
        if isinstance(value, int | float) and not value > 0:
            raise ConfigurationError(f"{name} is {value!r}; it must be greater than 0.")
    for name in SHARES:
        value = settings.get(name)
        if isinstance(value, int | float) and not 0 <= value <= 1:
            raise ConfigurationError(f"{name} is {value!r}; it must be within 0 and 1.")
    for name, choices in CHOICES.items():
        value = settings.get(name, choices[0])
        if _is_plain(value) and value not in choices:
            raise ConfigurationError(f"{name} is {value!r}; choose from {', '.join(map(str, choices))}.")
    _check_modalities(settings.get("modalities"))
    _check_slice_range(settings.get("slice_range"))
    _check_cube(settings)
    _check_network(settings.get(_NETWORK), parser)


def setting_types(root: str | Path) -> dict[str, set[type]]:
    """The types that the bundle's files give each of its plain settings; one that may be an object is left out."""
    kinds: dict[str, set[type]] = {}
    objects = {"save_execute_config"}  # False, True or a path; None or an expression once MONAI has read it
    for file in sorted((Path(root) / "configs").glob("*.json")):
        if file.name == "metadata.json":
            continue
        for name, value in json.loads(file.read_text()).items():
            if isinstance(value, dict):
                objects.add(name)
            elif _is_plain(value):
                kinds.setdefault(name, set()).add(type(value))
    plain = {name: found for name, found in kinds.items() if found != {type(None)}}
    return {name: found for name, found in plain.items() if name not in objects and not name.startswith(("+", "_"))}


def _is_plain(value: object) -> bool:
    """Whether MONAI takes a value as it stands."""
    return not isinstance(value, dict) and not (isinstance(value, str) and value.startswith(("$", "@", "%")))


def _fits(value: object, kinds: set[type]) -> bool:
    return (
        type(value) in kinds or (isinstance(value, tuple) and list in kinds) or (type(value) is int and float in kinds)
    )


def _check_modalities(modalities: object) -> None:
    if isinstance(modalities, list) and (not modalities or set(map(str, modalities)) - set(MODALITIES)):
        raise ConfigurationError(f"modalities is {modalities}; choose from {', '.join(MODALITIES)}.")


def _check_slice_range(slice_range: object) -> None:
    if not isinstance(slice_range, list | tuple):
        return
    if len(slice_range) != 2 or not all(type(edge) is int for edge in slice_range):
        raise ConfigurationError(f"slice_range is {slice_range}; give the first slice and the one after the last.")
    if not 0 <= slice_range[0] < slice_range[1]:
        raise ConfigurationError(f"slice_range is {slice_range}; it holds no slice.")


def _check_cube(settings: Mapping[str, Any]) -> None:
    """Planes other than the axial need one scale along all axes, and other switches mean nothing in a cube."""
    planes, cube_mm = settings.get("planes", [AXIAL]), settings.get("cube_mm")
    if cube_mm is None and settings.get("mirrored") is True:
        raise ConfigurationError(
            "mirrored is True; the brain's middle is known in a cube only: set cube_mm, such as 192."
        )
    if isinstance(planes, list | tuple) and (not planes or set(map(str, planes)) - set(PLANES)):
        raise ConfigurationError(f"planes is {list(planes)}; choose from {', '.join(PLANES)}.")
    if cube_mm is None:
        if isinstance(planes, list | tuple) and list(planes) != [AXIAL]:
            raise ConfigurationError(
                f"planes is {list(planes)}; planes other than {AXIAL} need a cube_mm, such as 192."
            )
        return
    if isinstance(cube_mm, int | float) and not cube_mm > 0:
        raise ConfigurationError(f"cube_mm is {cube_mm}; it must be greater than 0.")
    for name, needed in (("crop_to_brain", False), ("neighbours", 0), ("normalisation", "zscore")):
        if settings.get(name, needed) != needed:
            raise ConfigurationError(f"{name} is {settings[name]}; with cube_mm it must be {needed}.")


def _check_network(definition: object, parser: ConfigParser) -> None:
    """Find the network by name and its arguments in its signature, without building it: a run has no seed yet."""
    if not isinstance(definition, Mapping) or not isinstance(definition.get("_target_"), str):
        return
    target = definition["_target_"]
    if not _is_plain(target):
        return
    found = _located(target, parser)
    if not callable(found):
        module, _, name = target.rpartition(".")
        near = difflib.get_close_matches(name, dir(locate(module or "monai.networks.nets")), n=1)
        hint = (
            f"did you mean {module}{'.' * bool(module)}{near[0]}?"
            if near
            else "give its path, as networks.unet.UNet2D."
        )
        raise ConfigurationError(f"{_NETWORK}: no network is called {target!r}; {hint}")
    parameters = inspect.signature(found).parameters
    given = [name for name in definition if not name.startswith("_")]
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        for name in given:
            if name not in parameters:
                near = difflib.get_close_matches(name, parameters, n=1)
                hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(parameters)}."
                raise ConfigurationError(f"{_NETWORK}: {target} has no argument {name!r}; {hint}")
    classes = definition.get("out_channels", NUM_CLASSES)
    if isinstance(classes, int) and classes != NUM_CLASSES:
        raise ConfigurationError(f"{_NETWORK}: the network has {classes} classes; the labels have {NUM_CLASSES}.")


def _located(target: str, parser: ConfigParser) -> object:
    try:
        return locate(target if "." in target else f"{parser.locator.get_component_module_name(target)}.{target}")
    except Exception:  # pydoc's own error for a module that cannot be imported
        return None
