"""The loss on nested regions: what it is made of, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from workflows.training.losses import DeeplySupervised, RegionDiceCELoss, finest


def certain(*classes: int) -> torch.Tensor:
    """One slice of a row of pixels, each one-hot in its class: (1, 4, 1, pixels)."""
    one_hot = torch.nn.functional.one_hot(torch.tensor(classes), 4)
    return one_hot.T.reshape(1, 4, 1, len(classes)).float()


def test_a_perfect_and_certain_answer_has_no_loss():
    target = certain(0, 1, 2, 3)
    assert RegionDiceCELoss()(100 * target, target).item() == pytest.approx(0, abs=1e-4)


def test_a_core_called_enhancing_costs_nothing_in_wt_and_tc_and_a_third_in_et():
    target, answer = certain(0, 1, 2, 3), 100 * certain(0, 3, 2, 3)
    # ET: 2·1 / (2 + 1) of Dice, so a loss of 1/3 in one of three regions.
    assert RegionDiceCELoss(lambda_ce=0)(answer, target).item() == pytest.approx((1 / 3) / 3, abs=1e-4)


def test_an_undecided_answer_has_the_cross_entropy_of_four_classes():
    target, undecided = certain(0, 1, 2, 3), torch.zeros(1, 4, 1, 4)
    loss = RegionDiceCELoss()(undecided, target) - RegionDiceCELoss(lambda_ce=0)(undecided, target)
    assert loss.item() == pytest.approx(math.log(4), abs=1e-5)


def test_soft_labels_are_a_target_too():
    shares = torch.full((1, 4, 2, 2), 0.25)
    loss = RegionDiceCELoss()(torch.zeros(1, 4, 2, 2, requires_grad=True), shares)
    loss.backward()
    assert torch.isfinite(loss)


def test_each_level_counts_half_of_the_one_before_and_a_lone_answer_as_it_is():
    target = certain(0, 1, 2, 3)
    answers = torch.stack([torch.full_like(target, value) for value in (3.0, 5.0, 7.0)], dim=1)  # (1, 3, 4, 1, 4)
    loss = DeeplySupervised(torch.nn.L1Loss())
    alone = [float(torch.nn.functional.l1_loss(answer, target)) for answer in answers.unbind(dim=1)]
    assert float(loss(answers, target)) == pytest.approx(alone[0] + alone[1] / 2 + alone[2] / 4)
    assert float(loss(answers[:, 0], target)) == pytest.approx(alone[0])


def test_the_answer_that_is_scored_is_the_finest():
    target = certain(0, 1)
    answers = torch.stack([target, 0 * target], dim=1)
    assert torch.equal(finest(answers, target), target)
    assert torch.equal(finest(target, target), target)
