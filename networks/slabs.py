"""A network for volumes where slices are asked for: 3D beside the 2D networks, with the same data, loss and scores."""

from __future__ import annotations

from typing import Any

from monai.inferers import sliding_window_inference
from torch import Tensor, nn
from torch.nn import functional

OVERLAP = 0.5
"""Of neighbouring slabs in prediction: all slices but the outermost half slabs are scored twice."""


class SlabNetwork(nn.Module):
    """Applies a 3D network to slabs, which are consecutive axial slices of one patient.

    While training, a batch is one slab after the other, `slab` slices each. In evaluation mode a batch is one patient's
    whole stack, from the lowest slice to the highest: overlapping slabs are scored and their scores averaged, since a
    network with instance normalisation has learned the statistics of a slab and not of a volume. What a slice is
    scored then depends on the stack that it comes in, so the stack must be whole.

    Args:
        network: (B, C, H, W, slab) → (B, classes, H, W, slab).
        slab: slices that it sees at once; what its poolings ask for, as a multiple of 16 for four of them.
    """

    def __init__(self, network: nn.Module, slab: int) -> None:
        super().__init__()
        self.network, self.slab = network, slab

    def forward(self, x: Tensor) -> Tensor:
        """Score the classes of slices.

        Args:
            x: (S, C, H, W).
        Returns:
            (S, classes, H, W) logits.
        Raises:
            ValueError: if a training batch does not divide into slabs.
        """
        return self._score_slabs(x) if self.training else self._score_stack(x)

    def _score_slabs(self, x: Tensor) -> Tensor:
        if len(x) % self.slab != 0:
            raise ValueError(f"{len(x)} slices do not divide into slabs of {self.slab}.")
        slabs = x.unflatten(0, (-1, self.slab))  # (B, slab, C, H, W)
        scores: Tensor = self.network(slabs.movedim(1, -1))  # (B, classes, H, W, slab)
        return scores.movedim(-1, 1).flatten(0, 1)

    def _score_stack(self, x: Tensor) -> Tensor:
        volume = x.movedim(0, -1)[None]  # (1, C, H, W, S)
        scores: Any
        if len(x) <= self.slab:  # filled up with background
            scores = self.network(functional.pad(volume, (0, self.slab - len(x))))[..., : len(x)]
        else:
            window = (*x.shape[-2:], self.slab)
            scores = sliding_window_inference(volume, window, sw_batch_size=1, predictor=self.network, overlap=OVERLAP)
        stack: Tensor = scores[0].movedim(-1, 0)
        return stack
