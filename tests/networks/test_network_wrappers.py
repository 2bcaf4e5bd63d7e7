"""Networks around a network: what the one inside sees, and where its scores go."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from networks.packed import PackedUNet


def test_a_network_on_blocks_sees_their_pixels_as_channels_and_every_score_returns_to_its_pixel():
    slices = torch.arange(64.0 * 64).reshape(1, 1, 64, 64)

    class Seen(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            assert x.shape == (1, 4, 32, 32)
            assert x[0, :, 0, 0].tolist() == [0, 1, 64, 65]
            return x

    network = PackedUNet(1, 1)
    network.network = Seen()
    assert torch.equal(network(slices), slices)


def test_a_packed_network_scores_every_pixel():
    with torch.no_grad():
        assert PackedUNet(2, 4, width=4).eval()(torch.zeros(1, 2, 96, 64)).shape == (1, 4, 96, 64)


@pytest.mark.parametrize(("height", "width"), [(62, 64), (64, 65)])
def test_slices_too_small_or_not_of_whole_blocks_are_refused(height: int, width: int):
    with pytest.raises(ValueError, match=f"slices of {height}×{width} pixels; it takes multiples of 2 from 64 on"):
        PackedUNet(2, 4, width=4)(torch.zeros(1, 2, height, width))
