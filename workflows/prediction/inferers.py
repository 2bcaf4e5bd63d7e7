"""How a network for slices is applied to a volume."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import reduce
from operator import add
from typing import Any, cast

import torch
from monai.inferers import Inferer
from torch import Tensor

from transforms.inputs import Input
from transforms.planes import AXIAL, across, back_from
from transforms.slices import brain_window, own_channels, plain, stack_slices, with_mirror_image, with_neighbours
from workflows.prediction.runtimes import TORCH, Scores, described, in_runtime, sees_volumes

FEWEST_TO_LOOK_AGAIN = 10
"""Pixels of a slice, in the default's cube 23 mm². Fewer are mostly false alarms; every brain has some."""
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
        runtime: what computes the network, see `workflows.prediction.runtimes`.
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
        return in_one(
            [self._joined(v, self._batches(v, self._places_to_compute(v), scores, together)) for v in volumes]
        )

    def _together(self, network: Callable[..., Any], volumes: Tensor) -> int:
        """How many slices are a batch."""
        return volumes.shape[-1] if sees_volumes(network) else self.slices_per_batch

    def _scores(self, network: Callable[..., Any], volumes: Tensor, *args: Any, **kwargs: Any) -> Scores:
        """What gives the scores of slices (B, C, H, W) of these volumes."""
        computed = self._in_runtime(network, volumes)
        computed = flip_averaged(computed) if self.flips else computed
        return lambda slices: answer(computed, slices, *args, **kwargs).to(volumes.dtype)

    def _places_to_compute(self, volume: Tensor) -> Sequence[int]:
        """The places along D of the slices of (C, H, W, D) that are to be computed."""
        return range(*brain_window(self._own_channels(volume))) if self.brain_only else range(volume.shape[-1])

    @staticmethod
    def _batches(
        volume: Tensor, places: Sequence[int], scores: Scores, together: int
    ) -> Iterator[tuple[Sequence[int], Tensor]]:
        """(C, H, W, D) batch by batch: its slices' places along D and their scores (B, classes, H, W)."""
        slices = volume.movedim(-1, 0)
        for start in range(0, len(places), together):
            of_batch = places[start : start + together]
            yield of_batch, scores(torch.stack([slices[place] for place in of_batch]))

    @staticmethod
    def _joined(volume: Tensor, batches: Iterable[tuple[Sequence[int], Tensor]]) -> Tensor:
        """(classes, H, W, D), zero where there is no batch."""
        whole: Tensor | None = None
        for places, scores in batches:
            if whole is None:
                whole = scores.new_zeros(volume.shape[-1], *scores.shape[1:])
            for place, of_slice in zip(places, scores, strict=True):
                whole[place] = of_slice
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

    A voxel's probabilities are the mean over the planes in which its slice was computed.

    Args:
        planes: see `transforms.planes`; the cost grows with their number.
        mirrored: the network reads the volume's mirror image too, see `with_mirror_image`.
        look_again_from: in the planes after the first only slices are computed in which the first gave at least
            `FEWEST_TO_LOOK_AGAIN` pixels this probability of tumour or more; 0 has all computed. What the first does
            not see at all the others cannot find then.
    """

    def __init__(
        self,
        *args: Any,
        planes: Sequence[str] = (AXIAL,),
        mirrored: bool = False,
        look_again_from: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.planes, self.mirrored, self.look_again_from = planes, mirrored, look_again_from
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
        # A network for slabs is given all slices, for it looks at neighbours.
        look_again_from = 0.0 if sees_volumes(network) else self.look_again_from
        return in_one([self._log_mean(volume, scores, together, look_again_from) for volume in volumes])

    def _log_mean(self, volume: Tensor, scores: Scores, together: int, look_again_from: float) -> Tensor:
        """(C, H, W, D) → (classes, H, W, D). Slices are added up where they lie, for which a whole volume would have
        to be copied into another order; torch reaches them one by one in half the time of several by their places.
        """
        total: Tensor | None = None
        plausible: Tensor | None = None
        answers = torch.zeros(volume.shape[1:], dtype=torch.uint8, device=volume.device)
        for plane in self.planes:
            along = across(volume, plane)
            places = self._places_to_compute(along)
            if plausible is not None:
                places = worth_another_look(across(plausible, plane), places)
            for of_batch, batch in self._batches(along, places, scores, together):
                if total is None:
                    total = batch.new_zeros(batch.shape[1], *volume.shape[1:])
                for place, probabilities in zip(of_batch, batch.softmax(dim=1), strict=True):
                    across(total, plane)[..., place] += probabilities
            across(answers, plane)[..., places] += 1
            if plausible is None and look_again_from:
                plausible = cast(Tensor, total)[1:].sum(dim=0) >= look_again_from
        return as_logits(cast(Tensor, total).div_(answers.clamp_min_(1)))

    def _own_channels(self, volume: Tensor) -> Tensor:
        return own_channels(volume, 0, channel_dim=0, mirrored=self.mirrored)


def inferer_for(input: Input, **options: Any) -> PlanesInferer:
    """What applies a network to the volumes that its input's preprocessing gives.

    Args:
        options: those of `PlanesInferer` that do not follow from the input.
    """
    return PlanesInferer(neighbours=input.neighbours, planes=input.planes, mirrored=input.mirrored, **options)


def worth_another_look(plausible: Tensor, places: Iterable[int]) -> list[int]:
    """Those places along D at which a slice of (H, W, D) has at least `FEWEST_TO_LOOK_AGAIN` pixels."""
    enough = (plausible.flatten(0, 1).sum(dim=0) >= FEWEST_TO_LOOK_AGAIN).tolist()
    return [place for place in places if enough[place]]


def in_one(volumes: Sequence[Tensor]) -> Tensor:
    """(C, H, W, D) each → (B, C, H, W, D); a lone one is not copied."""
    return torch.stack(list(volumes)) if len(volumes) > 1 else volumes[0][None]


def answer(network: Callable[..., Any], slices: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """A network's scores (B, classes, H, W), which depend less on B than those of the network alone.

    oneDNN sums a lone slice in another order than the slices of a batch: probabilities then differ by up to 2e-5,
    computed as here by 4e-7. A lone slice is therefore computed twice.
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
