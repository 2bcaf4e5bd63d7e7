"""A window in millimetres is the same part of the head whatever the spacing; slices are stacked one block each."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data import MetaTensor

from transforms.slices import SelectSlicesd, StackSlicesd, brain_window, select_slices, spacing_mm, stack_slices
from transforms.windows import slice_window

STUDY_WINDOW = (60, 135)


def volume_of(spacing: float, depth: int) -> MetaTensor:
    """(1, 2, 3, depth), every voxel the number of its slice."""
    values = torch.arange(depth).expand(1, 2, 3, depth).float()
    return MetaTensor(values, affine=np.diag([-1.0, -1.0, spacing, 1.0]))


@pytest.mark.parametrize(
    ("spacing", "depth", "window"), [(1.0, 155, (60, 135)), (2.0, 78, (30, 68)), (0.5, 310, (120, 270))]
)
def test_the_studys_window_is_75_mm_from_60_mm_up_at_any_spacing(spacing: float, depth: int, window: tuple[int, int]):
    assert slice_window(STUDY_WINDOW, spacing, depth) == window
    chosen = SelectSlicesd(keys="image", slice_range=STUDY_WINDOW)({"image": volume_of(spacing, depth)})["image"]
    assert chosen[0, 0, 0].tolist() == list(range(*window))


def test_the_slices_with_brain_are_those_from_the_first_to_the_last_with_signal_are_kept():
    image = torch.zeros(2, 4, 4, 10)
    image[1, 2, 2, 3], image[0, 1, 1, 7] = -1, 1
    assert brain_window(image) == (3, 8)
    label = torch.arange(10).expand(1, 4, 4, 10)
    chosen = SelectSlicesd(keys=("label", "image"), slice_range=None)({"image": image, "label": label})
    assert chosen["label"][0, 0, 0].tolist() == [3, 4, 5, 6, 7]
    assert torch.equal(chosen["image"], image[..., 3:8])


def test_a_volume_without_signal_keeps_all_its_slices():
    assert brain_window(torch.zeros(2, 4, 4, 10)) == (0, 10)


def test_neighbours_beyond_the_volume_are_zero():
    volume = volume_of(1.0, 5) + 1
    chosen = SelectSlicesd("image", slice_range=(0, 5), neighbours=2)({"image": volume})["image"]
    assert chosen[0, 0, 0].tolist() == [0, 0, 1, 2, 3, 4, 5, 0, 0]


def test_a_window_beyond_the_volume_is_refused_with_the_range_there_is():
    message = "slice range 60 to 135 (in slices of 1 mm) does not fit a volume of 50 slices of 2 mm: "
    with pytest.raises(ValueError, match=re.escape(message + "choose a range within 0 to 100.")):
        slice_window(STUDY_WINDOW, 2.0, 50)


@pytest.mark.parametrize("window", [(-1, 10), (10, 10), (20, 10), (0, 156), (155, 156)])
def test_a_window_that_is_empty_or_leaves_155_slices_is_refused(window: tuple[int, int]):
    with pytest.raises(ValueError, match=r"within 0 to 155\.$"):
        slice_window(window, 1.0, 155)


@given(spacing=st.floats(0.3, 6.0), depth=st.integers(20, 400))
def test_the_range_that_the_refusal_offers_is_accepted(spacing: float, depth: int):
    with pytest.raises(ValueError, match="choose") as refusal:
        slice_window((0, 10_000), spacing, depth)
    highest = int(re.findall(r"\d+", str(refusal.value))[-1])
    assert slice_window((0, highest), spacing, depth)[0] == 0


def test_selecting_keeps_the_first_and_leaves_out_the_end():
    assert select_slices(torch.arange(10).reshape(1, 1, 1, 10), 2, 5).flatten().tolist() == [2, 3, 4]


def test_stacking_makes_every_slice_one_block_of_memory():
    volume = torch.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    stack = stack_slices(volume)
    assert stack.shape == (5, 2, 3, 4) and stack[4].is_contiguous()
    for index in range(5):
        assert torch.equal(stack[index], volume[..., index])


def test_the_dictionary_version_of_stacking_drops_the_metadata():
    stacked = StackSlicesd(keys="image")({"image": volume_of(1.0, 7), "case": "P1"})
    assert type(stacked["image"]) is torch.Tensor
    assert stacked["image"].shape == (7, 1, 2, 3)
    assert stacked["case"] == "P1"


def test_the_spacing_of_a_tilted_volume_is_measured_along_its_slices_axis():
    angle = np.deg2rad(20)
    affine = np.array(
        [
            [-1, 0, 0, 0],
            [0, -np.cos(angle), -3 * np.sin(angle), 0],
            [0, -np.sin(angle), 3 * np.cos(angle), 0],
            [0, 0, 0, 1],
        ]
    )
    assert spacing_mm(MetaTensor(torch.zeros(1, 2, 2, 2), affine=affine)) == pytest.approx(3.0, abs=1e-6)
