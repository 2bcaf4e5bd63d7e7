"""The bundle's configuration files: where they are, what may be overridden, and what a run was configured with."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from workflows.messages.errors import ConfigurationError

BASED_ON = "based_on"
"""Under this key an overlay names the one that it changes, which is merged before it."""


def bundle_root() -> str:
    """The folder that holds `configs` and `models`, in the repository and in a packed bundle alike."""
    code = Path(__file__).resolve().parents[2]
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
        base = folder / f"{json.loads(found.read_text(encoding='utf-8')).get(BASED_ON)}.json"
        if base.is_file() and base not in (*files, found):
            files.append(base)
        files.append(found)
    return [str(file) for file in files]


def overlays_of(name: str, folder: Path) -> list[str]:
    """The files of a bundle that change settings of `name`.json and are no configuration of their own, by name."""
    known, overlays = set(map(top_level, json.loads((folder / f"{name}.json").read_text(encoding="utf-8")))), []
    for overlay, settings in configurations(folder.parent):
        names = set(map(top_level, settings))
        merged = {top_level(key) for key in settings if key.startswith("+") or top_level(key) != key}
        if overlay != name and "run" not in names and names & known and merged <= known:
            overlays.append(overlay)
    return overlays


def top_level(key: str) -> str:
    """The setting that a key of a file belongs to: `train` of `train#dataloader`, `imports` of `+imports`."""
    return key.lstrip("+").replace("::", "#").split("#")[0]


def configurations(root: str | Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and content of every configuration file of a bundle; the metadata are none."""
    for file in sorted((Path(root) / "configs").glob("*.json")):
        if file.name != "metadata.json":
            yield file.stem, json.loads(file.read_text(encoding="utf-8"))


def known_settings(root: str | Path) -> set[str]:
    """The top-level names in all configuration files of a bundle."""
    return {"_meta_"}.union(*(map(top_level, settings) for _, settings in configurations(root)))
