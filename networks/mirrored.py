"""Each slice beside its mirror image: healthy brains are nearly symmetric, tumours are not."""

from __future__ import annotations

import torch
from torch import Tensor, nn

LEFT_RIGHT = 3  # the axis of (B, C, H, W)


class MirroredInput(nn.Module):
    """A network that also sees every slice mirrored left to right, in as many further channels.

    Args:
        network: takes twice as many channels as the slices have.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Scores (B, classes, H, W) of slices (B, C, H, W)."""
        scores: Tensor = self.network(torch.cat((x, x.flip(LEFT_RIGHT)), dim=1))
        return scores
