"""Space to depth: a U-Net that works on blocks of pixels costs less on large slices, and loses no pixel."""

from __future__ import annotations

from monai.networks.nets import BasicUNet
from torch import Tensor, nn

LEAST_EDGE = 32
"""In blocks: after four poolings two remain, and instance normalisation needs more than one."""


class PackedUNet(nn.Module):
    """MONAI's BasicUNet on a grid coarser by `factor`: its channels are the pixels of a block (Shi et al. 2016,
    arXiv:1609.05158), and its scores are spread over the block again.

    Args:
        in_channels: modalities.
        out_channels: classes, background included.
        width: features of its first two levels; each level below doubles them.
        factor: edge of a block in pixels; height and width must divide by it.
    """

    def __init__(self, in_channels: int = 2, out_channels: int = 4, width: int = 32, factor: int = 2) -> None:
        super().__init__()
        block, features = factor**2, (width, width, 2 * width, 4 * width, 8 * width, width)
        self.pack, self.spread = nn.PixelUnshuffle(factor), nn.PixelShuffle(factor)
        self.factor, self.least = factor, LEAST_EDGE * factor
        self.network = BasicUNet(2, block * in_channels, block * out_channels, features)

    def forward(self, x: Tensor) -> Tensor:
        """Scores (B, classes, H, W) of slices (B, C, H, W).

        Raises:
            ValueError: if height or width does not divide into blocks, or is too small for the network's lowest level.
        """
        height, width = x.shape[2], x.shape[3]
        if min(height, width) < self.least or height % self.factor != 0 or width % self.factor != 0:
            sizes = f"multiples of {self.factor} from {self.least} on"
            raise ValueError(f"slices of {height}×{width} pixels; it takes {sizes}.")
        scores: Tensor = self.spread(self.network(self.pack(x)))
        return scores
