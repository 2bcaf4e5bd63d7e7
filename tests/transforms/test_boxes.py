"""The box around what a volume shows is the one that MONAI finds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.transforms import generate_spatial_bounding_box

from transforms.boxes import any_signal, box_around, corners, widened


def test_any_channel_is_signal_a_negative_value_too():
    image = torch.zeros(3, 2, 2, 2)
    image[0, 0, 0, 0], image[2, 1, 1, 1] = -1, 1
    assert any_signal(image).nonzero().tolist() == [[0, 0, 0], [1, 1, 1]]


@pytest.mark.parametrize("density", [0.001, 0.01, 0.5])
def test_the_box_is_that_of_monai_whatever_the_order_in_memory(density: float):
    random = torch.Generator().manual_seed(0)
    for _ in range(20):
        mask = torch.rand(7, 9, 11, generator=random) < density
        for turned in (mask, mask.permute(2, 0, 1)):
            expected = generate_spatial_bounding_box(turned[None])
            np.testing.assert_array_equal(corners(box_around(turned)), expected)


def test_nothing_shown_is_a_box_without_voxels():
    box = box_around(torch.zeros(3, 4, 5, dtype=torch.bool))
    np.testing.assert_array_equal(corners(box), np.zeros((2, 3)))
    assert torch.zeros(3, 4, 5)[box].numel() == 0


def test_a_box_is_widened_as_far_as_the_volume_goes():
    assert widened((slice(2, 4), slice(0, 1), slice(5, 9)), 3, (5, 9, 10)) == (slice(0, 5), slice(0, 4), slice(2, 10))
