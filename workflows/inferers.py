"""How a network for slices is applied to a volume."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.inferers import SliceInferer
from torch import Tensor

from networks.slabs import SlabNetwork
from transforms.slices import with_neighbours

FLIPS = ((), (2,), (3,), (2, 3))  # of (B, C, H, W): none, front and back, left and right, both


class SameSliceInferer(SliceInferer):
    """MONAI's `SliceInferer`, whose result depends less on the size of its batches.

    oneDNN sums a lone slice in another order than the slices of a batch: probabilities then differ by up to 2e-5, with
    this class by 4e-7. A lone slice is therefore computed twice.
    """

    def network_wrapper(self, network: Callable[..., Any], x: Any, *args: Any, **kwargs: Any) -> Any:
        if len(x) > 1:
            return super().network_wrapper(network, x, *args, **kwargs)
        return super().network_wrapper(network, x.repeat(2, *(1,) * (x.ndim - 1)), *args, **kwargs)[:1]


class AxialInferer(SameSliceInferer):
    """MONAI's `SliceInferer` along the axial direction, with neighbouring slices and test-time flips on request.

    A `SlabNetwork` is given the patient's whole stack in one piece, whatever `sw_batch_size` says.

    Args:
        neighbours: slices on either side whose channels the network reads too, see `with_neighbours`.
        flips: average the class probabilities over the slice as it is and flipped along either axis and both; the
            cost is fourfold.
    """

    def __init__(self, *args: Any, neighbours: int = 0, flips: bool = False, **kwargs: Any) -> None:
        super().__init__(2, *args, **kwargs)
        self.neighbours, self.flips = neighbours, flips
        self.slices_per_batch = self.sw_batch_size

    def __call__(self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Scores of the classes.

        Args:
            inputs: (B, C, H, W, D).
        Returns:
            (B, classes, H, W, D) logits, with `flips` the logarithms of the averaged probabilities.
        """
        self.sw_batch_size = inputs.shape[-1] if isinstance(network, SlabNetwork) else self.slices_per_batch
        volume = with_neighbours(inputs, self.neighbours) if self.neighbours else inputs
        return super().__call__(volume, flip_averaged(network) if self.flips else network, *args, **kwargs)


def flip_averaged(network: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A network for slices (B, C, H, W) whose softmax is the mean of the softmax over the slice's four flips."""

    def score(slices: Tensor) -> Tensor:
        answers = [network(slices.flip(axes)).softmax(dim=1).flip(axes) for axes in FLIPS]
        return torch.stack(answers).mean(dim=0).clamp_min(torch.finfo(torch.float32).tiny).log()

    return score
