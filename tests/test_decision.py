"""A tumour grows to the regions with which the best Dice is to be expected."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from transforms import decision
from transforms.decision import FARTHEST_VOXELS, LOWEST_THRESHOLD, BestExpectedDiced, expected_dice_threshold, grown
from transforms.labels import BACKGROUND, ENHANCING, NECROTIC_CORE, OEDEMA


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


def grown_classes(probabilities: np.ndarray, kept: np.ndarray | None = None) -> list[int]:
    found = probabilities.argmax(0).astype(np.uint8)
    classes: list[int] = grown(probabilities, found, found if kept is None else kept).ravel().tolist()
    return classes


SURE = (0.05, 0.05, 0.9)
UNSURE = (0.25, 0.05, 0.25)  # most probably background, and more probably tumour core than not


def test_sure_classes_stay_as_they_are():
    sure = line((0, 0, 0), (0.9, 0.05, 0.05), (0.05, 0.9, 0.05), SURE, (0, 0, 0))
    assert grown_classes(sure) == [BACKGROUND, NECROTIC_CORE, OEDEMA, ENHANCING, BACKGROUND]


def test_classes_of_one_region_outvote_the_background_together_beside_a_tumour():
    assert grown_classes(line(SURE, SURE, UNSURE, (0, 0, 0))) == [ENHANCING, ENHANCING, NECROTIC_CORE, BACKGROUND]


def test_a_tumour_grows_from_voxel_to_voxel_and_no_farther_than_the_limit():
    reached = [ENHANCING] * 2 + [NECROTIC_CORE] * FARTHEST_VOXELS
    assert grown_classes(line(SURE, SURE, *[UNSURE] * 6)) == reached + [BACKGROUND] * (6 - FARTHEST_VOXELS)
    assert grown_classes(line(SURE, SURE, (0, 0, 0), UNSURE)) == [ENHANCING] * 2 + [BACKGROUND] * 2


def test_what_post_processing_removed_does_not_come_back():
    probabilities = line(SURE, SURE, UNSURE, SURE)
    kept = np.array([ENHANCING, ENHANCING, BACKGROUND, BACKGROUND], dtype=np.uint8).reshape(1, 1, 4)
    assert grown_classes(probabilities, kept) == [ENHANCING, ENHANCING, NECROTIC_CORE, BACKGROUND]


def test_a_region_that_no_voxel_most_probably_belongs_to_stays_empty():
    doubtful = line(*[(0.1, 0.48, 0.4)] * 8, (0, 0, 0))
    assert grown_classes(doubtful) == [OEDEMA] * 8 + [BACKGROUND]


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
    whole = grown(probabilities.numpy(), found[0].numpy(), found[0].numpy())
    assert np.array_equal(label_map.as_tensor()[0].numpy(), whole)
    assert (whole > 0).sum() > (found > 0).sum()  # less sure than it would have to be to stay


def test_a_volume_without_tumour_stays_without():
    probabilities = torch.full((4, 5, 5, 5), 0.2)
    probabilities[0] = 0.4
    none = torch.zeros(1, 5, 5, 5, dtype=torch.uint8)
    data = {"pred": MetaTensor(probabilities), "found": none, "map": MetaTensor(none.clone())}
    assert not BestExpectedDiced("map", "pred", "found")(data)["map"].any()
