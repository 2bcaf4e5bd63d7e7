"""A tumour grows to where the best Dice is to be expected."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from transforms import decision
from transforms.decision import FARTHEST_MM, LOWEST_THRESHOLD, BestExpectedDiced, expected_dice_threshold, grown, reach
from transforms.labels import BACKGROUND, ENHANCING, NECROTIC_CORE, OEDEMA, REGIONS


def expected_dice(probabilities: np.ndarray, taken: np.ndarray) -> float:
    return float(2 * probabilities[taken].sum() / (probabilities.sum() + taken.sum()))


@pytest.mark.parametrize("seed", range(20))
def test_no_set_of_voxels_has_a_better_dice_to_be_expected(seed: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(decision, "LOWEST_THRESHOLD", 0.0)
    probabilities = np.random.default_rng(seed).random(9)
    threshold = expected_dice_threshold(probabilities)
    best = max(expected_dice(probabilities, np.array(taken)) for taken in itertools.product([False, True], repeat=9))
    assert expected_dice(probabilities, probabilities > threshold) == pytest.approx(best)
    assert threshold == pytest.approx(best / 2)


def test_drawn_truths_agree_more_with_it_than_with_the_most_probable():
    random = np.random.default_rng(0)
    probabilities = random.beta(0.4, 0.6, 20_000)

    def mean_dice(taken: np.ndarray) -> float:
        truths = random.random((50, len(taken))) < probabilities
        return float(np.mean([2 * (taken & truth).sum() / (taken.sum() + truth.sum()) for truth in truths]))

    assert mean_dice(probabilities > expected_dice_threshold(probabilities)) > mean_dice(probabilities > 0.5) + 0.003


def test_sure_probabilities_are_cut_at_half_and_unsure_ones_no_lower_than_the_lowest():
    assert expected_dice_threshold(np.array([0.0, 1, 1, 0])) == pytest.approx(0.5)
    assert expected_dice_threshold(np.full(1000, 0.1)) == LOWEST_THRESHOLD
    assert expected_dice_threshold(np.zeros(0)) == LOWEST_THRESHOLD


def line(*tumour: tuple[float, float, float]) -> np.ndarray:
    """(4, 1, 1, voxels): probabilities of the classes, given those of necrotic core, oedema and enhancing tumour."""
    probabilities = np.array(tumour).T
    return np.concatenate([1 - probabilities.sum(0, keepdims=True), probabilities])[:, None, None]


def grown_classes(probabilities: np.ndarray, kept: list[int] | None = None) -> list[int]:
    found = probabilities.argmax(0).astype(np.uint8)
    left = found if kept is None else np.array(kept, dtype=np.uint8).reshape(found.shape)
    classes: list[int] = grown(probabilities, found, left, reach([1, 1, 1])).ravel().tolist()
    return classes


NONE = (0.0, 0.0, 0.0)
SURE = (0.05, 0.05, 0.9)
UNSURE = (0.3, 0.05, 0.2)  # most probably background, and more probably tumour core than not


def test_sure_classes_stay_as_they_are():
    sure = line(NONE, (0.9, 0.05, 0.05), (0.05, 0.9, 0.05), SURE, NONE)
    assert grown_classes(sure) == [BACKGROUND, NECROTIC_CORE, OEDEMA, ENHANCING, BACKGROUND]


def test_classes_of_one_region_outvote_the_background_together_beside_a_tumour():
    assert grown_classes(line(SURE, SURE, UNSURE, NONE)) == [ENHANCING, ENHANCING, NECROTIC_CORE, BACKGROUND]


def test_what_joins_the_core_is_of_its_more_probable_class_and_oedema_joins_it_too():
    enhancing, oedema = (0.2, 0.05, 0.3), (0.3, 0.38, 0.28)
    assert grown_classes(line(SURE, SURE, enhancing)) == [ENHANCING] * 3
    assert grown_classes(line(SURE, SURE, oedema)) == [ENHANCING, ENHANCING, NECROTIC_CORE]


def test_no_region_grows_a_second_part():
    oedema = (0.05, 0.9, 0.05)
    core_beyond_oedema = line(SURE, oedema, (0.3, 0.38, 0.28), NONE)
    assert grown_classes(core_beyond_oedema) == [ENHANCING, OEDEMA, OEDEMA, BACKGROUND]
    enhancing_beyond_core = line(SURE, (0.3, 0.38, 0.2), (0.2, 0.05, 0.3), NONE)
    assert grown_classes(enhancing_beyond_core) == [ENHANCING, NECROTIC_CORE, NECROTIC_CORE, BACKGROUND]


def test_a_tumour_grows_from_voxel_to_voxel_and_no_farther_than_the_limit():
    reached = [ENHANCING] * 2 + [NECROTIC_CORE] * FARTHEST_MM
    assert grown_classes(line(SURE, SURE, *[UNSURE] * 6)) == reached + [BACKGROUND] * (6 - FARTHEST_MM)
    assert grown_classes(line(SURE, SURE, NONE, UNSURE)) == [ENHANCING] * 2 + [BACKGROUND] * 2


def test_the_limit_is_one_of_length_whatever_the_voxels_measure():
    assert reach([1, 1, 1]) == (3, 3, 3)
    assert reach([0.5, np.float32(0.6), 3.0000002]) == (6, 5, 1)
    assert reach([1.5, 1.6, 5]) == (2, 1, 0)


def test_a_tumour_stays_in_slices_thicker_than_the_limit():
    probabilities = np.moveaxis(line(SURE, SURE, UNSURE, UNSURE), 3, 1)  # along the first axis of the volume
    found = probabilities.argmax(0).astype(np.uint8)
    assert np.array_equal(grown(probabilities, found, found, reach([5, 1, 1])), found)
    assert (grown(probabilities, found, found, reach([1, 5, 5])) > 0).all()


def test_what_post_processing_removed_does_not_come_back():
    kept = [ENHANCING, ENHANCING, BACKGROUND, BACKGROUND]
    assert grown_classes(line(SURE, SURE, UNSURE, SURE), kept) == [ENHANCING, ENHANCING, NECROTIC_CORE, BACKGROUND]


def test_a_region_that_is_not_there_does_not_appear():
    assert grown_classes(line(*[(0.1, 0.48, 0.4)] * 8, NONE)) == [OEDEMA] * 8 + [BACKGROUND]
    without_enhancing = [NECROTIC_CORE] * 4 + [BACKGROUND]  # as where little of it was made necrotic core
    assert grown_classes(line(*[SURE] * 4, (0.1, 0.05, 0.4)), without_enhancing) == [NECROTIC_CORE] * 5


@pytest.mark.parametrize("unsure", [(0.25, 0.3, 0.38), (0.05, 0.3, 0.34), (0.28, 0.3, 0.1)])
def test_no_region_shrinks_however_unsure_it_is(unsure: tuple[float, float, float]):
    probabilities = line(*[unsure] * 50)
    found = probabilities.argmax(0).ravel()
    classes = np.array(grown_classes(probabilities))
    for members in REGIONS.values():
        assert np.isin(classes, members)[np.isin(found, members)].all()


def blob(middle: tuple[int, int, int], shape: tuple[int, int, int] = (20, 18, 16)) -> torch.Tensor:
    """Probabilities (4, H, W, D) of an enhancing tumour that fades from its middle."""
    distance = torch.stack(
        [
            (place - m) ** 2
            for place, m in zip(torch.meshgrid(*map(torch.arange, shape), indexing="ij"), middle, strict=True)
        ]
    ).sum(0)
    tumour = torch.exp(-distance / 12)
    return torch.stack([1 - tumour, 0 * tumour, 0 * tumour, tumour])


@pytest.mark.parametrize("middle", [(10, 9, 8), (0, 0, 0), (19, 17, 15)])
def test_a_volume_grows_as_its_box_would_and_keeps_its_place(middle: tuple[int, int, int]):
    probabilities = blob(middle)
    found = probabilities.argmax(0, keepdim=True).to(torch.uint8)
    affine = torch.diag(torch.tensor([1.0, 2, 3, 1])).double()
    data = {"pred": MetaTensor(probabilities), "found": found, "map": MetaTensor(found.clone(), affine=affine)}
    label_map = BestExpectedDiced("map", "pred", "found")(data)["map"]
    assert torch.equal(label_map.affine, affine) and label_map.dtype == torch.uint8
    whole = grown(probabilities.numpy(), found[0].numpy(), found[0].numpy(), reach([1, 2, 3]))
    assert np.array_equal(label_map.as_tensor()[0].numpy(), whole)
    assert (whole > 0).sum() > (found > 0).sum()  # less sure than it would have to be to stay


def test_a_volume_without_tumour_stays_without():
    probabilities = torch.full((4, 5, 5, 5), 0.2)
    probabilities[0] = 0.4
    none = torch.zeros(1, 5, 5, 5, dtype=torch.uint8)
    data = {"pred": MetaTensor(probabilities), "found": none, "map": MetaTensor(none.clone())}
    assert not BestExpectedDiced("map", "pred", "found")(data)["map"].any()
