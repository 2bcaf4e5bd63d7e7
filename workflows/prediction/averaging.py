"""Networks that answer together: the mean of their class probabilities."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser
from torch import Tensor, nn

from workflows.prediction.inferers import log_mean_probabilities
from workflows.settings.beside_checkpoint import settings_beside
from workflows.settings.checkpoints import check_same_input
from workflows.settings.weights import check_weights, read_weights


class MeanOfNetworks(nn.Module):
    """Networks for slices (B, C, H, W) as one whose softmax is the mean of theirs; its cost is the sum of theirs."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, slices: Tensor) -> Tensor:
        return log_mean_probabilities(network(slices).softmax(dim=1) for network in self.networks)


def averaged(
    network: nn.Module,
    checkpoint: str | Path,
    more_checkpoints: Sequence[str | Path],
    settings: Mapping[str, Any],
    device: Any = "cpu",
) -> nn.Module:
    """The network together with those of further checkpoints, or the network itself where there are none.

    Args:
        network: of `checkpoint`; its weights may be loaded later.
        more_checkpoints: each builds the network that its run's config.json names, or where it lies alone a copy of
            `network`.
        settings: those of this prediction, by the names in `INPUT_SETTINGS`, "slice_range" and "in_channels".
    Raises:
        ConfigurationError: if a checkpoint's run read another input, or its weights do not fit its network.
    """
    if not more_checkpoints:
        return network
    check_same_input(checkpoint, settings, more_checkpoints)
    return MeanOfNetworks([network, *(_loaded(more, network, settings, device) for more in more_checkpoints)])


def _loaded(checkpoint: str | Path, like: nn.Module, settings: Mapping[str, Any], device: Any) -> nn.Module:
    own = settings_beside(checkpoint)  # which refuses code other than building a network
    network = _built(own["network_def"], settings) if "network_def" in own else copy.deepcopy(like)
    check_weights(network, checkpoint)
    network.load_state_dict(read_weights(checkpoint))
    return network.to(device)


def _built(definition: Any, settings: Mapping[str, Any]) -> Any:
    """A network from its definition, which may name the channels of its input, or count them."""
    names = ("in_channels", "modalities", "neighbours")
    parser = ConfigParser({"network_def": definition, **{name: settings[name] for name in names}})
    return parser.get_parsed_content("network_def")
