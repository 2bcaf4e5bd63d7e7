"""The bundle's configuration files: where they are, what may be overridden, and what a run was configured with."""

from __future__ import annotations

import difflib
import inspect
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workflows.errors import ConfigurationError, show_errors_in_one_line
from workflows.setting_checks import NONE, check_values

if TYPE_CHECKING:
    from monai.bundle import ConfigParser

PATH_SETTINGS = ("dataset_dir", "run_dir", "split_file", "patient_dir", "output_dir", "checkpoint", "cache_dir")
PATH_LISTS = ("more_checkpoints",)
RUN_CONFIGURATION = "config.json"
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
TUNED_SETTINGS_FILE = "post_processing.json"
TUNED_SETTINGS = (
    *("smallest_component_mm3", "largest_component_only", "smallest_enhancing_mm3"),
    *("expected_dice", "temperature"),
)
"""What `brats-unet tune` chose for a checkpoint, and the file beside it that says so."""


def bundle_root() -> str:
    """The folder that holds `configs` and `models`, in the repository and in a packed bundle alike."""
    code = Path(__file__).resolve().parents[1]
    root = code if (code / "configs").is_dir() else code / "bundle"
    if not (root / "configs").is_dir():
        raise ConfigurationError(
            f"no bundle beside {code}: install from a clone with  pip install -e .  so that its bundle folder is found."
        )
    return str(root)


def bundle_version() -> str:
    """The version in the bundle's metadata, which is there where the package is not installed too."""
    metadata = json.loads((Path(bundle_root()) / "configs" / "metadata.json").read_text(encoding="utf-8"))
    return str(metadata["version"])


def config_files(name: str, variants: Iterable[str] = ()) -> list[str]:
    """The paths of `name`.json and of the overlays to merge into it, in this order.

    Args:
        variants: names of overlays in the bundle, or paths of the user's own.
    Raises:
        ConfigurationError: naming the overlays there are.
    """
    folder = Path(bundle_root()) / "configs"
    files = [folder / f"{name}.json"]
    for variant in variants:
        candidates = [folder / f"{variant}.json", Path(variant)]
        found = next((file for file in candidates if file.is_file()), None)
        if found is None:
            raise ConfigurationError(f"no overlay {variant!r}; there are {', '.join(overlays_of(name, folder))}.")
        files.append(found)
    return [str(file) for file in files]


def overlays_of(name: str, folder: Path) -> list[str]:
    """The files of a bundle that change settings of `name`.json and are no configuration of their own, by name."""
    known, overlays = _names_in(folder / f"{name}.json"), []
    for file in sorted(folder.glob("*.json")):
        names = _names_in(file)
        merged = {_top(key) for key in json.loads(file.read_text()) if key.startswith("+") or _top(key) != key}
        if file.stem not in (name, "metadata") and "run" not in names and names & known and merged <= known:
            overlays.append(file.stem)
    return overlays


def _names_in(file: Path) -> set[str]:
    return {_top(key) for key in json.loads(file.read_text())}


def _top(key: str) -> str:
    """The setting that a key of a file belongs to: `train` of `train#dataloader`, `imports` of `+imports`."""
    return key.lstrip("+").replace("::", "#").split("#")[0]


def run_workflow(run_id: str, files: Sequence[str], overrides: Mapping[str, Any]) -> None:
    """Run a configuration as `python -m monai.bundle run` does, without its notes on where options came from."""
    import logging

    from monai.bundle import run

    for module in ("scripts", "workflows"):  # the second warns of files outside the bundle, as a resumed run's is
        logging.getLogger(f"monai.bundle.{module}").setLevel(logging.ERROR)
    given = {name: NONE if value is None else value for name, value in overrides.items()}
    paths: dict[str, Any] = {name: literal_path(overrides[name]) for name in PATH_SETTINGS if overrides.get(name)}
    paths |= {name: list(map(literal_path, overrides[name])) for name in PATH_LISTS if overrides.get(name)}
    run(run_id=run_id, config_file=list(files), **{**given, **paths})


def literal_path(path: str | Path) -> str:
    """A path as a setting that MONAI takes literally, whatever it is called.

    As text it would evaluate a folder called `$import os`, and read the # of another one as its own separator.
    """
    text = str(Path(str(path)).absolute())  # no $, @ or % at its start
    return f"$''.join(map(chr, {tuple(map(ord, text))}))" if "#" in text or "::" in text else text


def parse_overrides(arguments: Sequence[str]) -> dict[str, Any]:
    """`--max_epochs 6 --size-px=128` as {"max_epochs": 6, "size_px": 128}.

    Hyphens in names count as underscores; values are read as Python literals where they are ones, else as text.
    """
    from fire.parser import DefaultParseValue  # how MONAI's own command line reads them

    overrides: dict[str, Any] = {}
    rest = list(arguments)
    while rest:
        name, equals, value = rest.pop(0).partition("=")
        if not name.startswith("--"):
            raise ConfigurationError(f"{name!r} is not an option; override a setting by  --name value.")
        if not equals:
            if not rest:
                raise ConfigurationError(f"{name} has no value; override a setting by  --name value.")
            value = rest.pop(0)
        overrides[name[2:].replace("-", "_")] = DefaultParseValue(value)
    return overrides


def refuse_unknown(names: Iterable[str], known: Iterable[str]) -> None:
    """A misspelt setting, which MONAI would accept in silence, stops here with the nearest name.

    Args:
        names: ids such as "max_epochs" or "network_def#width"; the part before the first separator is checked.
    """
    known = sorted(known)
    for name in names:
        top = name.replace("::", "#").split("#")[0]
        if top not in known:
            near = difflib.get_close_matches(top, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(k for k in known if k[0] != '_')}."
            raise ConfigurationError(f"no setting is called {top!r}; {hint}")


def known_settings(root: str | Path) -> set[str]:
    """The top-level names in all configuration files of a bundle."""
    names = {"_meta_"}
    for file in sorted((Path(root) / "configs").glob("*.json")):
        if file.name != "metadata.json":
            names |= _names_in(file)
    return names


def check_settings() -> None:
    """The first step of every `run`: refuse a setting that cannot be meant before anything is read or written."""
    show_errors_in_one_line()
    parser = running_parser()
    if parser is not None:
        refuse_unknown(parser.get(), known_settings(bundle_root()))
        check_values(parser, bundle_root())


def running_parser() -> ConfigParser | None:
    """The parser of the MONAI workflow that is evaluating the expression from which this is called.

    MONAI hands an expression the values it refers to, never the configuration as a whole; it is on the call stack.
    """
    from monai.bundle import ConfigWorkflow

    frame = inspect.currentframe()
    while frame is not None:
        caller = frame.f_locals.get("self")
        if isinstance(caller, ConfigWorkflow):
            return caller.parser
        frame = frame.f_back
    return None


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


def own_settings(variants: Iterable[str], overrides: Iterable[str]) -> set[str]:
    """The settings that the user gives as a whole: on the command line, or in an overlay named by its path."""
    inside = Path(bundle_root()) / "configs"
    files = [Path(variant) for variant in variants if not (inside / f"{variant}.json").is_file()]
    named = [key for file in files for key in json.loads(file.read_text())]
    return {name for name in (*named, *overrides) if "#" not in name and "::" not in name}


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


def run_configuration(checkpoint: str | Path) -> dict[str, Any]:
    """The configuration that a run saved beside its checkpoint; empty where there is none."""
    return _json_beside(checkpoint, RUN_CONFIGURATION)


def _json_beside(checkpoint: str | Path, name: str) -> dict[str, Any]:
    file = Path(checkpoint).parent / name
    try:
        return dict(json.loads(file.read_text())) if file.is_file() else {}
    except (ValueError, TypeError, RecursionError) as error:
        raise ConfigurationError(f"{file}: is not valid JSON ({error}).") from error
