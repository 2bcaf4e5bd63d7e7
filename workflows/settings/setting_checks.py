"""What a setting may be, said before any work: MONAI finds out when it first needs the value, with a traceback."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from pydoc import locate
from typing import TYPE_CHECKING, Any

from transforms.labels import NUM_CLASSES
from workflows.files.run_folder import MODEL
from workflows.messages.errors import ConfigurationError
from workflows.settings.bundle_files import configurations

if TYPE_CHECKING:
    from monai.bundle import ConfigParser

POSITIVE = (
    *("max_epochs", "val_interval", "learning_rate", "slices_per_step", "slices_per_batch", "temperature", "cache_gb"),
)
CHOICES: dict[str, tuple[Any, ...]] = {
    "et_label": (4, 3),
    "runtime": ("auto", "torch", "onnxruntime", "openvino", "openvino-bfloat16"),
}
_WORDS = {int: "a whole number", float: "a number", bool: "True or False", str: "text", list: "a list"}
_WORDS[type(None)] = "None"
_NETWORK, _INPUT = "network_def", "input"
OUR_PACKAGES = ("networks.", "transforms.", "workflows.")
NONE = "$None"
"""How an override of None reaches MONAI, which takes a plain None for no override."""


def nearest(name: str, known: Iterable[str], otherwise: str, prefix: str = "") -> str:
    """The question whether the most similar known name was meant; `otherwise` where none is similar."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {prefix}{near[0]}?" if near else otherwise


def check_values(parser: ConfigParser, root: str | Path) -> None:
    """Refuse settings of another type than in the bundle's files below `root`, out of range, or of an unknown network.

    Expressions and references are left to MONAI.

    Raises:
        ConfigurationError: naming the setting and what it may be.
    """
    settings = {name: None if value == NONE else value for name, value in parser.get().items()}
    for name, kinds in setting_types(root).items():
        value = settings.get(name)
        if name in settings and _is_plain(value) and not _fits(value, kinds):
            meant = " or ".join(words for kind, words in _WORDS.items() if kind in kinds)
            raise ConfigurationError(f"{name} is {value!r}; it must be {meant}.")
    for name in POSITIVE:
        value = settings.get(name)
        if isinstance(value, int | float) and not value > 0:
            raise ConfigurationError(f"{name} is {value!r}; it must be greater than 0.")
    look_again_from = settings.get("look_again_from")
    if isinstance(look_again_from, int | float) and not 0 <= look_again_from <= 1:
        raise ConfigurationError(f"look_again_from is {look_again_from!r}; it must be within 0 and 1.")
    for name, choices in CHOICES.items():
        value = settings.get(name, choices[0])
        if _is_plain(value) and value not in choices:
            raise ConfigurationError(f"{name} is {value!r}; choose from {', '.join(map(str, choices))}.")
    _check_input(settings.get(_INPUT), parser)
    _check_network(settings.get(_NETWORK), parser)


def setting_types(root: str | Path) -> dict[str, set[type]]:
    """The types that the bundle's files give each of its plain settings."""
    kinds: dict[str, set[type]] = {}
    for _, settings in configurations(root):
        for name, value in settings.items():
            if _is_plain(value) and not name.startswith(("+", "_")):
                kinds.setdefault(name, set()).add(type(value))
    kinds.pop("save_execute_config", None)  # False, True or a path; None or an expression once MONAI has read it
    return {name: found for name, found in kinds.items() if found != {type(None)}}


def _is_plain(value: object) -> bool:
    """Whether MONAI takes a value as it stands."""
    return not isinstance(value, dict) and not (isinstance(value, str) and value.startswith(("$", "@", "%")))


def _fits(value: object, kinds: set[type]) -> bool:
    return (
        type(value) in kinds or (isinstance(value, tuple) and list in kinds) or (type(value) is int and float in kinds)
    )


def _check_network(definition: object, parser: ConfigParser) -> None:
    """Find the network by name and its arguments in its signature, without building it: a run has no seed yet."""
    found = _checked_component(_NETWORK, definition, parser, "networks.unet.UNet2D")
    classes = definition.get("out_channels", NUM_CLASSES) if found and isinstance(definition, Mapping) else NUM_CLASSES
    if isinstance(classes, int) and classes != NUM_CLASSES:
        raise ConfigurationError(f"{_NETWORK}: the network has {classes} classes; the labels have {NUM_CLASSES}.")


def _check_input(definition: object, parser: ConfigParser) -> None:
    """Build the input, which is quick, and hear what it says of its arguments."""
    found = _checked_component(_INPUT, definition, parser, "transforms.inputs.BrainCube")
    arguments = {name: v for name, v in definition.items() if name[0] != "_"} if isinstance(definition, Mapping) else {}
    if found is None or not all(map(_is_plain, arguments.values())):
        return
    try:
        found(**arguments)
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"{_INPUT}: {error}") from error


def _checked_component(
    setting: str, definition: object, parser: ConfigParser, for_example: str
) -> Callable[..., object] | None:
    """What a definition's `_target_` names; None where it is no definition, or an expression.

    Raises:
        ConfigurationError: if nothing is called so, or it has no such argument.
    """
    if not isinstance(definition, Mapping) or not isinstance(definition.get("_target_"), str):
        return None
    target = definition["_target_"]
    if not _is_plain(target):
        return None
    found = _located(target, parser)
    if not callable(found):
        module, _, name = target.rpartition(".")
        there = dir(locate(module or "monai.networks.nets"))
        prefix = f"{module}." if module else ""
        named = nearest(name, there, f"give its path, as {for_example}.", prefix)
        kind = "network" if setting == _NETWORK else setting
        raise ConfigurationError(f"{setting}: no {kind} is called {target!r}; {named}")
    parameters = inspect.signature(found).parameters
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        for name in definition:
            if name[0] != "_" and name not in parameters:
                hint = nearest(name, parameters, f"there are {', '.join(parameters)}.")
                raise ConfigurationError(f"{setting}: {target} has no argument {name!r}; {hint}")
    return found


def refuse_lost_code(file: Path, configuration: Mapping[str, Any]) -> None:
    """Refuse to continue a run whose configuration, kept in `file`, names code of ours that is gone.

    Raises:
        ConfigurationError: naming it, and what the user can do instead.
    """
    for name in _named_code(configuration):
        if name.startswith(OUR_PACKAGES) and locate(name) is None:
            raise ConfigurationError(
                f"{file}: names {name}, which this version does not have; finish the run with the version that began "
                f"it, or begin a new run. Its {MODEL} still works:  brats-unet predict PATIENT --checkpoint "
                f"{file.with_name(MODEL)}"
            )


def _named_code(setting: object) -> Iterator[str]:
    """What a configuration instantiates by `_target_` or imports by `$import`."""
    if isinstance(setting, Mapping):
        if isinstance(target := setting.get("_target_"), str):
            yield target
        yield from chain.from_iterable(map(_named_code, setting.values()))
    elif isinstance(setting, list):
        yield from chain.from_iterable(map(_named_code, setting))
    elif isinstance(setting, str) and setting.startswith("$import "):
        yield setting.split()[1]


def _located(target: str, parser: ConfigParser) -> object:
    try:
        return locate(target if "." in target else f"{parser.locator.get_component_module_name(target)}.{target}")
    except Exception:  # noqa: BLE001  # pydoc's own error for a module that cannot be imported
        return None
