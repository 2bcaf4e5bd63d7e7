"""The study's table, computed as the study computed it, beside an honest figure for the same predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from transforms.labels import BACKGROUND, CLASS_NAMES, REGIONS
from workflows.evaluation.study_published import STUDY_FIGURES
from workflows.scoring.pixel_sums import KERAS_EPSILON, SUM_NAMES, slice_sums, study_scores

EXTRA_SUMS = ("cross_entropy", "tumour_cross_entropy", "tumour_pixels")


def case_sums(probabilities: Tensor, target: Tensor) -> Tensor:
    """What the study's figures need of one case: (len(SUM_NAMES) + len(EXTRA_SUMS),) float64.

    Both are (slices, classes, H, W) of the study's window, summing to 1 over the classes.
    """
    surprise = -(target * probabilities.clamp(min=KERAS_EPSILON).log()).sum((0, 2, 3), dtype=torch.float64)  # by class
    tumour = torch.arange(len(surprise), device=surprise.device) != BACKGROUND
    tumour_pixels = target.sum((0, 2, 3), dtype=torch.float64)[tumour].sum()
    extra = torch.stack([surprise.sum(), surprise[tumour].sum(), tumour_pixels])
    return torch.cat([slice_sums(probabilities, target).sum(0), extra]).cpu()


def study_figures(sums: Sequence[Tensor]) -> dict[str, float]:
    """The study's figures over the cases whose `case_sums` are given, by the names in `STUDY_FIGURES`, and
    `tumour_loss`: cross-entropy over the reference's tumour pixels.
    """
    columns = torch.stack(list(sums)).unbind(1)
    by_name = dict(zip((*SUM_NAMES, *EXTRA_SUMS), columns, strict=True))
    scores = study_scores({name: by_name[name] for name in SUM_NAMES})
    total = {name: float(by_name[name].sum()) for name in (*EXTRA_SUMS, "pixels")}
    return {
        "loss": total["cross_entropy"] / total["pixels"],
        **{name: scores[name] for name in STUDY_FIGURES if name in scores},
        "tumour_loss": total["tumour_cross_entropy"] / max(total["tumour_pixels"], KERAS_EPSILON),
    }


def tumour_accuracy(prediction: NDArray[Any], reference: NDArray[Any]) -> float:
    """Share of the voxels that either map calls tumour to which both give the same class; 1 where there are none."""
    either = (prediction != BACKGROUND) | (reference != BACKGROUND)
    return float((prediction == reference)[either].mean()) if either.any() else 1.0


def study_table(
    figures: Mapping[str, float],
    rows: Sequence[Mapping[str, Any]],
    tumour_accuracies: Sequence[float],
    false_slice_share: float,
) -> list[dict[str, Any]]:
    """One line per figure of the study: "figure", "published", "value" by the study's definition; "honest_figure",
    "honest_value", "why".

    Args:
        figures: of `study_figures`.
        rows: per case and region or class, whole volumes on the native grid.
        tumour_accuracies: per case; false_slice_share: pooled.
    """

    def mean(column: str, names: Sequence[str]) -> float:
        return float(np.mean([row[column] for row in rows if row["region"] in names]))

    honest = {
        "loss": figures["tumour_loss"],
        "accuracy": float(np.mean(tumour_accuracies)),
        "study_mean_iou": mean("iou", CLASS_NAMES),
        "study_dice": mean("dice", tuple(REGIONS)),
        "precision": mean("precision", ["WT"]),
        "sensitivity": mean("sensitivity", ["WT"]),
        "specificity": 1 - false_slice_share,
    }
    return [
        {
            "figure": name,
            "published": figure.published,
            "value": figures[name],
            "honest_figure": figure.honest,
            "honest_value": honest[name],
            "why": figure.why,
        }
        for name, figure in STUDY_FIGURES.items()
    ]
