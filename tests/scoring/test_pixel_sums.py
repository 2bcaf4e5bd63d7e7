"""The study's figures and BraTS's on examples computed by hand; the same however slices are mixed into batches."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from transforms.labels import REGIONS
from transforms.regions import labels_to_regions
from transforms.soft_labels import expand_labels
from workflows.scoring.pixel_sums import (
    SUM_NAMES,
    CaseSums,
    case_dice,
    dice,
    region_dice,
    slice_sums,
    study_scores,
    training_scores,
)


def sums_of(probabilities: Tensor, target: Tensor, case: list[int] | None = None) -> dict[str, Tensor]:
    collected = CaseSums()
    collected(probabilities, target, case=torch.tensor(case or [0] * len(target)))
    return collected.aggregate()


def one_hot(classes: Tensor) -> Tensor:
    """(B, H, W) → (B, 4, H, W)."""
    return functional.one_hot(classes.long(), 4).movedim(-1, 1).float()


@pytest.fixture
def two_pixels() -> dict[str, Tensor]:
    """Pixel A is background and called so at 0.75; pixel B is enhancing tumour (0.25), called necrotic core (0.75)."""
    probabilities = torch.tensor([[0.75, 0.25, 0, 0], [0, 0.75, 0, 0.25]]).T.reshape(1, 4, 1, 2)
    return sums_of(probabilities, one_hot(torch.tensor([[[0, 3]]])))


# The study's figures


def test_one_of_two_pixels_right_is_an_accuracy_of_one_half(two_pixels: dict[str, Tensor]):
    assert study_scores(two_pixels)["accuracy"] == 0.5


def test_the_studys_dice_is_soft_smoothed_by_1_and_averaged_over_four_classes(two_pixels: dict[str, Tensor]):
    background = (2 * 0.75 + 1) / (0.75 + 1 + 1)
    core = (2 * 0.0 + 1) / (0.25 + 0.75 + 0 + 1)
    oedema = (2 * 0.0 + 1) / (0 + 0 + 1)
    enhancing = (2 * 0.25 + 1) / (0.25 + 1 + 1)
    assert study_scores(two_pixels)["study_dice"] == pytest.approx((background + core + oedema + enhancing) / 4)


def test_the_studys_dice_is_computed_per_case_and_then_averaged():
    right, wrong = one_hot(torch.tensor([[[1, 1]]])), one_hot(torch.tensor([[[2, 2]]]))
    sums = sums_of(torch.cat([right, wrong]), torch.cat([right, right]), case=[0, 1])
    # Case 0: 1 in every class. Case 1: 1 in background and enhancing, (0 + 1) / (2 + 1) in core and oedema.
    assert study_scores(sums)["study_dice"] == pytest.approx((1 + (1 + 1 + 1 / 3 + 1 / 3) / 4) / 2)


def test_keras_counts_are_pooled_over_pixels_and_channels_rounded_at_one_half(two_pixels: dict[str, Tensor]):
    scores = study_scores(two_pixels)
    # Probabilities of 0.75 count as called, those of 0.25 do not: A background (right) and B core (wrong).
    assert scores["precision"] == pytest.approx(1 / 2)
    assert scores["sensitivity"] == pytest.approx(1 / 2)  # of the two true channels A's is called
    assert scores["specificity"] == pytest.approx(5 / 6)  # of the six false channels one is called


def test_exactly_one_half_counts_neither_as_called_nor_as_not_called():
    probabilities = torch.tensor([0.5, 0.5, 0, 0]).reshape(1, 4, 1, 1)
    scores = study_scores(sums_of(probabilities, one_hot(torch.tensor([[[0]]]))))
    # 0.5 and 1 - 0.5 are both rounded to the even 0: of three false channels two are true negatives.
    assert (scores["precision"], scores["sensitivity"], scores["specificity"]) == pytest.approx((0, 0, 2 / 3))


def test_the_studys_mean_iou_casts_every_probability_below_1_to_0(two_pixels: dict[str, Tensor]):
    # No prediction is 1: "1" is never right (0 of 2); "0" is right in 6 of the 8 values.
    assert study_scores(two_pixels)["study_mean_iou"] == pytest.approx((0 / 2 + 6 / 8) / 2)


def test_the_studys_mean_iou_counts_what_is_certain():
    probabilities = torch.cat([one_hot(torch.tensor([[[0]]])), torch.full((1, 4, 1, 1), 0.25)], dim=3)
    sums = sums_of(probabilities, one_hot(torch.tensor([[[0, 0]]])))
    # "1": one of two pixels is certain and right, none wrong. "0": 6 right of 7 that are "0" on either side.
    assert study_scores(sums)["study_mean_iou"] == pytest.approx((1 / 2 + 6 / 7) / 2)


def test_a_soft_pixel_is_0_to_the_studys_mean_iou_and_its_larger_share_to_accuracy():
    target = torch.tensor([0.25, 0.75, 0, 0]).reshape(1, 4, 1, 1)
    scores = study_scores(sums_of(one_hot(torch.tensor([[[1]]])), target))
    assert scores["study_mean_iou"] == pytest.approx((0 / 1 + 3 / 4) / 2)
    assert scores["accuracy"] == 1


def test_a_perfect_certain_answer_scores_1_in_everything():
    truth = one_hot(torch.tensor([[[0, 1, 2, 3]]]))
    assert training_scores(sums_of(truth, truth)) == pytest.approx(
        dict.fromkeys(training_scores(sums_of(truth, truth)), 1.0)
    )


# Regions


def test_necrotic_core_called_enhancing_is_right_for_wt_and_tc_and_wrong_for_et():
    assert region_dice(torch.tensor([[3, 0]]), torch.tensor([[1, 0]])) == {"WT": 1.0, "TC": 1.0, "ET": 0.0}


def test_one_voxel_of_two_found_and_one_invented_is_a_dice_of_one_half():
    assert region_dice(torch.tensor([[2, 0, 2, 0]]), torch.tensor([[2, 2, 0, 0]]))["WT"] == 0.5


def test_two_of_three_voxels_found_is_a_dice_of_four_fifths():
    assert region_dice(torch.tensor([[3, 3, 0]]), torch.tensor([[3, 3, 3]]))["ET"] == pytest.approx(4 / 5)


def test_both_empty_is_1_and_one_empty_is_0_as_brats_scores_it():
    empty, tumour = torch.zeros(1, 4, dtype=torch.long), torch.tensor([[0, 3, 3, 0]])
    assert region_dice(empty, empty) == {"WT": 1.0, "TC": 1.0, "ET": 1.0}
    assert region_dice(tumour, empty) == {"WT": 0.0, "TC": 0.0, "ET": 0.0}
    assert region_dice(empty, tumour) == {"WT": 0.0, "TC": 0.0, "ET": 0.0}


def test_dice_of_counts():
    both, predicted, true = torch.tensor([3.0, 0, 0]), torch.tensor([4.0, 0, 2]), torch.tensor([5.0, 0, 0])
    assert dice(both, predicted, true).tolist() == pytest.approx([6 / 9, 1, 0])


def test_the_mean_region_dice_is_the_mean_over_regions_of_the_mean_over_cases():
    truth = torch.tensor([[[1, 1]], [[3, 2]]])
    called = torch.tensor([[[1, 0]], [[1, 2]]])
    scores = training_scores(sums_of(one_hot(called), one_hot(truth), case=[0, 1]))
    assert scores["wt_dice"] == pytest.approx((2 / 3 + 1) / 2)
    assert scores["tc_dice"] == pytest.approx((2 / 3 + 1) / 2)
    assert scores["et_dice"] == pytest.approx((1 + 0) / 2)  # case 0 has none and is called none
    assert scores["mean_region_dice"] == pytest.approx((5 / 6 + 5 / 6 + 1 / 2) / 3)


def test_dice_of_a_volume_equals_that_of_its_slices_collected_by_case():
    generator = torch.Generator().manual_seed(0)
    volumes = [torch.randint(0, 4, (2, 1, 9, 8, 6), generator=generator) for _ in range(3)]  # called and true
    volumes[1][0][volumes[1][0] == 3] = 2  # a case without called enhancing tumour
    collected = CaseSums()
    for number, (called, true) in enumerate(volumes):
        slices = [one_hot(v[0].movedim(-1, 0)) for v in (called, true)]
        collected(*slices, case=torch.full((6,), number))
    by_slices = case_dice(collected.aggregate())
    for number, (called, true) in enumerate(volumes):
        expected = region_dice(called, true)
        assert {region: float(scores[number]) for region, scores in by_slices.items()} == expected
    assert by_slices["ET"][1] == 0


# Sums


def test_the_sums_of_a_slice_have_one_column_per_name():
    truth = one_hot(torch.tensor([[[0, 1, 2, 3]], [[0, 0, 0, 0]]]))
    sums = slice_sums(truth, truth)
    assert (sums.shape, sums.dtype) == ((2, len(SUM_NAMES)), torch.float64)
    assert len(set(SUM_NAMES)) == len(SUM_NAMES)
    named = dict(zip(SUM_NAMES, sums.T.tolist(), strict=True))
    assert named["pixels"] == [4, 4]
    assert named["true_WT"] == [3, 0] and named["true_TC"] == [2, 0] and named["true_ET"] == [1, 0]
    assert named["negative"] == [12, 12]


def test_the_sums_of_regions_are_those_of_their_masks():
    generator = torch.Generator().manual_seed(0)
    called, wanted = (torch.randint(0, 4, (3, 9, 7), generator=generator) for _ in range(2))
    sums = dict(zip(SUM_NAMES, slice_sums(one_hot(called), one_hot(wanted)).T, strict=True))
    masks = [labels_to_regions(classes[None]).flatten(2).movedim(1, 0) for classes in (called, wanted)]
    for number, region in enumerate(REGIONS):
        p, r = (mask[:, number] for mask in masks)
        assert sums[f"predicted_{region}"].tolist() == p.sum(1).tolist()
        assert sums[f"true_{region}"].tolist() == r.sum(1).tolist()
        assert sums[f"both_{region}"].tolist() == (p & r).sum(1).tolist()
    assert sums["agreeing"].tolist() == (called == wanted).sum((1, 2)).tolist()


def test_shares_that_sum_to_a_little_more_than_one_leave_no_background_to_count():
    shares = torch.tensor([64, 128, 63], dtype=torch.uint8).reshape(1, 3, 1, 1)
    target = expand_labels(shares)
    assert target[0, 0, 0, 0] < 0  # by rounding
    sums = dict(zip(SUM_NAMES, slice_sums(one_hot(torch.tensor([[[0]]])), target)[0].tolist(), strict=True))
    assert (sums["both_one"], sums["predicted_one"], sums["true_one"]) == (0, 1, 0)


class Made(TorchDispatchMode):
    """Counts tensors made of Python's numbers, for which a GPU would be waited for."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten.lift_fresh.default
        return func(*args, **(kwargs or {}))


def test_no_step_makes_a_tensor_of_numbers_on_its_way_to_the_sums():
    with Made() as made:
        torch.zeros(3)[[0]]
    assert made.count == 1
    truth = one_hot(torch.tensor([[[0, 1, 2, 3]]]))
    with Made() as made:
        slice_sums(truth, truth)
    assert made.count == 0


SLICES, PIXELS = 12, 5


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_the_sums_of_a_case_do_not_depend_on_the_order_and_the_batches_of_its_slices(data: st.DataObject):
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 2**31), label="seed"))
    probabilities = torch.randn(SLICES, 4, PIXELS, PIXELS, generator=generator).mul(3).softmax(1)
    target = one_hot(torch.randint(0, 4, (SLICES, PIXELS, PIXELS), generator=generator))
    case = torch.tensor(data.draw(st.lists(st.integers(0, 3), min_size=SLICES, max_size=SLICES), label="cases"))
    order = torch.tensor(data.draw(st.permutations(range(SLICES)), label="order"))
    cuts = sorted(data.draw(st.sets(st.integers(1, SLICES - 1)), label="cuts"))

    mixed = CaseSums()
    for batch in torch.tensor_split(order, cuts):
        mixed(probabilities[batch], target[batch], case=case[batch])
    together = mixed.aggregate()

    numbers = case.unique()
    singly = torch.cat([slice_sums(probabilities[i : i + 1], target[i : i + 1]) for i in range(SLICES)])
    one_by_one = torch.stack([singly[case == number].sum(0) for number in numbers])
    for column, name in enumerate(SUM_NAMES):
        assert together[name].shape == numbers.shape
        # Counts are exact. Soft sums are of float64, added in another order.
        error = 1e-12 if name.startswith("soft") else 0
        torch.testing.assert_close(together[name], one_by_one[:, column], rtol=error, atol=0, msg=name)


def test_cases_keep_the_order_of_their_numbers_though_numbers_are_missing():
    truth = one_hot(torch.tensor([[[3, 3]], [[0, 0]], [[1, 0]]]))
    sums = sums_of(truth, truth, case=[7, 2, 5])
    assert sums["true_WT"].tolist() == [0, 1, 2]


def test_a_reset_forgets_the_epoch_before():
    truth = one_hot(torch.tensor([[[3, 3]]]))
    collected = CaseSums()
    collected(truth, truth, case=torch.tensor([0]))
    collected.reset()
    collected(truth, truth, case=torch.tensor([0]))
    assert collected.aggregate()["true_ET"].tolist() == [2]
