"""How a network for slices is applied to a volume."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from operator import add
from typing import Any, cast

import torch
from monai.inferers import Inferer
from torch import Tensor

from transforms.planes import AXIAL, across, back_from
from transforms.slices import brain_window, own_channels, plain, stack_slices, with_mirror_image, with_neighbours
from workflows.runtimes import TORCH, Scores, described, in_runtime, sees_volumes

FLIPS = ((), (2,), (3,), (2, 3))  # of (B, C, H, W): none, along either axis, along both


class AxialInferer(Inferer):
    """Gives a network a volume's axial slices in batches and joins its answers.

    MONAI's `SliceInferer` weighs, adds up and counts every pixel as it does for windows that overlap, which slices do
    not.

    A `SlabNetwork` is given the patient's whole stack in one piece, whatever `slices_per_batch` says.

    Args:
        neighbours: slices on either side whose channels the network reads too, see `with_neighbours`.
        flips: average the class probabilities over the slice as it is and flipped along either axis and both; the
            cost is fourfold.
        brain_only: do not compute the slices below and above the brain. For post-processing with `brain_only`, which
            calls them background whatever their scores.
        runtime: what computes the network, see `workflows.runtimes`.
    """

    def __init__(
        self,
        slices_per_batch: int = 1,
        neighbours: int = 0,
        flips: bool = False,
        brain_only: bool = False,
        runtime: str = TORCH,
    ) -> None:
        self.slices_per_batch, self.neighbours, self.flips = slices_per_batch, neighbours, flips
        self.brain_only, self.runtime = brain_only, runtime
        self.computed_in = TORCH
        self._built: tuple[Any, Scores] | None = None

    def __call__(self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Scores of the classes.

        Args:
            inputs: (B, C, H, W, D), zero outside the brain.
        Returns:
            (B, classes, H, W, D) logits, with `flips` the logarithms of the averaged probabilities; with `brain_only`
            zero in slices without brain at either end.
        """
        return self._answers(inputs, network, lambda scores: scores, *args, **kwargs)

    def _answers(
        self,
        inputs: Tensor,
        network: Callable[..., Any],
        last: Callable[[Tensor], Tensor],
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:
        """What `last` makes of the scores of each batch, joined."""
        volumes = plain(inputs)
        volumes = with_neighbours(volumes, self.neighbours) if self.neighbours else volumes
        together = volumes.shape[-1] if sees_volumes(network) else self.slices_per_batch
        network = self._in_runtime(network, volumes)
        network = flip_averaged(network) if self.flips else network

        def scores(slices: Tensor) -> Tensor:
            return last(answer(network, slices, *args, **kwargs).to(volumes.dtype))

        joined = [self._slice_by_slice(volume, scores, together) for volume in volumes]
        return torch.stack(joined) if len(joined) > 1 else joined[0][None]  # which copies nothing

    def _slice_by_slice(self, volume: Tensor, scores: Scores, together: int) -> Tensor:
        """(C, H, W, D) → (classes, H, W, D), so many slices `together`."""
        depth = volume.shape[-1]
        first, end = brain_window(self._own_channels(volume)) if self.brain_only else (0, depth)
        answers = [scores(slices) for slices in volume.movedim(-1, 0)[first:end].split(together)]
        below, above = (answers[0].new_zeros(count, *answers[0].shape[1:]) for count in (first, depth - end))
        return torch.cat([below, *answers, above]).movedim(0, -1)

    def _own_channels(self, volume: Tensor) -> Tensor:
        """What of a volume (C, H, W, D) shows the slices themselves."""
        return own_channels(volume, self.neighbours, channel_dim=0)

    def _in_runtime(self, network: Any, volumes: Tensor) -> Scores:
        """The network in `runtime`, built for the first volume that it meets from slices of its middle."""
        if self.runtime == TORCH:
            return cast(Scores, network)
        if self._built is None or self._built[0] is not network:
            middle = volumes.shape[-1] // 2
            slices = stack_slices(volumes[0, ..., max(0, middle - 1) : middle + 2])
            self.computed_in, scores = in_runtime(self.runtime, network, slices)
            self._built = (network, scores)
        return self._built[1]

    @property
    def computed_by(self) -> str:
        """The runtime that computed the last volume, with its version."""
        return described(self.computed_in)


class PlanesInferer(AxialInferer):
    """`AxialInferer` along several planes of a cube, whose class probabilities are averaged.

    Args:
        planes: see `transforms.planes`; the cost grows with their number.
        mirrored: the network reads the volume's mirror image too, see `with_mirror_image`.
    """

    def __init__(self, *args: Any, planes: Sequence[str] = (AXIAL,), mirrored: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.planes, self.mirrored = planes, mirrored

    def __call__(self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """As `AxialInferer`; of several planes the logarithms of the averaged probabilities."""
        volume = with_mirror_image(plain(inputs)) if self.mirrored else plain(inputs)

        def along(plane: str, last: Callable[[Tensor], Tensor]) -> Tensor:
            return back_from(self._answers(across(volume, plane), network, last, *args, **kwargs), plane)

        if len(self.planes) == 1:
            return along(self.planes[0], lambda scores: scores)
        # Of batches, since that of whole volumes would first copy them into another order.
        return log_mean_probabilities(along(plane, lambda scores: scores.softmax(dim=1)) for plane in self.planes)

    def _own_channels(self, volume: Tensor) -> Tensor:
        return own_channels(volume, 0, channel_dim=0, mirrored=self.mirrored)


def answer(network: Callable[..., Any], slices: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """A network's scores (B, classes, H, W), which depend less on B than it does by itself.

    oneDNN sums a lone slice in another order than the slices of a batch: probabilities then differ by up to 2e-5, and
    so by 4e-7. A lone slice is therefore computed twice.
    """
    if len(slices) > 1:
        return cast(Tensor, network(slices, *args, **kwargs))
    return cast(Tensor, network(slices.repeat(2, 1, 1, 1), *args, **kwargs))[:1]


def flip_averaged(network: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A network for slices (B, C, H, W) whose softmax is the mean of the softmax over the slice's four flips."""

    def score(slices: Tensor) -> Tensor:
        return log_mean_probabilities(network(slices.flip(axes)).softmax(dim=1).flip(axes) for axes in FLIPS)

    return score


def log_mean_probabilities(answers: Iterable[Tensor]) -> Tensor:
    """Logarithms of the mean of several class probabilities of one shape."""
    probabilities = list(answers)
    mean = reduce(add, probabilities) / len(probabilities)
    return mean.clamp_min_(torch.finfo(torch.float32).tiny).log_()
