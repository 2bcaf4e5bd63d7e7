"""Which of the faster ways to compute a training takes: CUDA graphs, bfloat16 on a GPU or a processor, or neither."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from ignite.utils import apply_to_tensor
from monai.inferers import SimpleInferer
from torch import Tensor, nn

from workflows.training.cuda_graphs import Replayed, ReplayingInferer

logger = logging.getLogger(__name__)

BFLOAT16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16")
"""By torch's names. Without them a processor computes bfloat16 in float32, and takes longer than with that alone."""


def bfloat16_is_fast_on(device: str | torch.device) -> bool:
    """A GPU computes faster in it, and a processor that has instructions for it; some versions of torch do not know."""
    if torch.device(device).type != "cpu":
        return torch.device(device).type == "cuda"
    known: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(known.get(name) for name in BFLOAT16_INSTRUCTIONS)


def training_inferer(cuda_graphs: bool, on_gpu: bool, amp: bool) -> SimpleInferer:
    """What applies the network to a batch: its pass replayed on a GPU, in bfloat16 on a processor, or as it is."""
    if on_gpu:
        return ReplayingInferer() if cuda_graphs else SimpleInferer()
    if not amp:
        return SimpleInferer()
    logger.info("training in bfloat16, for which this processor has instructions; --amp False trains in float32")
    return Bfloat16Inferer()


class Bfloat16Inferer(SimpleInferer):
    """Computes in bfloat16 the network's operations that support it; the answer is float32, for loss and scores.

    For the CPU: with `amp` MONAI's engines do the same, but name a GPU's autocast whatever device they have.
    """

    def __call__(self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """What the network answers to a batch, float32."""
        with torch.autocast(inputs.device.type, torch.bfloat16):
            answer = super().__call__(inputs, network, *args, **kwargs)
        return apply_to_tensor(answer, Tensor.float)


def training_loss(loss: nn.Module, cuda_graphs: bool, on_gpu: bool) -> nn.Module:
    """The loss, replayed on a GPU where its passes are recorded."""
    return Replayed(loss) if cuda_graphs and on_gpu else loss


def uses_gpu_autocast(amp: bool, on_gpu: bool) -> bool:
    """Whether MONAI's engines compute in mixed precision; theirs is for GPUs alone."""
    return bool(amp) and on_gpu
