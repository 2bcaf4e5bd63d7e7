"""Training in several processes: whose gradients are averaged, what all must share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events

from workflows.machine.ranks import from_first, is_first, naming_lost_ranks, number_of_ranks


def averaging_gradients(network: torch.nn.Module, device: Any) -> torch.nn.Module:
    """The network with gradients that are the mean over the ranks; its weights stay those of `network`.

    Ranks must take equally many steps. Parts of the network without a gradient are left alone, as in one process.
    """
    if number_of_ranks() == 1:
        return network
    # Not `idist.auto_model`: Ignite 0.5.5 names a GPU for a network on the CPU, if there are any, and PyTorch refuses.
    place = [device] if torch.device(device).type == "cuda" else None
    return torch.nn.parallel.DistributedDataParallel(network, device_ids=place, static_graph=True)


def event_writer(**options: Any) -> Any:
    """TensorBoard's writer on the first rank; on the others something that takes the same calls and writes nothing."""
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(**options) if is_first() else _NoEvents()


class _NoEvents:
    def __getattr__(self, name: str) -> Callable[..., None]:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *_, **__: None


class SameEverywhere:
    """Every rank validates the same network and decides by the same figures, those of the first.

    Statistics of a batch normalisation are a rank's own until they are shared. Figures may differ in their last digit
    on a GPU, and a rank that stopped early would leave the others waiting. Attach it to the validator as the first.
    """

    def __init__(self, *networks: torch.nn.Module) -> None:
        self.networks = networks

    def attach(self, engine: Engine) -> None:
        """Share buffers before a validation, and figures after it."""
        engine.add_event_handler(Events.STARTED, self._share_buffers)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._share_figures)

    def _share_buffers(self) -> None:
        for network in self.networks:
            for buffer in network.buffers():
                with naming_lost_ranks():
                    of_first: Any = idist.broadcast(buffer, src=0)  # a copy where Ignite sends it through a GPU
                buffer.copy_(of_first)

    def _share_figures(self, engine: Engine) -> None:
        engine.state.metrics.update(from_first(lambda: dict(engine.state.metrics)))
