"""An experiment: what its overlay in overlays/ changes in the bundle's configuration."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workflows.messages.errors import ConfigurationError

OVERLAYS = Path(__file__).with_name("overlays")


@dataclass(frozen=True)
class Experiment:
    """What differs from train.json.

    Attributes:
        change: in words, what differs from the experiment it is based on.
        config: overlays of the bundle that come before its own.
        train: overlay of train.json.
        evaluate: overrides of inference.json.
        weights_of: the experiment whose weights it takes where it differs in the prediction alone.
        averaged_with: experiments whose weights of the same fold answer together with these.
        verdict: what was decided, where the rule of the table is not enough.
        command: what writes its figures, where that is another program.
    """

    name: str
    change: str
    based_on: str | None = None
    config: list[str] = field(default_factory=list)
    train: dict[str, Any] = field(default_factory=dict)
    evaluate: dict[str, Any] = field(default_factory=dict)
    weights_of: str | None = None
    averaged_with: list[str] = field(default_factory=list)
    verdict: str = ""
    command: str = ""


def load_experiment(name: str) -> Experiment:
    """The experiment with the settings of all that it is based on merged in.

    Raises:
        ConfigurationError: if there is none of this name, naming those there are.
    """
    if name not in names():
        raise ConfigurationError(f"no experiment {name!r}; there are {', '.join(names())}.")
    own = json.loads((OVERLAYS / f"{name}.json").read_text())
    if not own.get("based_on"):
        return Experiment(name, **own)
    base = load_experiment(own["based_on"])
    merged = {part: {**getattr(base, part), **own.get(part, {})} for part in ("train", "evaluate")}
    same_training = not {"train", "config"} & own.keys()
    weights = own.get("weights_of") or (base.weights_of if same_training else None)
    config = [*base.config, *own.get("config", [])]
    averaged = own.get("averaged_with") or (base.averaged_with if "train" not in own else [])
    return Experiment(name, **{**own, **merged, "config": config, "weights_of": weights, "averaged_with": averaged})


def names() -> list[str]:
    """All experiments that have an overlay."""
    return sorted(file.stem for file in OVERLAYS.glob("*.json"))
