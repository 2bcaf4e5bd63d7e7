"""Settings that a user gives, and the run of a configuration with them."""

from __future__ import annotations

import difflib
import inspect
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workflows.messages.errors import ConfigurationError, show_errors_in_one_line
from workflows.settings.setting_checks import NONE, check_values

if TYPE_CHECKING:
    from monai.bundle import ConfigParser
from workflows.settings.bundle_files import BASED_ON, bundle_root, known_settings

PATH_SETTINGS = ("dataset_dir", "run_dir", "split_file", "patient_dir", "output_dir", "checkpoint", "cache_dir")
RENAMED = {
    **{name: f"input#{name}" for name in ("modalities", "size_px", "planes", "mirrored")},
    **{
        name: f"input#{name}" for name in ("slice_range", "normalisation", "crop_to_brain", "neighbours", "whole_brain")
    },
    "cube_mm": "input#edge_mm",
}
"""Names of settings that nobody may give any more, and what they are called now."""
PATH_LISTS = ("more_checkpoints",)


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
        if top in RENAMED:
            axial = "; for axial slices use the overlay axial" if top == "cube_mm" else ""
            raise ConfigurationError(f"{top} is now called {RENAMED[top]}{axial}.")
        if top not in known:
            near = difflib.get_close_matches(top, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(k for k in known if k[0] != '_')}."
            raise ConfigurationError(f"no setting is called {top!r}; {hint}")


def check_settings() -> None:
    """The first step of every `run`: refuse a setting that cannot be meant before anything is read or written."""
    show_errors_in_one_line()
    parser = running_parser()
    if parser is not None:
        given = {name for name, value in parser.get().items() if value != f"$@input.{name}"}  # ours refer to it
        refuse_unknown(given, known_settings(bundle_root()))
        _check_base(parser.get())
        check_values(parser, bundle_root())


def _check_base(settings: Mapping[str, Any]) -> None:
    """An overlay that says only how it differs from another one must not be merged without it."""
    base, recipe = settings.get(BASED_ON), settings.get("recipe")
    if base != recipe:
        raise ConfigurationError(f"an overlay changes the recipe {base}; name {base}.json before it.")


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


def own_settings(variants: Iterable[str], overrides: Iterable[str]) -> set[str]:
    """The settings that the user gives as a whole: on the command line, or in an overlay named by its path."""
    inside = Path(bundle_root()) / "configs"
    files = [Path(variant) for variant in variants if not (inside / f"{variant}.json").is_file()]
    named = [key for file in files for key in json.loads(file.read_text())]
    return {name for name in (*named, *overrides) if "#" not in name and "::" not in name}
