"""Networks around a network: what the one inside sees, and where its scores go."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from networks.mirrored import MirroredInput
from networks.packed import PackedUNet


def test_a_mirrored_network_sees_the_other_hemisphere_at_the_same_pixel():
    slices = torch.arange(2 * 2 * 3 * 4).reshape(2, 2, 3, 4).float()
    seen = MirroredInput(nn.Identity())(slices)
    assert seen.shape == (2, 4, 3, 4)
    assert torch.equal(seen[:, :2], slices)
    assert seen[1, 3, 2].tolist() == slices[1, 1, 2].tolist()[::-1]


def test_a_network_on_blocks_sees_their_pixels_as_channels_and_every_score_returns_to_its_pixel():
    slices = torch.arange(16.0).reshape(1, 1, 4, 4)

    class Seen(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            assert x.shape == (1, 4, 2, 2)
            assert x[0, :, 0, 0].tolist() == [0, 1, 4, 5]
            return x

    network = PackedUNet(1, 1)
    network.network = Seen()
    assert torch.equal(network(slices), slices)


def test_a_packed_network_scores_every_pixel():
    with torch.no_grad():
        assert PackedUNet(2, 4, width=4).eval()(torch.zeros(1, 2, 64, 32)).shape == (1, 4, 64, 32)
