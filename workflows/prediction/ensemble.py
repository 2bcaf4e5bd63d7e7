"""Networks that answer together: the mean of their class probabilities."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser
from torch import Tensor, nn

from transforms.inputs import WINDOW_MAXIMUM, Input, described
from workflows.files.run_folder import run_configuration
from workflows.messages.errors import ConfigurationError
from workflows.prediction.inferers import log_mean_probabilities
from workflows.settings.checkpoints import settings_beside
from workflows.settings.weights import check_weights, read_weights


class MeanOfNetworks(nn.Module):
    """Networks for slices (B, C, H, W) as one whose softmax is the mean of theirs; its cost is the sum of theirs."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, slices: Tensor) -> Tensor:
        """Logits (B, classes, H, W)."""
        return log_mean_probabilities(network(slices).softmax(dim=1) for network in self.networks)


def averaged(
    network: nn.Module,
    checkpoint: str | Path,
    more_checkpoints: Sequence[str | Path],
    input: Input,
    brain_only: bool = True,
    device: Any = "cpu",
) -> nn.Module:
    """The network of a checkpoint, whose weights may be loaded later, together with those of further checkpoints.

    Each of these builds the network that its run's config.json names, or where it lies alone a copy of `network`.

    Raises:
        ConfigurationError: if a checkpoint's run read another input, or its weights do not fit its network.
    """
    if not more_checkpoints:
        return network
    for more in more_checkpoints:
        check_same_input(checkpoint, input, brain_only, more)
    return MeanOfNetworks([network, *(_loaded(more, network, input, device) for more in more_checkpoints)])


def check_same_input(first: str | Path, input: Input, brain_only: bool, more: str | Path) -> None:
    """Compare the input with which a further checkpoint was trained with that of this prediction.

    A checkpoint without its run's configuration beside it is taken to have the same.

    Raises:
        ConfigurationError: naming the first setting that differs.
    """
    if not run_configuration(more):
        return
    own = settings_beside(more)
    here = {**_what_is_seen(input), "brain_only": brain_only}
    there = {**_what_is_seen(_built(own["input"], input)), "brain_only": own.get("brain_only", True)}
    for name in [*here, *there]:
        if here.get(name) != there.get(name):
            raise ConfigurationError(
                f"{more}: cannot be averaged with {first}: {name} is {there.get(name)} in its run and "
                f"{here.get(name)} here; average checkpoints that read the same input."
            )


def _what_is_seen(input: Input) -> dict[str, Any]:
    """The input without what only matters in training: the window, unless intensities are divided by its maximum."""
    seen = {name: list(value) if isinstance(value, tuple) else value for name, value in described(input).items()}
    if seen.get("normalisation") != WINDOW_MAXIMUM:
        seen.pop("slice_range", None)
    seen.pop("whole_brain", None)
    return seen


def _loaded(checkpoint: str | Path, like: nn.Module, input: Input, device: Any) -> nn.Module:
    own = settings_beside(checkpoint)  # which refuses code other than building a network
    network = _built(own["network_def"], input) if "network_def" in own else copy.deepcopy(like)
    check_weights(network, checkpoint)
    network.load_state_dict(read_weights(checkpoint))
    return network.to(device)


def _built(definition: Any, input: Input) -> Any:
    """What a definition builds, which may name the channels of the input."""
    return ConfigParser({"built": definition, "in_channels": input.in_channels}).get_parsed_content("built")
