"""A 3D network for slices: what it is given in training and in prediction, and what comes back."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from networks.slabs import SlabNetwork
from tests.support import REPOSITORY
from transforms.inputs import AxialWindow
from workflows.prediction.inferers import PlanesInferer


class Recorded(nn.Module):
    """Remembers the volumes that it is given, and answers with them."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, volume: Tensor) -> Tensor:
        self.seen.append(volume.clone())
        return volume.clone()


class Tally(nn.Module):
    """Answers with the number of slices in the volume, in every voxel."""

    def forward(self, volume: Tensor) -> Tensor:
        return torch.full_like(volume, volume.shape[-1])


def numbered(slices: int) -> Tensor:
    """(slices, 2, 4, 4), every slice filled with its number, counted from 1."""
    return torch.arange(1.0, slices + 1).reshape(-1, 1, 1, 1).expand(slices, 2, 4, 4).contiguous()


def test_a_training_batch_of_two_slabs_is_two_volumes_with_the_slices_along_the_last_axis():
    network = SlabNetwork(Recorded(), slab=3).train()
    answer = network(numbered(6))
    assert torch.equal(answer, numbered(6))
    (volumes,) = network.network.seen
    assert volumes.shape == (2, 2, 4, 4, 3)
    assert volumes[:, 0, 0, 0].tolist() == [[1, 2, 3], [4, 5, 6]]


def test_a_training_batch_that_is_no_whole_number_of_slabs_is_refused():
    with pytest.raises(ValueError, match="7 slices do not divide into slabs of 3"):
        SlabNetwork(Recorded(), slab=3).train()(numbered(7))


def test_a_whole_stack_is_scored_in_slabs_that_overlap_by_half():
    network = SlabNetwork(Recorded(), slab=4).eval()
    assert torch.equal(network(numbered(9)), numbered(9))
    seen = [volume[0, 0, 0, 0].tolist() for volume in network.network.seen]
    assert seen == [[1, 2, 3, 4], [3, 4, 5, 6], [5, 6, 7, 8], [6, 7, 8, 9]]


def test_the_scores_of_overlapping_slabs_are_averaged():
    class FirstSlice(nn.Module):
        def forward(self, volume: Tensor) -> Tensor:
            return volume[..., :1].repeat(1, 1, 1, 1, 4)  # every slab is scored with the number of its lowest slice

    scores = SlabNetwork(FirstSlice(), slab=4).eval()(numbered(6))
    assert scores[:, 0, 0, 0].tolist() == [1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize("slices", [1, 3, 4])
def test_a_stack_shorter_than_a_slab_is_filled_up_and_cut_again(slices: int):
    network = SlabNetwork(Recorded(), slab=4).eval()
    assert torch.equal(network(numbered(slices)), numbered(slices))
    (volume,) = network.network.seen
    assert volume[0, 0, 0, 0].tolist() == [*range(1, slices + 1), *[0] * (4 - slices)]


@pytest.mark.parametrize("slices_per_batch", [1, 4, 100])
@pytest.mark.parametrize("flips", [False, True])
def test_the_inferer_gives_it_whole_stacks_whatever_its_batches_are(slices_per_batch: int, flips: bool):
    volume = torch.rand(2, 3, 8, 8, 11, generator=torch.Generator().manual_seed(0))
    network = SlabNetwork(Recorded(), slab=16).eval()
    inferer = PlanesInferer(AxialWindow(), slices_per_batch=slices_per_batch, flips=flips)
    scores = inferer(volume, network)
    assert len(network.network.seen) == (8 if flips else 2)  # two patients
    assert all(seen.shape == (1, 3, 8, 8, 16) for seen in network.network.seen)
    torch.testing.assert_close(scores.softmax(1), volume.softmax(1))
    assert torch.equal(network.network.seen[0][0, ..., :11], volume[0])


def test_after_a_slab_network_the_inferer_batches_slices_as_before():
    volume, sizes = torch.zeros(1, 1, 4, 4, 6), []
    inferer = PlanesInferer(AxialWindow(), slices_per_batch=3)
    inferer(volume, SlabNetwork(Tally(), slab=4).eval())

    def network(slices: Tensor) -> Tensor:
        sizes.append(len(slices))
        return slices

    inferer(volume, network)
    assert sizes == [3, 3]


def unet3d(features: list[int]) -> SlabNetwork:
    """The bundle's, with other widths."""
    from monai.bundle import ConfigParser

    overlay: dict[str, Any] = json.loads((REPOSITORY / "bundle" / "configs" / "unet3d.json").read_text())
    definition = overlay["network_def"]
    definition["network"]["features"] = features
    parser = ConfigParser({"in_channels": 2, "network_def": definition})
    return parser.get_parsed_content("network_def")


def test_a_slice_of_the_bundles_3d_unet_is_scored_with_its_neighbours():
    torch.manual_seed(0)
    network = unet3d([2, 2, 2, 2, 2, 2])
    stack = torch.rand(64, 2, 16, 16)
    changed = stack.clone()
    changed[21] += 1
    for mode in (network.train(), network.eval()):
        with torch.no_grad():
            before, after = mode(stack), mode(changed)
        assert before.shape == (64, 4, 16, 16)
        assert not torch.equal(before[20], after[20])  # the slice below the changed one
    with torch.no_grad():
        assert torch.equal(network.train()(stack)[32:], network(changed)[32:])  # the other slab
