"""Space to depth: a U-Net that works on blocks of pixels costs less on large slices, and loses no pixel."""

from __future__ import annotations

from collections.abc import Sequence

from monai.networks.nets import BasicUNet
from torch import Tensor, nn

FEATURES = (32, 32, 64, 128, 256, 32)


class PackedUNet(nn.Module):
    """MONAI's BasicUNet on a grid coarser by `factor`: its channels are the pixels of a block (Shi et al. 2016,
    arXiv:1609.05158), and its scores are spread over the block again.

    Args:
        in_channels: modalities.
        out_channels: classes, background included.
        features: BasicUNet's six; the last is of the grid that the scores are computed on.
        factor: edge of a block in pixels; height and width must divide by 16 times this.
    """

    def __init__(
        self, in_channels: int = 2, out_channels: int = 4, features: Sequence[int] = FEATURES, factor: int = 2
    ) -> None:
        super().__init__()
        block = factor**2
        self.pack, self.spread = nn.PixelUnshuffle(factor), nn.PixelShuffle(factor)
        self.network = BasicUNet(2, block * in_channels, block * out_channels, features)

    def forward(self, x: Tensor) -> Tensor:
        """Scores (B, classes, H, W) of slices (B, C, H, W)."""
        scores: Tensor = self.spread(self.network(self.pack(x)))
        return scores
