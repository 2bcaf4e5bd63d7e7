"""Space to depth: a network that works on blocks of pixels costs less on large slices, and loses no pixel."""

from __future__ import annotations

from torch import Tensor, nn


class PackedPixels(nn.Module):
    """A network on a grid coarser by `factor`, whose channels are the pixels of a block (Shi et al. 2016,
    arXiv:1609.05158), and whose scores are spread over the block again.

    Args:
        network: takes `factor`² times the channels of a slice, and gives `factor`² times the classes.
        factor: edge of a block in pixels; height and width must divide by it.
    """

    def __init__(self, network: nn.Module, factor: int = 2) -> None:
        super().__init__()
        self.pack, self.network, self.spread = nn.PixelUnshuffle(factor), network, nn.PixelShuffle(factor)

    def forward(self, x: Tensor) -> Tensor:
        """Scores (B, classes, H, W) of slices (B, C, H, W)."""
        scores: Tensor = self.spread(self.network(self.pack(x)))
        return scores
