"""How a network for slices is applied to a volume."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import reduce
from operator import add
from typing import Any, cast

import torch
from monai.inferers import Inferer
from torch import Tensor

from transforms.inputs import Input, shown_itself
from transforms.planes import across, back_from
from transforms.slices import brain_window, plain, stack_slices, with_mirror_image, with_neighbours
from workflows.prediction.runtimes import TORCH, Scores, described, in_runtime, sees_volumes

FEWEST_TO_LOOK_AGAIN = 10
"""Pixels of a slice, in the default's cube 23 mm². Fewer are mostly false alarms; every brain has some."""
FLIPS = ((), (2,), (3,), (2, 3))  # of (B, C, H, W): none, along either axis, along both


class PlanesInferer(Inferer):
    """Gives a network the slices of a volume in batches, along each plane of its input, and joins its answers.

    A voxel's class probabilities are the mean over the planes in which its slice was computed. MONAI's `SliceInferer`
    weighs, adds up and counts every pixel as it does for windows that overlap, which slices do not.

    A `SlabNetwork` is given the patient's whole stack in one piece, whatever `slices_per_batch` says.

    Args:
        input: whose preprocessing gives the volumes; the cost grows with its planes.
        look_again_from: in the planes after the first only slices are computed in which the first gave at least
            `FEWEST_TO_LOOK_AGAIN` pixels this probability of tumour or more; 0 has all computed. What the first does
            not see at all the others cannot find then.
        flips: average the class probabilities over the slice as it is and flipped along either axis and both; the
            cost is fourfold.
        brain_only: do not compute the slices below and above the brain. For post-processing with `brain_only`, which
            calls them background whatever their scores.
        runtime: what computes the network, see `workflows.prediction.runtimes`.
    """

    def __init__(
        self,
        input: Input,
        slices_per_batch: int = 1,
        look_again_from: float = 0.0,
        flips: bool = False,
        brain_only: bool = False,
        runtime: str = TORCH,
    ) -> None:
        self.input, self.slices_per_batch, self.look_again_from = input, slices_per_batch, look_again_from
        self.flips, self.brain_only, self.runtime = flips, brain_only, runtime
        self.computed_in = TORCH
        self._built: tuple[Any, Scores] | None = None

    def __call__(self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Scores of the classes.

        Args:
            inputs: (B, C, H, W, D), zero outside the brain.
        Returns:
            (B, classes, H, W, D) logits; with several planes or `flips` the logarithms of the averaged probabilities.
            With `brain_only` and one plane, slices without brain at either end are zero.
        """
        volumes = with_mirror_image(plain(inputs)) if self.input.mirrored else plain(inputs)
        volumes = with_neighbours(volumes, self.input.neighbours) if self.input.neighbours else volumes
        # A network for slabs is given all slices, for it looks at neighbours.
        whole = sees_volumes(network)
        together = volumes.shape[-1] if whole else self.slices_per_batch
        look_again_from = 0.0 if whole else self.look_again_from
        computed = self._in_runtime(network, volumes)
        computed = flip_averaged(computed) if self.flips else computed

        def scores(slices: Tensor) -> Tensor:
            return answer(computed, slices, *args, **kwargs).to(volumes.dtype)

        if len(self.input.planes) > 1:
            return in_one([self._log_mean(volume, scores, together, look_again_from) for volume in volumes])
        (plane,) = self.input.planes
        along = across(volumes, plane)
        joined = [self._joined(v, self._batches(v, self._places_to_compute(v), scores, together)) for v in along]
        return back_from(in_one(joined), plane)

    def _places_to_compute(self, volume: Tensor) -> Sequence[int]:
        """The places along D of the slices of (C, H, W, D) that are to be computed."""
        if not self.brain_only:
            return range(volume.shape[-1])
        return range(*brain_window(shown_itself(self.input, volume, channel_dim=0)))

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

    def _log_mean(self, volume: Tensor, scores: Scores, together: int, look_again_from: float) -> Tensor:
        """(C, H, W, D) → (classes, H, W, D). Slices are added up where they lie, for which a whole volume would have
        to be copied into another order; torch reaches them one by one in half the time of several by their places.
        """
        total: Tensor | None = None
        plausible: Tensor | None = None
        answers = torch.zeros(volume.shape[1:], dtype=torch.uint8, device=volume.device)
        for plane in self.input.planes:
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
