"""bfloat16 where a processor computes in it, in training."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from ignite.utils import apply_to_tensor
from monai.inferers import SimpleInferer
from torch import Tensor

BFLOAT16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16")
"""By torch's names. Without them a processor computes bfloat16 in float32, and takes longer than with that alone."""

logger = logging.getLogger(__name__)


def is_fast_on(device: str | torch.device) -> bool:
    """Whether a device computes faster in bfloat16: a GPU, and a processor with instructions for it where torch, some
    versions of which do not know, says so.
    """
    if torch.device(device).type != "cpu":
        return torch.device(device).type == "cuda"
    known: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(known.get(name) for name in BFLOAT16_INSTRUCTIONS)


def inferer(in_bfloat16: bool, device: str | torch.device) -> SimpleInferer:
    """What applies the network in MONAI's engines, whose own `amp` is for GPUs alone."""
    if not in_bfloat16 or torch.device(device).type != "cpu":
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
