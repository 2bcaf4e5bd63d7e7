"""The contrast of a tumour's tissues changes, everything else stays as it is."""

from __future__ import annotations

import pytest
import torch

from transforms.labels import ENHANCING, NECROTIC_CORE, OEDEMA
from transforms.pipelines import augmentation
from transforms.tissue import CONTRAST, RandTissueContrastd

BOTH = ("flair", "t1ce")


def batch(slices: int = 64, channels: int = 2) -> dict[str, torch.Tensor]:
    """Slices of 12×12: background, brain of 1, and one square of 4×4 for each tissue, all of value 2."""
    label = torch.zeros(slices, 1, 12, 12, dtype=torch.uint8)
    label[:, :, 0:4, 0:4], label[:, :, 0:4, 8:12], label[:, :, 8:12, 8:12] = NECROTIC_CORE, OEDEMA, ENHANCING
    image = torch.ones(slices, channels, 12, 12) + (label > 0)
    image[:, :, 8:12, 0:4] = 0  # background
    return {"image": image, "label": label}


def changed(modalities: tuple[str, ...] = BOTH, prob: float = 1.0, channels: int = 2) -> torch.Tensor:
    transform = RandTissueContrastd("image", prob, modalities).set_random_state(0)
    return transform(batch(channels=channels))["image"]


def inside(image: torch.Tensor, tissue: int) -> torch.Tensor:
    """(B, C) in the middle of a tissue's square, away from its blended border."""
    rows, columns = {NECROTIC_CORE: (1, 1), OEDEMA: (1, 10), ENHANCING: (10, 10)}[tissue]
    return image[:, :, rows, columns]


def test_brain_and_background_stay_as_they_are():
    before, after = batch()["image"], changed()
    assert torch.equal(after[:, :, 5:7], before[:, :, 5:7])
    assert not after[:, :, 8:12, 0:4].any()


def test_in_flair_all_tissues_change_their_contrast_by_one_factor_within_its_limits():
    after = changed(("flair",), channels=1)
    oedema, enhancing = inside(after, OEDEMA) / 2, inside(after, ENHANCING) / 2
    torch.testing.assert_close(oedema, enhancing)
    low, high = CONTRAST["flair"][1]
    assert low <= oedema.min() < 0.5 and 1.2 < oedema.max() <= high


def test_in_t1ce_oedema_keeps_its_contrast_and_enhancing_tumour_does_not():
    after = changed(("t1ce",), channels=1)
    assert (inside(after, OEDEMA) == 2).all()
    assert inside(after, ENHANCING).unique().numel() == 64


def test_necrosis_may_be_darker_than_the_brain_in_flair_or_brighter_than_it_was():
    necrosis = inside(changed(("flair",), channels=1), NECROTIC_CORE)
    assert necrosis.min() < 0 and necrosis.max() > 3


@pytest.mark.parametrize(("prob", "least", "most"), [(0.0, 0, 0), (0.5, 20, 44), (1.0, 64, 64)])
def test_a_slice_changes_with_the_given_probability(prob: float, least: int, most: int):
    slices = (changed(prob=prob) != batch()["image"]).flatten(1).any(1).sum()
    assert least <= slices <= most


def test_a_mirror_image_stays_as_it_is():
    after, before = changed(channels=4), batch(channels=4)["image"]
    assert torch.equal(after[:, 2:], before[:, 2:])
    assert not torch.equal(after[:, :2], before[:, :2])


def test_of_a_slice_between_its_neighbours_only_its_own_channels_change():
    after, before = changed(channels=6), batch(channels=6)["image"]
    assert torch.equal(after[:, :2], before[:, :2]) and torch.equal(after[:, 4:], before[:, 4:])
    assert not torch.equal(after[:, 2:4], before[:, 2:4])


def test_borders_are_blended_over_one_pixel_on_either_side():
    after = changed(("t1ce",), channels=1)
    change = (after - batch(channels=1)["image"]).abs()[:, 0, 10]  # through the enhancing square, columns 8 to 11
    assert not change[:, :7].any()
    torch.testing.assert_close(change[:, 7] * 6, change[:, 10])  # a third of brain of 1 instead of tumour of 2
    torch.testing.assert_close(change[:, 8] * 3 / 2, change[:, 10])


def test_it_is_part_of_the_augmentation_on_request_and_soft_labels_do_as_well():
    chain = augmentation(0, 0, gain_range=0, offset_range=0, modalities=BOTH, tissue_probability=1).set_random_state(0)
    hard = batch()
    soft = {**hard, "label": torch.cat([(hard["label"] == c) * 255 for c in (1, 2, 3)], dim=1).to(torch.uint8)}
    of_hard = chain(hard)["image"]
    chain.set_random_state(0)
    torch.testing.assert_close(torch.as_tensor(chain(soft)["image"]), torch.as_tensor(of_hard))
    assert not torch.equal(torch.as_tensor(of_hard), hard["image"])
