"""Intensities: the background is found and stays zero, the study's division, changes of the brain alone."""

from __future__ import annotations

import numpy as np
import torch
from monai.data import MetaTensor

from transforms.intensity import (
    ClampIntensityd,
    DivideByWindowMaximumd,
    RandGainOffsetd,
    ZeroBackgroundd,
    ZScoreInBraind,
)


def box(background: tuple[float, float], brain: tuple[float, float], spacing: float = 1.0) -> MetaTensor:
    """(2, 10, 10, 12): a brain of 4×4×12 voxels that reaches the lowest and the highest slice."""
    values = torch.tensor(background).reshape(2, 1, 1, 1).expand(2, 10, 10, 12).clone()
    values[:, 3:7, 3:7] = torch.tensor(brain).reshape(2, 1, 1, 1)
    return MetaTensor(values, affine=np.diag([-1.0, -1.0, spacing, 1.0]))


def test_a_background_of_minus_three_quarters_is_shifted_to_zero_and_the_brain_with_it():
    shifted = ZeroBackgroundd(keys="image")({"image": box((-0.75, 0.0), (1.0, 9.0))})["image"]
    assert (shifted[0, 0] == 0).all() and (shifted[0, 3:7, 3:7] == 1.75).all()
    assert (shifted[1, 3:7, 3:7] == 9).all()


def test_a_scan_with_zero_background_is_handed_on_as_it_is():
    image = box((0.0, 0.0), (1.0, 9.0))
    assert ZeroBackgroundd(keys="image")({"image": image})["image"] is image


def test_all_modalities_are_divided_by_the_one_maximum_of_the_window():
    image = box((0.0, 0.0), (2.0, 8.0))
    image[0, 4, 4, 11] = 40.0  # brighter, but above the window
    divided = DivideByWindowMaximumd(keys="image", slice_range=(2, 9))({"image": image})["image"]
    assert divided[0, 4, 4, 5] == 0.25 and divided[1, 4, 4, 5] == 1.0
    assert divided[0, 4, 4, 11] == 5.0


def test_the_window_of_the_division_counts_millimetres():
    image = box((0.0, 0.0), (2.0, 8.0), spacing=2.0)
    image[0, 4, 4, 8] = 16.0  # 16 to 18 mm up
    inside = DivideByWindowMaximumd(keys="image", slice_range=(10, 18))({"image": image})["image"]
    below = DivideByWindowMaximumd(keys="image", slice_range=(0, 16))({"image": image})["image"]
    assert inside.max() == 1.0
    assert below.max() == 2.0


def test_a_window_without_signal_is_left_as_it_is():
    image = box((0.0, 0.0), (0.0, 0.0))
    assert DivideByWindowMaximumd(keys="image", slice_range=(0, 5))({"image": image})["image"] is image


def batch_of_ones() -> torch.Tensor:
    """(6, 2, 8, 8): the left half background, the right half 1."""
    batch = torch.zeros(6, 2, 8, 8)
    batch[..., 4:] = 1.0
    return batch


def test_the_brain_of_each_modality_has_mean_0_and_standard_deviation_1_and_the_background_stays_zero():
    brain = torch.tensor([[1.0, 3.0, 5.0], [10.0, 10.0, 40.0]])
    image = torch.zeros(2, 2, 3, 2)
    image[:, 0, :, 0] = brain
    scores = ZScoreInBraind(keys="image")({"image": image.clone()})["image"]
    expected = np.array([[-(1.5**0.5), 0, 1.5**0.5], [-(0.5**0.5), -(0.5**0.5), 2**0.5]])
    np.testing.assert_allclose(scores[:, 0, :, 0], expected, rtol=1e-6)
    assert (scores[image == 0] == 0).all()


def test_z_scores_are_the_same_to_the_last_bit_in_one_thread_and_in_four():
    image = torch.rand(1, 60, 60, 60, generator=torch.Generator().manual_seed(0)) * 300
    threads = torch.get_num_threads()
    try:
        scores = []
        for count in (1, 4):
            torch.set_num_threads(count)
            scores.append(ZScoreInBraind(keys="image")({"image": image.clone()})["image"])
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*scores)


def test_gain_and_offset_leave_the_background_zero():
    changed = RandGainOffsetd("image", gain_range=0.2, offset_range=0.1).set_random_state(1)
    image = changed({"image": batch_of_ones()})["image"]
    assert not image[..., :4].any()
    assert (image[..., 4:] != 1).all()


def test_gain_and_offset_differ_between_slices_and_modalities_and_are_one_number_within():
    transform = RandGainOffsetd("image", gain_range=0.2, offset_range=0.0).set_random_state(1)
    gains = transform({"image": batch_of_ones()})["image"][..., 4:]
    assert len(gains.unique()) == 12
    assert all(len(gains[b, c].unique()) == 1 for b in range(6) for c in range(2))


def test_the_slices_of_one_modality_change_alike_where_channels_are_neighbouring_slices():
    transform = RandGainOffsetd("image", gain_range=0.2, offset_range=0.1, modalities=2).set_random_state(1)
    changed = transform({"image": torch.ones(5, 6, 2, 2)})["image"]  # three slices of two modalities each
    assert torch.equal(changed[:, :2], changed[:, 2:4]) and torch.equal(changed[:, :2], changed[:, 4:])
    assert len(changed.unique()) == 10


def test_gain_and_offset_stay_within_their_ranges():
    ones, twos = torch.ones(500, 2, 1, 1), torch.full((500, 2, 1, 1), 2.0)
    transform = RandGainOffsetd("image", gain_range=0.2, offset_range=0.1)
    of_ones = transform.set_random_state(1)({"image": ones})["image"]
    of_twos = transform.set_random_state(1)({"image": twos})["image"]
    gain, offset = of_twos - of_ones, 2 * of_ones - of_twos  # 1 + gain, offset
    assert 0.8 <= gain.min() < 0.82 and 1.18 < gain.max() <= 1.2
    assert -0.1001 <= offset.min() < -0.09 and 0.09 < offset.max() <= 0.1001


def test_the_same_random_state_gives_the_same_change():
    first, again, other = (
        RandGainOffsetd("image", 0.2, 0.1).set_random_state(seed)({"image": batch_of_ones()})["image"]
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_values_beyond_five_become_five_and_the_image_keeps_its_place():
    image = MetaTensor(torch.tensor([-7.0, -5, -1, 0, 5, 9]).reshape(1, 6, 1, 1), affine=np.diag([-1.0, -1, 3, 1]))
    clamped = ClampIntensityd(keys="image", limit=5)({"image": image})["image"]
    assert clamped.flatten().tolist() == [-5, -5, -1, 0, 5, 5]
    assert torch.equal(clamped.affine, image.affine)
