"""CUDA graphs in training: a GPU replays a recorded pass instead of being handed its hundreds of operations one by one.

Small slices keep a GPU busy for less time than a processor needs to start their operations. Recording is PyTorch's
`make_graphed_callables`; here stands what may be replayed, and when.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.inferers import SimpleInferer
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from workflows.messages.errors import ConfigurationError

Form = tuple[Any, ...]


class Replayed(nn.Module):
    """A module whose forward and backward pass on a GPU are recorded once and replayed from then on.

    The first call is recorded: a pass before it whose gradients are still held can break a recording. Calls with
    tensors of other shapes or types, such as an epoch's last batch, without gradients, or that add to gradients reach
    the module as they are, since a replay overwrites the gradients and the answer of the one before. The recording
    calls the module four times, and then restores its buffers and the GPU's random numbers.

    Args:
        module: takes tensors only, decides nothing at random on the processor, and needs no wait for the GPU. One that
            averages its gradients with other processes is never replayed: that happens outside of a recording.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.recorded: tuple[Form, Callable[..., Any]] | None = None

    def forward(self, *inputs: Tensor) -> Any:
        """What the module answers, replayed where possible."""
        if not self._replayable(inputs):
            return self.module(*inputs)
        form = self._form_of(inputs)
        if self.recorded is None:
            self.recorded = form, self._record(inputs)
        recorded_form, replay = self.recorded
        return replay(*inputs) if form == recorded_form else self.module(*inputs)

    def _replayable(self, inputs: tuple[Tensor, ...]) -> bool:
        return (
            torch.is_grad_enabled()
            and self._on_gpu(inputs)
            and not isinstance(self.module, DistributedDataParallel)
            and all(weight.grad is None for weight in self.module.parameters())
        )

    def _on_gpu(self, inputs: tuple[Tensor, ...]) -> bool:
        return all(tensor.is_cuda for tensor in inputs)

    def _form_of(self, inputs: tuple[Tensor, ...]) -> Form:
        of_inputs = [(tensor.shape, tensor.stride(), tensor.dtype, tensor.requires_grad) for tensor in inputs]
        return (self.module.training, torch.is_autocast_enabled("cuda"), *of_inputs)

    def _record(self, inputs: tuple[Tensor, ...]) -> Callable[..., Any]:
        """
        Raises:
            ConfigurationError: if the module does what cannot be recorded.
        """
        device = inputs[0].device
        self.module.to(device)  # a loss may hold tensors, and nobody has moved it
        before = {name: buffer.clone() for name, buffer in self.module.named_buffers()}
        samples = tuple(tensor.detach().clone().requires_grad_(tensor.requires_grad) for tensor in inputs)
        drawn = torch.cuda.get_rng_state(device)
        try:
            replay = recording(self.module, samples, device)
        except RuntimeError as error:
            raise ConfigurationError(
                f"{type(self.module).__name__} cannot be recorded as a CUDA graph ({str(error).splitlines()[0]}); "
                "train with --cuda_graphs False."
            ) from error
        torch.cuda.set_rng_state(drawn, device)
        for name, buffer in self.module.named_buffers():
            buffer.copy_(before[name])
        return replay


def recording(module: nn.Module, samples: tuple[Tensor, ...], device: torch.device) -> Callable[..., Any]:
    """What replays a module on tensors like the samples."""
    # The gradients of a recording come from another stream than torch expects, of which it warns once; it waits for
    # that stream by itself. Older versions do not warn.
    getattr(torch.autograd.graph, "set_warn_on_accumulate_grad_stream_mismatch", bool)(False)
    torch.cuda.graph.default_capture_stream = None  # else a recording on one GPU would use the stream of another
    # Autocast would hand the recording weights that it has rounded before, and which stay as they are.
    rounding, rounds = torch.get_autocast_dtype("cuda"), torch.is_autocast_enabled("cuda")
    with torch.cuda.device(device), torch.autocast("cuda", rounding, enabled=rounds, cache_enabled=False):
        replay: Callable[..., Any] = torch.cuda.make_graphed_callables(Holder(module), samples, allow_unused_input=True)
    return replay


class Holder(nn.Module):
    """Holds a module, since a recording replaces the forward method of what it records."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.train(module.training)

    def forward(self, *inputs: Tensor) -> Any:
        """What the module answers."""
        return self.module(*inputs)


class ReplayingInferer(SimpleInferer):
    """MONAI's inferer of whole batches with its network `Replayed`."""

    def __init__(self) -> None:
        super().__init__()
        self.replayed: Replayed | None = None

    def __call__(self, inputs: Tensor, network: Any, *args: Any, **kwargs: Any) -> Any:
        """What the network answers to a batch."""
        if self.replayed is None or self.replayed.module is not network:
            self.replayed = Replayed(network)
        return super().__call__(inputs, self.replayed, *args, **kwargs)
