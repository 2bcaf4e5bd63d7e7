"""Training in several processes: whose gradients are averaged, which handlers run where, what all must share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from ignite.engine import Engine
from workflows.machine.ranks import _here, _talking, from_first, is_first


def averaging_gradients(network: torch.nn.Module, device: Any) -> torch.nn.Module:
    """The network with gradients that are the mean over the ranks; its weights stay those of `network`.

    Ranks must take equally many steps. Parts of the network without a gradient are left alone, as in one process.
    """
    if _here.number == 1:
        return network
    import torch
    from torch.nn.parallel import DistributedDataParallel

    place = [device] if torch.device(device).type == "cuda" else None
    return DistributedDataParallel(network, device_ids=place, static_graph=True)


def handlers_here(handlers: Sequence[Any], *first: Any) -> list[Any]:
    """`first` and the handlers that this rank attaches: on all but the first rank, none that shows or logs."""
    if _here.number == 1:
        return list(handlers)
    if is_first():
        return [*first, *handlers]
    from monai.handlers import TensorBoardStatsHandler

    from workflows.monitoring.progress_handlers import EpochTable, ProgressBar, RunBar
    from workflows.monitoring.tensorboard_handlers import FallenCases, RunDescription, SliceOverlays
    from workflows.monitoring.training_log import TrainingLog

    showing = (TrainingLog, EpochTable, ProgressBar, RunBar)
    on_tensorboard = (TensorBoardStatsHandler, RunDescription, SliceOverlays, FallenCases)
    return [*first, *(handler for handler in handlers if not isinstance(handler, (*showing, *on_tensorboard)))]


def event_writer(**options: Any) -> Any:
    """TensorBoard's writer on the first rank; on the others something that takes the same calls and writes nothing."""
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(**options) if is_first() else _NoEvents()


class _NoEvents:
    def __getattr__(self, name: str) -> Callable[..., None]:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *arguments, **options: None


class SameEverywhere:
    """Every rank validates the same network and decides by the same figures, those of the first.

    Statistics of a batch normalisation are a rank's own until they are shared; figures from gathered sums may differ in
    their last digit on a GPU, and a rank that stopped early for it would leave the others waiting. Attach it to the
    validator before all other handlers.

    Args:
        networks: whose buffers, which no gradient keeps the same, are to be those of the first rank.
    """

    def __init__(self, *networks: torch.nn.Module) -> None:
        self.networks = networks

    def attach(self, engine: Engine) -> None:
        from ignite.engine import Events

        engine.add_event_handler(Events.STARTED, self._share_buffers)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._share_figures)

    def _share_buffers(self) -> None:
        import torch.distributed as dist

        for network in self.networks:
            for buffer in network.buffers():
                with _talking():
                    dist.broadcast(buffer, src=0)

    def _share_figures(self, engine: Engine) -> None:
        engine.state.metrics.update(from_first(lambda: dict(engine.state.metrics)))
