"""Settings that a user gives, and the run of a configuration with them."""

from __future__ import annotations

import inspect
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workflows.messages.errors import ConfigurationError, show_errors_in_one_line
from workflows.settings.bundle_files import BASED_ON, bundle_root, known_settings, top_level
from workflows.settings.setting_checks import NONE, check_values, nearest

if TYPE_CHECKING:
    from monai.bundle import ConfigWorkflow

PATH_SETTINGS = ("dataset_dir", "run_dir", "split_file", "patient_dir", "output_dir", "checkpoint", "cache_dir")
PATH_LISTS = ("more_checkpoints",)
PARTS_OF_INPUT = (
    *("modalities", "size_px", "planes", "mirrored"),
    *("slice_range", "normalisation", "crop_to_brain", "neighbours", "whole_brain"),
)
RENAMED = {"cube_mm": "input#edge_mm", **{name: f"input#{name}" for name in PARTS_OF_INPUT}}
"""Old names of settings, which are refused, and their present names."""


def run_workflow(run_id: str, files: Sequence[str], overrides: Mapping[str, Any]) -> None:
    """Run a configuration as `python -m monai.bundle run` does, without its notes on where options came from."""
    import logging

    from monai.bundle import run

    for module in ("scripts", "workflows"):  # the second warns of files outside the bundle, as a resumed run's is
        logging.getLogger(f"monai.bundle.{module}").setLevel(logging.ERROR)
    options = {name: overrides[name] for name in monai_options() & overrides.keys()}
    given = {name: NONE if value is None else value for name, value in overrides.items()}
    paths: dict[str, Any] = {name: literal_path(overrides[name]) for name in PATH_SETTINGS if overrides.get(name)}
    paths |= {name: list(map(literal_path, overrides[name])) for name in PATH_LISTS if overrides.get(name)}
    run(**{"run_id": run_id, "config_file": list(files), **given, **paths, **options})


def monai_options() -> set[str]:
    """What `python -m monai.bundle run` takes beside settings, such as `tracking` and `logging_file`."""
    from monai.bundle import ConfigWorkflow, create_workflow, run

    taken = {
        name for function in (run, create_workflow, ConfigWorkflow) for name in inspect.signature(function).parameters
    }
    return taken - {"config_file", "override", "kwargs"}


def tracking_settings(tracking: Any) -> set[str]:
    """The settings that MONAI adds to a configuration for "mlflow", a file of tracking settings or its content.

    Raises:
        ConfigurationError: if `tracking` is something else, and not None.
    """
    from monai.bundle import ConfigParser
    from monai.bundle.utils import DEFAULT_EXP_MGMT_SETTINGS

    if tracking is None:
        return set()
    try:
        by_name = isinstance(tracking, str) and tracking in DEFAULT_EXP_MGMT_SETTINGS
        found: Any = DEFAULT_EXP_MGMT_SETTINGS[tracking] if by_name else ConfigParser.load_config_files(tracking)
        return set(found["configs"]) - set(found["handlers_id"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(
            f"tracking is {tracking!r}; give mlflow, or a JSON file of MONAI's tracking settings ({error})."
        ) from error


def send_no_usage_data() -> None:
    """Switch off MLflow's telemetry, unless the user has set `MLFLOW_DISABLE_TELEMETRY=false`.

    MLflow by default reports its use to its makers, whom patients' data do not concern. MONAI imports it wherever it is
    installed, in MONAI's own command before any code of ours runs. That is early enough, since MLflow asks the
    environment again before it notes an event.
    """
    switch = os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", switch)  # the same for every program; MLflow obeys either of the two


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

    Of ids such as "network_def#width" the part before the first separator is checked.
    """
    known = sorted(known)
    for name in names:
        top = top_level(name)
        if top in RENAMED:
            axial = "; for axial slices use the overlay axial" if top == "cube_mm" else ""
            raise ConfigurationError(f"{top} is now called {RENAMED[top]}{axial}.")
        if top not in known:
            hint = nearest(top, known, f"there are {', '.join(k for k in known if k[0] != '_')}.")
            raise ConfigurationError(f"no setting is called {top!r}; {hint}")


def refuse_misspelt(overrides: Mapping[str, Any], settings: Iterable[str]) -> None:
    """`refuse_unknown` for a command: settings of its configuration, options of MONAI and what its tracking adds."""
    refuse_unknown(overrides, {*settings, *monai_options(), *tracking_settings(overrides.get("tracking"))})


def check_settings() -> None:
    """The first step of every `run`: refuse a setting that cannot be meant before anything is read or written."""
    show_errors_in_one_line()
    send_no_usage_data()
    workflow = running_workflow()
    if workflow is None:
        return
    settings = workflow.parser.get()
    steps = (workflow.init_id, workflow.run_id, workflow.final_id)
    referred = re.findall(r"@(\w+)", json.dumps(settings, default=str))  # as what MONAI's tracking adds is
    given = {name for name, value in settings.items() if value != f"$@input.{name}"}  # ours refer to it
    refuse_unknown(given, {*known_settings(bundle_root()), *steps, *referred})
    if "tracking_uri" in settings and find_spec("mlflow") is None:
        raise ConfigurationError("tracking needs MLflow, which is not installed: pip install -e '.[mlflow]'")
    base = settings.get(BASED_ON)
    if base != settings.get("recipe"):  # an overlay that says only how it differs from another one needs that one
        raise ConfigurationError(f"an overlay changes the recipe {base}; name {base}.json before it.")
    check_values(workflow.parser, bundle_root())


def running_workflow() -> ConfigWorkflow | None:
    """The MONAI workflow that is evaluating the expression from which this is called.

    In MONAI 1.6.1 an expression can find it on the call stack only. `@` or `%` alone, the whole configuration, holds
    the expression itself, and MONAI refuses the circular reference. `initialize` runs before code packed beside
    `configs` can be imported, and a workflow class of our own would have to be named in every
    `python -m monai.bundle run`.
    """
    from monai.bundle import ConfigWorkflow

    frame = inspect.currentframe()
    while frame is not None:
        caller = frame.f_locals.get("self")
        if isinstance(caller, ConfigWorkflow):
            return caller
        frame = frame.f_back
    return None


def own_settings(variants: Iterable[str], overrides: Iterable[str]) -> set[str]:
    """The settings that the user gives as a whole: on the command line, or in an overlay named by its path."""
    inside = Path(bundle_root()) / "configs"
    files = [Path(variant) for variant in variants if not (inside / f"{variant}.json").is_file()]
    named = [key for file in files for key in json.loads(file.read_text(encoding="utf-8"))]
    return {name for name in (*named, *overrides) if "#" not in name and "::" not in name}
