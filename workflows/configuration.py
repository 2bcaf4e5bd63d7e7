"""The bundle's configuration files: where they are, what may be overridden, and what a run was configured with."""

from __future__ import annotations

import difflib
import inspect
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workflows.errors import ConfigurationError, show_errors_in_one_line

if TYPE_CHECKING:
    from monai.bundle import ConfigParser

RUN_CONFIGURATION = "config.json"
SETTINGS_OF_A_NETWORK = ("modalities", "slice_range", "size_px", "normalisation", "network_def", "brain_only")
"""What inference must take over from the training of the checkpoint it uses."""


def bundle_root() -> str:
    """The folder that holds `configs` and `models`, in the repository and in a packed bundle alike."""
    code = Path(__file__).resolve().parents[1]
    root = code if (code / "configs").is_dir() else code / "bundle"
    if not (root / "configs").is_dir():
        raise ConfigurationError(
            f"no bundle beside {code}: install from a clone with  pip install -e .  so that its bundle folder is found."
        )
    return str(root)


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
            known = sorted(file.stem for file in folder.glob("*.json") if file.stem != "metadata")
            raise ConfigurationError(f"no configuration {variant!r}; there are {', '.join(known)}.")
        files.append(found)
    return [str(file) for file in files]


def run_workflow(run_id: str, files: Sequence[str], overrides: Mapping[str, Any]) -> None:
    """Run a configuration as `python -m monai.bundle run` does, without its notes on where options came from."""
    import logging

    from monai.bundle import run

    for module in ("scripts", "workflows"):  # the second warns of files outside the bundle, as a resumed run's is
        logging.getLogger(f"monai.bundle.{module}").setLevel(logging.ERROR)
    run(run_id=run_id, config_file=list(files), **overrides)


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
            names |= {key.lstrip("+").replace("::", "#").split("#")[0] for key in json.loads(file.read_text())}
    return names


def check_settings() -> None:
    """The first step of every `run`: refuse a misspelt setting before anything is generated, read or written."""
    show_errors_in_one_line()
    parser = running_parser()
    if parser is not None:
        refuse_unknown(parser.get(), known_settings(bundle_root()))


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


def settings_beside(checkpoint: str | Path) -> dict[str, Any]:
    """The settings in `SETTINGS_OF_A_NETWORK` with which a run trained its checkpoint; empty where it is alone."""
    return {name: value for name, value in run_configuration(checkpoint).items() if name in SETTINGS_OF_A_NETWORK}


def run_configuration(checkpoint: str | Path) -> dict[str, Any]:
    """The configuration that a run saved beside its checkpoint; empty where there is none."""
    file = Path(checkpoint).parent / RUN_CONFIGURATION
    try:
        return dict(json.loads(file.read_text())) if file.is_file() else {}
    except ValueError as error:
        raise ConfigurationError(f"{file}: is not valid JSON ({error}).") from error
