"""Weights from a file, as tensors and nothing else: a checkpoint is data from elsewhere and never runs code."""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import Tensor, nn

from transforms.files import write_whole
from workflows.messages.errors import ConfigurationError

logger = logging.getLogger(__name__)

SAFETENSORS = ".safetensors"
NETWORK = "network"
"""Under this key the full state of a run holds its network."""


def read_weights(checkpoint: str | Path, map_location: Any = "cpu") -> dict[str, Tensor]:
    """The tensors of a network by name, from a run's `model.pt` or `last.pt`, or from a `.safetensors` file.

    Raises:
        ConfigurationError: if the file cannot be read as tensors alone.
    """
    if Path(checkpoint).suffix == SAFETENSORS:
        return _read_safetensors(checkpoint, map_location)
    refusal = ConfigurationError(
        f"{checkpoint}: is no PyTorch checkpoint, or holds more than tensors; name a RUN/model.pt or RUN/last.pt."
    )
    try:
        state = torch.load(checkpoint, map_location=map_location, weights_only=True)
    except Exception as error:  # pickle, zip and I/O errors alike
        raise refusal from error
    weights = state.get(NETWORK, state) if isinstance(state, Mapping) else None
    if not isinstance(weights, Mapping) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise refusal
    return dict(weights)


def _read_safetensors(checkpoint: str | Path, map_location: Any) -> dict[str, Tensor]:
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        raise ConfigurationError(
            f"{checkpoint}: reading it needs one extra package:  pip install safetensors  or name a .pt file."
        ) from error
    try:
        return load_file(checkpoint, device=str(map_location))
    except Exception as error:  # its errors have no common class
        raise ConfigurationError(f"{checkpoint}: is no safetensors file, or is cut short ({error}).") from error


class LoadWeights:
    """Loads weights into a network when an engine starts; MONAI's `CheckpointLoader` reads PyTorch's files only."""

    def __init__(self, checkpoint: str | Path, network: nn.Module, map_location: Any = "cpu") -> None:
        self.checkpoint, self.network, self.map_location = checkpoint, network, map_location

    def attach(self, engine: Engine) -> None:
        """Load when the engine starts."""
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self) -> None:
        """Load now."""
        self.network.load_state_dict(read_weights(self.checkpoint, self.map_location))


def check_weights(network: Any, checkpoint: str | Path) -> None:
    """Compare a checkpoint with the network it is for, before any patient is read.

    Raises:
        ConfigurationError: if it cannot be read as weights alone, or naming the first layer that differs.
    """
    saved, wanted = read_weights(checkpoint), network.state_dict()
    for name in [*wanted, *saved]:
        here, there = (tuple(s[name].shape) if name in s else "nothing" for s in (wanted, saved))
        if here != there:
            raise ConfigurationError(
                f"{checkpoint}: belongs to another network: {name} is {there} in it and {here} in the configuration; "
                "merge the overlay it was trained with, or keep it beside its run's config.json."
            )


def write_checkpoint(path: Path, content: Any) -> None:
    """Save as PyTorch does, whole or not at all. PyTorch itself would not say why it cannot write to a file."""
    in_memory = io.BytesIO()
    torch.save(content, in_memory)
    write_whole(path, lambda partial: partial.write_bytes(in_memory.getbuffer()))
