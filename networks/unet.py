"""The study's 2D U-Net, with width, depth, normalisation and dropout as options."""

from __future__ import annotations

import torch
from monai.networks.layers.utils import get_norm_layer
from torch import Tensor, nn
from torch.nn import functional


class ConvolutionPair(nn.Sequential):
    """Two 3×3 convolutions, each followed by an optional normalisation and a ReLU; keeps height and width."""

    def __init__(self, in_channels: int, out_channels: int, norm: str | None) -> None:
        layers: list[nn.Module] = []
        for channels in (in_channels, out_channels):
            layers.append(nn.Conv2d(channels, out_channels, kernel_size=3, padding=1))
            if norm is not None:
                layers.append(_normalisation(norm, out_channels))
            layers.append(nn.ReLU(inplace=True))
        super().__init__(*layers)


class DecoderLevel(nn.Module):
    """Doubles height and width, halves the channels, and joins the encoder's features of that size."""

    def __init__(self, in_channels: int, norm: str | None) -> None:
        super().__init__()
        out_channels = in_channels // 2
        self.halve = nn.Conv2d(in_channels, out_channels, kernel_size=2)
        self.merge = ConvolutionPair(2 * out_channels, out_channels, norm)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """(B, 2C, H, W) and the encoder's (B, C, 2H, 2W) → (B, C, 2H, 2W)."""
        x = functional.interpolate(x, scale_factor=2.0, mode="nearest")  # (B, 2C, 2H, 2W)
        # An even kernel cannot be centred: one row and column of zeros below and to the right, as Keras pads.
        x = functional.relu(self.halve(functional.pad(x, (0, 1, 0, 1))))  # (B, C, 2H, 2W)
        merged: Tensor = self.merge(torch.cat((skip, x), dim=1))  # (B, C, 2H, 2W)
        return merged


class UNet2D(nn.Module):
    """A U-Net for axial slices: class scores (logits) for every pixel.

    With its default arguments it is the study's network of 7,759,908 parameters: encoder of 32, 64, 128, 256 and
    512 channels, nearest upsampling and a 2×2 convolution per decoder level, no normalisation, dropout 0.2 after
    the bottleneck, He-normal initialisation. Its softmax stands in the loss and in the post-processing.

    Args:
        in_channels: modalities.
        out_channels: classes, background included.
        width: channels of the first level; every level below doubles them.
        depth: number of poolings; height and width must divide by 2 ** depth.
        norm: None, or a MONAI normalisation name such as "instance" or "batch" (made affine), before each 3×3 ReLU.
        dropout: probability of zeroing a value after the bottleneck, while training.
    """

    def __init__(
        self,
        in_channels: int = 2,
        out_channels: int = 4,
        width: int = 32,
        depth: int = 4,
        norm: str | None = None,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        channels = [width * 2**level for level in range(depth + 1)]
        inputs = [in_channels, *channels[:-1]]
        pairs = [ConvolutionPair(i, o, norm) for i, o in zip(inputs, channels, strict=True)]
        self.size_factor = 2**depth
        self.encoder = nn.ModuleList(pairs[:-1])
        self.bottleneck = pairs[-1]
        self.dropout = nn.Dropout(dropout)
        self.decoder = nn.ModuleList(DecoderLevel(c, norm) for c in reversed(channels[1:]))
        self.classify = nn.Conv2d(width, out_channels, kernel_size=1)
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor:
        """Score the classes of a batch of slices.

        Args:
            x: (B, in_channels, H, W).
        Returns:
            (B, out_channels, H, W) logits.
        Raises:
            ValueError: if H or W does not divide by 2 ** depth; the message gives the nearest sizes that do.
        """
        self._check_size(x.shape[-2], x.shape[-1])
        skips: list[Tensor] = []
        for level in self.encoder:
            x = level(x)  # (B, C, H, W)
            skips.append(x)
            x = functional.max_pool2d(x, kernel_size=2)  # (B, C, H/2, W/2)
        x = self.dropout(self.bottleneck(x))  # (B, C·2^depth, H/2^depth, W/2^depth)
        for level in self.decoder:
            x = level(x, skips.pop())
        scores: Tensor = self.classify(x)  # (B, classes, H, W)
        return scores

    def _check_size(self, height: int, width: int) -> None:
        factor = self.size_factor
        if height % factor != 0 or width % factor != 0:
            sizes = f"{-(-height // factor) * factor}×{-(-width // factor) * factor}"
            if height >= factor and width >= factor:
                sizes = f"{height // factor * factor}×{width // factor * factor} or {sizes}"
            raise ValueError(f"slices of {height}×{width} pixels do not divide by {factor}: use {sizes}.")


def _normalisation(name: str, channels: int) -> nn.Module:
    layer: nn.Module = get_norm_layer((name, {"affine": True}), spatial_dims=2, channels=channels)
    return layer


def _initialise(module: nn.Module) -> None:
    """He-normal weights and zero biases (He et al. 2015, as Keras' `he_normal`, which the study names)."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
