"""Are the class probabilities right? A temperature fitted on cases whose labels are known, and the error it leaves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from torch import Tensor

from transforms.labels import BACKGROUND
from transforms.uncertainty import with_temperature
from workflows.messages.text_tables import TextTable, cell

BINS = 15
"""As many as Guo et al. 2017 (arXiv:1706.04599) use."""

VOXELS_PER_CASE = 200_000
"""Drawn from a brain of about 1.5 million: enough for one number, and few enough to keep for hundreds of cases."""

RANGE = (0.1, 10.0)
BRAIN, PREDICTED_TUMOUR = "brain", "predicted tumour"
"""Chosen by the prediction alone: voxels chosen by their label too would be wrong more often than they say."""


@dataclass(frozen=True)
class Errors:
    """Errors of the probabilities: `negative_log_likelihood` and `expected_calibration_error`."""

    voxels: int
    nll: float
    ece: float


@dataclass(frozen=True)
class Calibration:
    """A temperature, and the errors before and after it in the brain and in predicted tumour; None without voxels."""

    temperature: float
    before: Mapping[str, Errors | None]
    after: Mapping[str, Errors | None]


class CalibrationVoxels:
    """Collects voxels of the brain from one case after the other."""

    def __init__(self, seed: int = 0) -> None:
        self.random = torch.Generator().manual_seed(seed)
        self.probabilities: list[Tensor] = []
        self.labels: list[Tensor] = []

    def add(self, probabilities: Tensor, labels: Tensor, brain: Tensor) -> None:
        """Draw `VOXELS_PER_CASE` of a case's brain, or take all where there are fewer.

        Of (classes, H, W, D) probabilities, (1, H, W, D) class indices, and (1, H, W, D) not zero in the brain.
        """
        inside = torch.nonzero(brain.as_subclass(Tensor).flatten()).squeeze(1)
        drawn = inside[torch.randperm(len(inside), generator=self.random)[:VOXELS_PER_CASE]]
        self.probabilities.append(probabilities.as_subclass(Tensor).flatten(1)[:, drawn].T.float().clone())
        self.labels.append(labels.as_subclass(Tensor).flatten()[drawn].long())

    def calibrate(self) -> Calibration | None:
        """Fit the temperature on all voxels; None where there are none."""
        if not sum(map(len, self.labels)):
            return None
        probabilities, labels = torch.cat(self.probabilities), torch.cat(self.labels)
        temperature = fit_temperature(probabilities, labels)
        before, after = (errors_in(with_temperature(probabilities, t, 1), labels) for t in (1.0, temperature))
        return Calibration(temperature, before, after)


def fit_temperature(probabilities: Tensor, labels: Tensor) -> float:
    """The temperature with the least mean negative log-likelihood, within `RANGE`, to four digits.

    Of (N, classes) probabilities at temperature 1, and (N,) class indices.
    """

    def loss(log_temperature: float) -> float:
        return negative_log_likelihood(with_temperature(probabilities, math.exp(log_temperature), 1), labels)

    low, high = map(math.log, RANGE)
    best = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-5})
    return float(f"{math.exp(best.x):.4g}")


def negative_log_likelihood(probabilities: Tensor, labels: Tensor) -> float:
    """Mean of -ln p of the true class; (N, classes) and (N,)."""
    true = probabilities.gather(1, labels[:, None]).double()
    return float(-true.clamp_min(torch.finfo(torch.float32).tiny).log().mean())


def errors_in(probabilities: Tensor, labels: Tensor) -> dict[str, Errors | None]:
    """The errors in the brain and in predicted tumour; (N, classes) and (N,) of the brain's voxels."""
    tumour = probabilities.argmax(dim=1) != BACKGROUND
    return {BRAIN: _errors(probabilities, labels), PREDICTED_TUMOUR: _errors(probabilities[tumour], labels[tumour])}


def _errors(probabilities: Tensor, labels: Tensor) -> Errors | None:
    if not len(labels):
        return None
    confidence, chosen = probabilities.max(dim=1)
    ece = expected_calibration_error(confidence.double().numpy(), (chosen == labels).numpy())
    return Errors(len(labels), negative_log_likelihood(probabilities, labels), ece)


def expected_calibration_error(confidence: NDArray[np.floating], correct: NDArray[np.bool_]) -> float:
    """Mean distance of accuracy and confidence over `BINS` bins of confidence, weighted by their voxels (Guo et al.
    2017, arXiv:1706.04599, equation 3).

    MONAI's `CalibrationErrorMetric` adds in single precision, too coarse for a million certain voxels. `confidence` is
    the probability (N,) of the most probable class, `correct` whether that is the true one.
    """
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)  # each includes its upper end
    surplus = np.bincount(bins, weights=correct.astype(np.float64) - confidence, minlength=BINS)
    return float(np.abs(surplus).sum() / len(confidence))


def calibration_table(calibration: Calibration, cases: int) -> TextTable:
    """Both errors before and after, in the brain and in predicted tumour."""
    rows = [
        [place, f"{temperature:g}", cell(errors.voxels), cell(errors.nll, 4), f"{errors.ece:.2%}"]
        for place in (BRAIN, PREDICTED_TUMOUR)
        for temperature, named in ((1.0, calibration.before), (calibration.temperature, calibration.after))
        if (errors := named[place]) is not None
    ]
    columns = ["voxels of", "temperature", "voxels", "negative log-likelihood", "expected calibration error"]
    return TextTable(f"Calibration on {cases} validation cases", columns, rows)
