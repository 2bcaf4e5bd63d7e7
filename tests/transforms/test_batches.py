"""Random changes of whole batches, slice by slice."""

from __future__ import annotations

import torch
from torch import Tensor

from transforms.batches import RandAffineOfSlicesd
from transforms.pipelines import augmentation


def spots(slices: int, row: int = 20, column: int = 40) -> dict[str, Tensor]:
    """Slices of 64×64 pixels with one square of 6×6, of label 3 and brightness 1, around a place."""
    image, label = torch.zeros(slices, 2, 64, 64), torch.zeros(slices, 1, 64, 64, dtype=torch.uint8)
    image[..., row - 3 : row + 3, column - 3 : column + 3] = 1
    label[..., row - 3 : row + 3, column - 3 : column + 3] = 3
    return {"image": image, "label": label}


def centres(batch: Tensor) -> Tensor:
    """(B, 2): row and column of the centre of what is not zero in the first channel, counted from the middle."""
    return torch.stack([torch.nonzero(one[0]).double().mean(dim=0) - 31.5 for one in batch])


def changed(batch: dict[str, Tensor], seed: int = 0, **settings: float) -> dict[str, Tensor]:
    settings = {"prob": 1, "flip_probability": 0, "rotation_degrees": 0, "scale_range": 0, **settings}
    transform = RandAffineOfSlicesd(("image", "label"), **settings)
    transform.set_random_state(seed)
    return transform(batch)


def test_without_flip_rotation_and_scaling_slices_stay_as_they_are():
    batch = spots(4)
    same = changed(batch, prob=0)
    torch.testing.assert_close(same["image"], batch["image"], atol=1e-5, rtol=0)
    assert torch.equal(same["label"], batch["label"])


def test_a_flip_for_certain_turns_every_slice_by_half_a_turn():
    batch = spots(3)
    flipped = changed(batch, flip_probability=1)
    torch.testing.assert_close(flipped["image"], batch["image"].flip((2, 3)), atol=1e-5, rtol=0)
    assert torch.equal(flipped["label"], batch["label"].flip((2, 3)))


def test_flips_of_one_half_leave_a_quarter_of_the_slices_each_in_every_corner():
    rows, columns = centres(changed(spots(400), flip_probability=0.5)["label"]).T
    for upper in (True, False):
        for left in (True, False):
            assert 70 < int((((rows < 0) == upper) & ((columns < 0) == left)).sum()) < 130


def test_rotations_keep_the_distance_from_the_middle_and_stay_within_their_range():
    rows, columns = centres(changed(spots(50), rotation_degrees=30)["label"]).T
    before = centres(spots(1)["label"])[0]
    assert (torch.hypot(rows, columns) - before.norm()).abs().max() < 0.6
    turned = torch.rad2deg(torch.atan2(rows, columns) - torch.atan2(before[0], before[1]))
    assert turned.min() < -20 and turned.max() > 20
    assert turned.abs().max() < 33  # nearest pixels of a square of six


def test_scaling_moves_a_spot_from_or_to_the_middle_by_up_to_its_range_in_each_direction_for_itself():
    moved = centres(changed(spots(100), scale_range=0.2)["label"]) / centres(spots(1)["label"])
    assert moved.min() > 0.75 and moved.max() < 1.25
    assert moved.min() < 0.87 and moved.max() > 1.13
    assert (moved[:, 0] - moved[:, 1]).abs().max() > 0.2


def test_image_and_label_go_to_the_same_place():
    after = changed(spots(30), flip_probability=0.5, rotation_degrees=30, scale_range=0.2)
    assert (centres((after["image"] > 0.5).float()) - centres(after["label"])).abs().max() < 0.5
    assert set(after["label"].unique().tolist()) == {0, 3}


def test_drawn_slice_by_slice_a_batch_has_many_orientations_and_drawn_by_batch_one():
    for slice_by_slice, orientations in ((True, 4), (False, 1)):
        augment = augmentation(affine_probability=0, modalities=("flair", "t1ce"), slice_by_slice=slice_by_slice)
        augment.set_random_state(1)
        places = centres(augment(spots(40))["label"]).sign()
        assert len(places.unique(dim=0)) == orientations
