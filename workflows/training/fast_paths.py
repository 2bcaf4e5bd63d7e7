"""Which of the faster ways to compute a training takes: CUDA graphs, bfloat16 on a GPU or a processor, or neither."""

from __future__ import annotations

import torch
from monai.inferers import SimpleInferer
from torch import nn

from workflows.training import mixed_precision
from workflows.training.cuda_graphs import Replayed, ReplayingInferer


def training_inferer(cuda_graphs: bool, on_gpu: bool, amp: bool, device: str | torch.device) -> SimpleInferer:
    """What applies the network to a batch: its pass replayed on a GPU, in bfloat16 on a processor, or as it is."""
    if cuda_graphs and on_gpu:
        return ReplayingInferer()
    return mixed_precision.inferer(amp, device)


def training_loss(loss: nn.Module, cuda_graphs: bool, on_gpu: bool) -> nn.Module:
    """The loss, replayed on a GPU where its passes are recorded."""
    return Replayed(loss) if cuda_graphs and on_gpu else loss


def uses_gpu_autocast(amp: bool, on_gpu: bool) -> bool:
    """Whether MONAI's engines compute in mixed precision; theirs is for GPUs alone."""
    return bool(amp) and on_gpu
