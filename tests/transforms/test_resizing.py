"""Volumes go to the network's grid exactly as MONAI resizes them, and come back within two rounding errors of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Resized

from transforms.resizing import ResizedVolumed

AFFINE = np.array([[-1.0, 0, 0, 90], [0, -1.2, 0, 80], [0, 0, 2, -70], [0, 0, 0, 1]])


def volume(*shape: int) -> MetaTensor:
    return MetaTensor(torch.rand(shape, generator=torch.Generator().manual_seed(0)), affine=AFFINE)


@pytest.mark.parametrize("size", [(16, 16, -1), (24, 24, -1), (40, 40, -1), (16, 16, 16), (40, 40, 40), (24, 30, 9)])
def test_there_and_back_is_what_monai_gives(size: tuple[int, ...]):
    ours, theirs = ResizedVolumed("image", size), Resized("image", size, mode="trilinear")
    found, expected = (chain({"image": volume(2, 24, 30, 7)}) for chain in (ours, theirs))
    assert torch.equal(found["image"].as_tensor(), expected["image"].as_tensor())
    back, wanted = ours.inverse(found)["image"], theirs.inverse(expected)["image"]
    assert back.shape == (2, 24, 30, 7)
    assert (back.as_tensor() - wanted.as_tensor()).abs().max() < 5e-7
    assert torch.equal(back.affine, wanted.affine)
    assert back.meta["affine"].dtype == wanted.meta["affine"].dtype
    assert back.applied_operations == wanted.applied_operations == []


def test_a_volume_that_has_the_size_already_is_left_as_it_is():
    chain = ResizedVolumed("image", (24, 24, -1))
    there = chain({"image": volume(1, 24, 24, 5)})
    assert torch.equal(chain.inverse(there)["image"].as_tensor(), volume(1, 24, 24, 5).as_tensor())
