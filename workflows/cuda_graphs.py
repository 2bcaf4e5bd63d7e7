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

Form = tuple[Any, ...]


class Replayed(nn.Module):
    """A module whose forward and backward pass on a GPU are recorded at its first call and replayed from then on.

    Replayed are calls that compute gradients, with tensors of the first such call's shapes and types; others, as of an
    epoch's last batch, reach the module as they are. Its answer is overwritten by the next call. The module is called
    four times at the recording, after which its buffers, the running means of a normalisation among them, are set back.

    Args:
        module: of tensors alone, without random decisions on the processor and without a need to wait for the GPU.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.form: Form | None = None
        self.replay: Callable[..., Any] | None = None

    def forward(self, *inputs: Tensor) -> Any:
        if not torch.is_grad_enabled() or not all(tensor.is_cuda for tensor in inputs):
            return self.module(*inputs)
        form = self._form_of(inputs)
        if self.replay is None:
            self.form, self.replay = form, self._record(inputs)
        return self.replay(*inputs) if form == self.form else self.module(*inputs)

    def _form_of(self, inputs: tuple[Tensor, ...]) -> Form:
        of_inputs = [(tensor.shape, tensor.stride(), tensor.dtype, tensor.requires_grad) for tensor in inputs]
        return (self.module.training, torch.is_autocast_enabled("cuda"), *of_inputs)

    def _record(self, inputs: tuple[Tensor, ...]) -> Callable[..., Any]:
        # The gradients of a recording come from another stream than torch expects, of which it warns once; it waits for
        # that stream by itself. Older versions do not warn.
        getattr(torch.autograd.graph, "set_warn_on_accumulate_grad_stream_mismatch", bool)(False)
        before = {name: buffer.clone() for name, buffer in self.module.named_buffers()}
        samples = tuple(tensor.detach().clone().requires_grad_(tensor.requires_grad) for tensor in inputs)
        # Autocast would otherwise hand the recording weights that it has rounded before, and which stay as they are.
        rounding = torch.get_autocast_dtype("cuda")
        with torch.autocast("cuda", rounding, enabled=torch.is_autocast_enabled("cuda"), cache_enabled=False):
            # A holder, since the recording takes the place of the forward method of the module that it is of.
            replay: Callable[..., Any] = torch.cuda.make_graphed_callables(
                Holder(self.module), samples, allow_unused_input=True
            )
        for name, buffer in self.module.named_buffers():
            buffer.copy_(before[name])
        return replay


class Holder(nn.Module):
    """A module by another name."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.train(module.training)

    def forward(self, *inputs: Tensor) -> Any:
        return self.module(*inputs)


class ReplayingInferer(SimpleInferer):
    """MONAI's inferer of whole batches with its network `Replayed`."""

    def __init__(self) -> None:
        super().__init__()
        self.replayed: Replayed | None = None

    def __call__(self, inputs: Tensor, network: Any, *args: Any, **kwargs: Any) -> Any:
        if self.replayed is None or self.replayed.module is not network:
            self.replayed = Replayed(network)
        return super().__call__(inputs, self.replayed, *args, **kwargs)
