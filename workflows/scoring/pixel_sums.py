"""The study's figures and BraTS's, one definition each.

Everything is computed from sums over pixels, so that a figure is the same whether a case arrives as one volume or as
slices mixed into many batches.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from operator import add
from typing import Any

import torch
from monai.metrics import CumulativeIterationMetric
from torch import Tensor

from transforms.labels import CLASS_NAMES, NUM_CLASSES, REGIONS
from transforms.regions import labels_to_regions, most_probable_class

STUDY_SMOOTHING = 1.0  # added to numerator and denominator of the study's Dice
KERAS_EPSILON = 1e-7  # added to the denominators of the study's precision, sensitivity and specificity

KINDS = ("both", "predicted", "true")
SUM_NAMES = (
    *(f"soft_{kind}_{index}" for kind in KINDS for index in range(NUM_CLASSES)),
    *(f"{kind}_{region}" for kind in KINDS for region in REGIONS),
    *("agreeing", "pixels", "true_positive", "called_positive", "positive", "true_negative", "negative"),
    *(f"{kind}_one" for kind in KINDS),
)

Sums = Mapping[str, Tensor]


def dice(both: Tensor, predicted: Tensor, true: Tensor) -> Tensor:
    """2·TP / (2·TP + FP + FN) from voxel counts; 1 where both masks are empty, as BraTS scores it."""
    total = predicted + true
    return torch.where(total > 0, 2 * both / total.clamp(min=1), torch.ones_like(total))


def region_dice(prediction: Tensor, reference: Tensor) -> dict[str, float]:
    """Dice of WT, TC and ET for one case.

    Args:
        prediction, reference: (1, …) class indices on the same grid.
    """
    p, r = labels_to_regions(prediction).flatten(1), labels_to_regions(reference).flatten(1)
    scores = dice((p & r).sum(1).double(), p.sum(1).double(), r.sum(1).double())
    return {region: float(score) for region, score in zip(REGIONS, scores, strict=True)}


def slice_sums(probabilities: Tensor, target: Tensor) -> Tensor:
    """The sums over each slice's pixels from which `study_scores` and `case_dice` are computed.

    Args:
        probabilities, target: (B, classes, H, W), summing to 1 over the classes; the target is one-hot or soft.
    Returns:
        (B, len(SUM_NAMES)) float64.
    """
    p, y = probabilities.flatten(2), target.flatten(2)  # (B, classes, pixels)
    both, no_p, no_y = p * y, 1 - p, 1 - y
    # Row by row first: torch would copy all to float64. One float32 sum would differ with the size of the batch.
    rows = [shares.unflatten(2, target.shape[2:]).sum(3) for shares in (both, p, y)]
    soft = torch.cat([of_row.sum(2, dtype=torch.float64) for of_row in rows], dim=1)
    counts = _class_counts(*(most_probable_class(shares.movedim(1, 0))[0] for shares in (p, y)))
    pooled = [
        counts.diagonal(dim1=1, dim2=2).sum(1),
        counts.sum((1, 2)),
        *(shares.round().sum((1, 2)) for shares in (both, p, y, no_p * no_y, no_y)),
    ]
    # Keras' MeanIoU casts what it is fed to integers, and so cuts every probability below 1 down to 0.
    p_one, y_one = (p >= 1).float(), (y >= 1).float()
    truncated = [ones.sum((1, 2)) for ones in (p_one * y_one, p_one, y_one)]
    rest = torch.stack([s.double() for s in (*pooled, *truncated)], dim=1)
    return torch.cat([soft, _region_sums(counts), rest], dim=1)


def _class_counts(called: Tensor, wanted: Tensor) -> Tensor:
    """How many pixels (B, pixels) of each class are called which class: (B, called, wanted) float64.

    The product of their indicators, whose float32 sums of ones are exact up to 16 million pixels: `bincount` would
    wait for the GPU.
    """
    numbers = torch.arange(NUM_CLASSES, device=called.device, dtype=called.dtype).view(1, -1, 1)
    is_called, is_wanted = ((classes[:, None] == numbers).float() for classes in (called, wanted))
    return (is_called @ is_wanted.mT).double()


def _region_sums(counts: Tensor) -> Tensor:
    """The sums of each region in `SUM_NAMES`, from those of the classes."""
    predicted, true = counts.sum(2), counts.sum(1)
    sums = [
        *(reduce(add, (counts[:, p, t] for p in classes for t in classes)) for classes in REGIONS.values()),
        *(reduce(add, (side[:, c] for c in classes)) for side in (predicted, true) for classes in REGIONS.values()),
    ]
    return torch.stack(sums, dim=1)


def study_scores(case_sums: Sums) -> dict[str, float]:
    """The study's figures, computed as it computed them.

    Args:
        case_sums: by the names in `SUM_NAMES`, (cases,) each.
    Returns:
        `accuracy`: share of pixels whose most probable class is right. `study_dice`: on probabilities, smoothing 1,
        per case, averaged over all four classes, background included. `precision`, `sensitivity`, `specificity`:
        counts pooled over all pixels, channels and cases with probabilities rounded at 0.5. `study_mean_iou`: Keras'
        `MeanIoU` fed with one-hot and softmax tensors: values cut to integers, mean IoU of "0" and "1".
    """
    total = {name: values.sum() for name, values in case_sums.items()}
    soft = [
        (2 * case_sums[f"soft_both_{c}"] + STUDY_SMOOTHING)
        / (case_sums[f"soft_predicted_{c}"] + case_sums[f"soft_true_{c}"] + STUDY_SMOOTHING)
        for c in range(NUM_CLASSES)
    ]
    scores = {
        "accuracy": total["agreeing"] / total["pixels"],
        "study_dice": torch.stack(soft).mean(),
        "study_mean_iou": _keras_mean_iou(total),
        "precision": total["true_positive"] / (total["called_positive"] + KERAS_EPSILON),
        "sensitivity": total["true_positive"] / (total["positive"] + KERAS_EPSILON),
        "specificity": total["true_negative"] / (total["negative"] + KERAS_EPSILON),
    }
    return {name: float(value) for name, value in scores.items()}


def _keras_mean_iou(total: Sums) -> Tensor:
    values = total["pixels"] * len(CLASS_NAMES)
    one = (total["both_one"], total["predicted_one"] + total["true_one"] - total["both_one"])
    both_zero = values - one[1]
    zero = (both_zero, values - total["both_one"])
    present = [same / union for same, union in (zero, one) if union > 0]
    return torch.stack(present).mean()


def case_dice(case_sums: Sums) -> dict[str, Tensor]:
    """Dice per region, (cases,) each, on the grid and the slices that were summed."""
    return {region: dice(*(case_sums[f"{kind}_{region}"] for kind in KINDS)) for region in REGIONS}


class CaseSums(CumulativeIterationMetric):
    """Collects `slice_sums` over batches and ranks, and sums them by case."""

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, **kwargs: Any) -> Tensor:
        if y is None:
            raise ValueError("CaseSums needs a target.")
        case = kwargs["case"].to(y_pred.device, torch.float64, non_blocking=True)
        return torch.cat([case[:, None], slice_sums(y_pred, y)], dim=1)

    def aggregate(self) -> dict[str, Tensor]:
        """Sums by the names in `SUM_NAMES`, (cases,) each, in the order of the case numbers."""
        rows = self.get_buffer()
        _, place = rows[:, 0].unique(return_inverse=True)
        sums = torch.zeros(int(place.max()) + 1, rows.shape[1] - 1, dtype=rows.dtype, device=rows.device)
        sums.index_add_(0, place, rows[:, 1:])
        return dict(zip(SUM_NAMES, sums.cpu().unbind(1), strict=True))


def training_scores(case_sums: Sums) -> dict[str, float]:
    """What training reports of an epoch: the study's figures, mean Dice per region, and the regions' mean."""
    regions = {f"{region.lower()}_dice": float(scores.mean()) for region, scores in case_dice(case_sums).items()}
    return {**study_scores(case_sums), **regions, "mean_region_dice": sum(regions.values()) / len(regions)}
