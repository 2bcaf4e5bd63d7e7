"""Noise around a stripped brain and broken voxels are no brain; beside a background of one value all else is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy import ndimage

from tests.support import LPS, Head
from transforms.background import Background, find_background
from transforms.inputs import BrainCube, Input
from transforms.intensity import UNUSUAL
from transforms.pipelines import preprocessing

RNG = np.random.default_rng(0)


def z_scored_in_brain(voxels: np.ndarray) -> np.ndarray:
    brain = voxels[voxels != 0]
    return np.where(voxels != 0, (voxels - brain.mean()) / brain.std(), 0)


def around(sigma: float, level: float = 0) -> Callable[[np.ndarray], np.ndarray]:
    return lambda voxels: np.where(voxels == 0, level + RNG.normal(0, sigma, voxels.shape), voxels)


def in_a_rim(sigma: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(voxels: np.ndarray) -> np.ndarray:
        rim = ndimage.binary_dilation(voxels != 0, iterations=4) & (voxels == 0)
        return np.where(rim, RNG.normal(0, sigma, voxels.shape), voxels)

    return change


def broken(value: float, count: int) -> Callable[[np.ndarray], np.ndarray]:
    def change(voxels: np.ndarray) -> np.ndarray:
        changed = voxels.astype(np.float32)
        changed[tuple(RNG.integers(10, 30, (3, count)))] = value
        changed[0, 0, 0] = value  # far from the brain, which would widen its box
        return changed

    return change


def padded(voxels: np.ndarray) -> np.ndarray:
    corners = np.zeros(voxels.shape, bool)
    corners[:8, :8], corners[-8:, -8:] = True, True
    return np.where(corners & (voxels == 0), -1024, voxels)


ONE_VALUE: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "as published": lambda voxels: voxels,
    "in float": lambda voxels: voxels.astype(np.float32) / 7,
    "negative": lambda voxels: np.where(voxels == 0, -5, voxels),
    "air at -1024": lambda voxels: np.where(voxels == 0, -1024, voxels),
    "z-scored": lambda voxels: (voxels - voxels.mean()) / voxels.std(),
    "z-scored within the brain": z_scored_in_brain,
}
DISTURBED: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "ringing of 0.001": around(1e-3),
    "ringing of 5, 1.5 %": around(5),
    "integer noise of 1": lambda voxels: np.rint(around(1)(voxels)).astype(np.int16),
    "ringing at -1024": around(1e-3, -1024),
    "ringing beside the brain alone": in_a_rim(0.3),
    "ringing around z-scores": lambda voxels: np.where(
        voxels == 0, RNG.normal(0, 1e-3, voxels.shape), z_scored_in_brain(voxels)
    ),
    "one broken voxel": broken(1e9, 1),
    "broken voxels": broken(1e5, 20),
    "negative broken voxels": broken(-1e9, 20),
    "padding of -1024": padded,
}


@pytest.mark.parametrize("name", ONE_VALUE)
def test_beside_a_background_of_one_value_every_other_value_is_brain(name: str, head: Head):
    voxels = ONE_VALUE[name](head["flair"])
    background = find_background(voxels)
    assert background == Background(float(voxels[0, 0, 0]))
    np.testing.assert_array_equal(background.brain_in(voxels), voxels != voxels[0, 0, 0])
    assert background.in_words(voxels) == []


@pytest.mark.parametrize("name", DISTURBED)
def test_what_is_no_brain_is_told_from_it_and_said(name: str, head: Head):
    voxels = DISTURBED[name](head["flair"])
    background = find_background(voxels)
    differs = background.brain_in(voxels) != (head["flair"] != 0)
    assert np.count_nonzero(differs) <= 0.002 * np.count_nonzero(head["flair"])
    assert len(background.in_words(voxels)) == 1


def test_words_give_the_number_of_broken_voxels_and_the_worst_of_them(head: Head):
    voxels = head["flair"].astype(np.float32)
    voxels[20, 20, 20], voxels[0, 0, 0] = 1e9, 1e6
    (words,) = find_background(voxels).in_words(voxels)
    assert words == "1e+09 is far beyond its intensities; 2 such voxels are taken for background"


def z_scored_cube_as_before(image: np.ndarray, edge_mm: int) -> torch.Tensor:
    """What was preprocessed before there was `find_background`, in plain words: the median of the faces is background.

    Args:
        image: (C, H, W, D) float32, of voxels of 1 mm.
    """
    faces = [image.take(end, axis).reshape(len(image), -1) for axis in (1, 2, 3) for end in (0, -1)]
    image = image - np.median(np.concatenate(faces, axis=1), axis=1).reshape(-1, 1, 1, 1)
    for channel in image:
        brain = channel[channel != 0].astype(np.float64)
        channel[channel != 0] = (channel[channel != 0] - float(brain.mean())) / float(brain.std())
    places = np.argwhere((image != 0).any(axis=0))
    first = (places.min(axis=0) + places.max(axis=0) + 1 - edge_mm) // 2
    filled = np.pad(np.clip(image, -5, 5), ((0, 0), *((edge_mm, edge_mm),) * 3))
    cube = filled[:, *(slice(start + edge_mm, start + 2 * edge_mm) for start in first)]
    return torch.nn.functional.interpolate(torch.from_numpy(cube)[None], (32, 32, 32), mode="trilinear")[0].half()


@pytest.mark.parametrize("name", ONE_VALUE)
def test_ordinary_scans_are_preprocessed_as_before_to_the_last_bit(name: str, phantom_cases: list[dict[str, Any]]):
    flair, t1ce = (np.asarray(nib.load(file).dataobj)[::2, ::2, ::2] for file in phantom_cases[0]["image"])
    image = np.stack([ONE_VALUE[name](flair), t1ce]).astype(np.float32)
    seen = preprocessed(image, BrainCube(edge_mm=70, size_px=32))
    assert torch.equal(seen["image"].half().as_tensor(), z_scored_cube_as_before(image, 70))
    assert not seen[UNUSUAL]


@pytest.mark.parametrize("name", DISTURBED)
def test_a_disturbed_scan_is_preprocessed_as_the_sound_one_and_named(name: str, head: Head):
    cube = BrainCube(edge_mm=40, size_px=40)
    true, seen = (
        preprocessed(np.stack([flair, head["t1ce"]]), cube) for flair in (head["flair"], DISTURBED[name](head["flair"]))
    )
    assert (true["image"] - seen["image"]).abs().mean() < 0.005
    assert seen[UNUSUAL].startswith("FLAIR: ") and "T1ce" not in seen[UNUSUAL]
    assert not true[UNUSUAL]


def preprocessed(image: np.ndarray, input: Input) -> dict[str, Any]:
    """`preprocessing` of an image (C, H, W, D) of voxels of 1 mm as if it had been read."""
    sample: dict[str, Any] = {"image": MetaTensor(torch.tensor(image.astype(np.float32)), affine=LPS)}
    for step in preprocessing(input).flatten().transforms[3:]:
        sample = step(sample)
    return sample
