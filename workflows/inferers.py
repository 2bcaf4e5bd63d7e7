"""How a network for slices is applied to a volume."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import torch
from monai.inferers import SliceInferer
from torch import Tensor
from torch.nn import functional

from transforms.planes import AXIAL, across, back_from
from transforms.slices import brain_window, own_channels, plain, stack_slices, with_mirror_image, with_neighbours
from workflows.runtimes import TORCH, Scores, described, in_runtime, sees_volumes

FLIPS = ((), (2,), (3,), (2, 3))  # of (B, C, H, W): none, along either axis, along both


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
        brain_only: do not compute the slices below and above the brain. For post-processing with `brain_only`, which
            calls them background whatever their scores.
        runtime: what computes the network, see `workflows.runtimes`.
    """

    def __init__(
        self,
        *args: Any,
        neighbours: int = 0,
        flips: bool = False,
        brain_only: bool = False,
        runtime: str = TORCH,
        **kwargs: Any,
    ) -> None:
        super().__init__(2, *args, **kwargs)
        self.neighbours, self.flips, self.brain_only, self.runtime = neighbours, flips, brain_only, runtime
        self.slices_per_batch = self.sw_batch_size
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
        self.sw_batch_size = inputs.shape[-1] if sees_volumes(network) else self.slices_per_batch
        volume = with_neighbours(inputs, self.neighbours) if self.neighbours else inputs
        network = self._in_runtime(network, volume)
        network = flip_averaged(network) if self.flips else network
        if not self.brain_only:
            return super().__call__(volume, network, *args, **kwargs)
        first, end = brain_window(self._own_channels(inputs).flatten(0, 1))
        scores = cast(Tensor, super().__call__(volume[..., first:end], network, *args, **kwargs))
        return functional.pad(scores, (first, inputs.shape[-1] - end))

    def _own_channels(self, inputs: Tensor) -> Tensor:
        """What of the input shows the slices themselves."""
        return inputs

    def _in_runtime(self, network: Any, volume: Tensor) -> Scores:
        """The network in `runtime`, built for the first volume that it meets from slices of its middle."""
        if self.runtime == TORCH:
            return cast(Scores, network)
        if self._built is None or self._built[0] is not network:
            middle = volume.shape[-1] // 2
            slices = stack_slices(plain(volume)[0, ..., max(0, middle - 1) : middle + 2])
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

        volume = with_mirror_image(inputs) if self.mirrored else inputs

        def scores(plane: str) -> Tensor:
            along = super(PlanesInferer, self).__call__(across(volume, plane), network, *args, **kwargs)
            return back_from(cast(Tensor, along), plane)

        if len(self.planes) == 1:
            return scores(self.planes[0])
        return log_mean_probabilities(scores(plane).softmax(dim=1) for plane in self.planes)

    def _own_channels(self, inputs: Tensor) -> Tensor:
        return own_channels(inputs, 0, mirrored=self.mirrored)


def flip_averaged(network: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A network for slices (B, C, H, W) whose softmax is the mean of the softmax over the slice's four flips."""

    def score(slices: Tensor) -> Tensor:
        return log_mean_probabilities(network(slices.flip(axes)).softmax(dim=1).flip(axes) for axes in FLIPS)

    return score


def log_mean_probabilities(answers: Iterable[Tensor]) -> Tensor:
    """Logarithms of the mean of several class probabilities of one shape."""
    return torch.stack(list(answers)).mean(dim=0).clamp_min(torch.finfo(torch.float32).tiny).log()
