"""The study's figures from one pixel row that can be added up by hand, beside the honest ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from workflows.evaluation.study_computed import case_sums, study_figures, study_table, tumour_accuracy
from workflows.evaluation.study_published import STUDY_FIGURES


def shares(*pixels: tuple[float, float, float, float]) -> Tensor:
    """(1 slice, 4 classes, 1, pixels)."""
    return torch.tensor(pixels).T[None, :, None]


PREDICTED = shares((0.9, 0.1, 0, 0), (0.5, 0.25, 0.25, 0), (0, 0, 0, 1.0))
TRUE = shares((1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 0, 1))


def test_loss_is_the_mean_cross_entropy_over_all_pixels_and_tumour_loss_over_those_of_tumour():
    figures = study_figures([case_sums(PREDICTED, TRUE)])
    assert figures["loss"] == pytest.approx((-math.log(0.9) - math.log(0.25)) / 3)
    assert figures["tumour_loss"] == pytest.approx(-math.log(0.25) / 2)


def test_loss_agrees_with_pytorchs_cross_entropy_on_soft_labels():
    generator = torch.Generator().manual_seed(0)
    logits, target = (torch.randn(3, 4, 8, 8, generator=generator) for _ in range(2))
    target = target.softmax(1)
    figures = study_figures([case_sums(logits.softmax(1), target)])
    assert figures["loss"] == pytest.approx(float(torch.nn.functional.cross_entropy(logits, target)), rel=1e-6)


def test_a_certain_error_costs_as_much_as_keras_lets_it():
    figures = study_figures([case_sums(shares((1, 0, 0, 0)), shares((0, 1, 0, 0)))])
    assert figures["loss"] == pytest.approx(-math.log(1e-7), rel=1e-6)


def test_the_studys_figures_are_those_of_all_cases_together():
    one, other = case_sums(PREDICTED, TRUE), case_sums(TRUE, TRUE)
    assert study_figures([one, other])["accuracy"] == pytest.approx(5 / 6)
    assert study_figures([one, other])["loss"] == pytest.approx(study_figures([one])["loss"] / 2)


def test_a_case_without_tumour_has_no_tumour_to_pay_for():
    assert study_figures([case_sums(shares((1, 0, 0, 0)), shares((1, 0, 0, 0)))])["tumour_loss"] == 0


def test_tumour_accuracy_leaves_out_what_both_call_background():
    prediction, reference = np.array([0, 0, 1, 2, 3, 0]), np.array([0, 0, 1, 1, 0, 2])
    assert tumour_accuracy(prediction, reference) == 1 / 4
    assert tumour_accuracy(reference[:2], prediction[:2]) == 1


def test_every_figure_of_the_study_stands_beside_an_honest_one():
    region = {"dice": 0.5, "iou": 0.25, "precision": 0.75, "sensitivity": 0.625}
    rows = [{**region, "region": name} for name in ("WT", "TC", "ET", "necrotic core", "oedema", "enhancing tumour")]
    table = study_table(study_figures([case_sums(PREDICTED, TRUE)]), rows, [0.25, 0.75], false_slice_share=0.2)
    assert [line["figure"] for line in table] == list(STUDY_FIGURES)
    honest = {line["figure"]: line["honest_value"] for line in table}
    assert honest == pytest.approx(
        {
            "loss": -math.log(0.25) / 2,
            "accuracy": 0.5,
            "study_mean_iou": 0.25,
            "study_dice": 0.5,
            "precision": 0.75,
            "sensitivity": 0.625,
            "specificity": 0.8,
        }
    )
