"""How a network for slices is applied to a volume."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
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
        volumes = plain(inputs)
        volumes = with_neighbours(volumes, self.neighbours) if self.neighbours else volumes
        together = self._together(network, volumes)
        scores = self._scores(network, volumes, *args, **kwargs)
        return in_one([self._joined(volume, self._batches(volume, scores, together)) for volume in volumes])

    def _together(self, network: Callable[..., Any], volumes: Tensor) -> int:
        """How many slices are a batch."""
        return volumes.shape[-1] if sees_volumes(network) else self.slices_per_batch

    def _scores(self, network: Callable[..., Any], volumes: Tensor, *args: Any, **kwargs: Any) -> Scores:
        """What gives the scores of slices (B, C, H, W) of these volumes."""
        computed = self._in_runtime(network, volumes)
        computed = flip_averaged(computed) if self.flips else computed
        return lambda slices: answer(computed, slices, *args, **kwargs).to(volumes.dtype)

    def _batches(self, volume: Tensor, scores: Scores, together: int) -> Iterator[tuple[slice, Tensor]]:
        """(C, H, W, D) batch by batch: the batch's place along D and its scores (B, classes, H, W)."""
        first, end = brain_window(self._own_channels(volume)) if self.brain_only else (0, volume.shape[-1])
        slices = volume.movedim(-1, 0)
        for start in range(first, end, together):
            place = slice(start, min(start + together, end))
            yield place, scores(slices[place])

    @staticmethod
    def _joined(volume: Tensor, batches: Iterable[tuple[slice, Tensor]]) -> Tensor:
        """(classes, H, W, D), zero where there is no batch."""
        whole: Tensor | None = None
        for place, scores in batches:
            if whole is None:
                whole = scores.new_zeros(volume.shape[-1], *scores.shape[1:])
            whole[place] = scores
        return cast(Tensor, whole).movedim(0, -1)

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
        if self.neighbours and len(planes) > 1:
            raise ValueError("neighbouring slices are those of one plane; leave out neighbours or the other planes.")

    def __call__(self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """As `AxialInferer`; of several planes the logarithms of the averaged probabilities."""
        volumes = with_mirror_image(plain(inputs)) if self.mirrored else plain(inputs)
        if len(self.planes) == 1:
            (plane,) = self.planes
            return back_from(super().__call__(across(volumes, plane), network, *args, **kwargs), plane)
        together = self._together(network, volumes)
        scores = self._scores(network, volumes, *args, **kwargs)
        return in_one([self._log_mean(volume, scores, together) for volume in volumes])

    def _log_mean(self, volume: Tensor, scores: Scores, together: int) -> Tensor:
        """(C, H, W, D) → (classes, H, W, D). Batches are added up where they lie, for which a whole volume would have
        to be copied into another order."""
        total: Tensor | None = None
        for plane in self.planes:
            for place, of_batch in self._batches(across(volume, plane), scores, together):
                if total is None:
                    total = of_batch.new_zeros(of_batch.shape[1], *volume.shape[1:])
                across(total, plane).movedim(-1, 0)[place] += of_batch.softmax(dim=1)
        return as_logits(cast(Tensor, total).div_(len(self.planes)))

    def _own_channels(self, volume: Tensor) -> Tensor:
        return own_channels(volume, 0, channel_dim=0, mirrored=self.mirrored)


def in_one(volumes: Sequence[Tensor]) -> Tensor:
    """(C, H, W, D) each → (B, C, H, W, D); a lone one is not copied."""
    return torch.stack(list(volumes)) if len(volumes) > 1 else volumes[0][None]


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
    return as_logits(reduce(add, probabilities) / len(probabilities))


def as_logits(probabilities: Tensor) -> Tensor:
    """Their logarithms, in place; zero becomes the least that float32 knows."""
    return probabilities.clamp_min_(torch.finfo(torch.float32).tiny).log_()
