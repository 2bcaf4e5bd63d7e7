"""What the study published for its 45 test cases of BraTS 2020, and which honest figure stands beside each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workflows.messages.text_tables import TextTable, cell


@dataclass(frozen=True)
class StudyFigure:
    """One row of the study's table.

    Attributes:
        shown: the study's name for it; published: its value there.
        honest: the figure that stands beside it; why: what makes the two differ, in a sentence.
    """

    shown: str
    published: float
    honest: str
    why: str


STUDY_FIGURES = {
    "loss": StudyFigure(
        "loss",
        0.0206,
        "cross-entropy over true tumour pixels",
        "Nearly all pixels are background and cost nothing; only tumour pixels tell what the network still pays.",
    ),
    "accuracy": StudyFigure(
        "accuracy",
        0.9935,
        "right class, of the voxels either map calls tumour",
        "Calling everything background is already right for nearly all pixels.",
    ),
    "study_mean_iou": StudyFigure(
        "MeanIoU",
        0.8176,
        "mean IoU of the three tumour classes",
        "Keras' MeanIoU was fed one-hot and softmax tensors, whose values it cuts to the integers 0 and 1: it compares "
        "zeros with zeros, and no class with itself.",
    ),
    "study_dice": StudyFigure(
        "Dice coefficient",
        0.6008,
        "mean Dice of WT, TC and ET",
        "The study averages four classes on probabilities, inside its slice window and on its grid; the background, "
        "which scores nearly 1 in every patient, is a quarter of the mean.",
    ),
    "precision": StudyFigure(
        "precision",
        0.9938,
        "precision of whole tumour",
        "Pooled over four channels, each background pixel called background is a true positive.",
    ),
    "sensitivity": StudyFigure(
        "sensitivity",
        0.9922,
        "sensitivity for whole tumour",
        "Pooled over four channels, finding the background counts as finding.",
    ),
    "specificity": StudyFigure(
        "specificity",
        0.9979,
        "tumour-free slices that are left free",
        "Three of four channels are empty in every pixel; a slice with a false tumour hardly moves the figure.",
    ),
}
"""By the names that `workflows.scoring.pixel_sums.study_scores` uses, in the study's order."""


def study_tables(content: Mapping[str, Any]) -> list[TextTable]:
    """The study's figures beside honest ones, and one sentence on each."""
    if not content["figures"]:
        return []
    figures, sentences = [], []
    for line in content["figures"]:
        name = STUDY_FIGURES[line["figure"]].shown
        study, honest = (cell(line[key], 4) for key in ("published", "honest_value"))
        figures.append([name, study, cell(line["value"], 4), honest, line["honest_figure"]])
        sentences.append([name, line["why"]])
    cases = f"{content['cases']} case{'' if content['cases'] == 1 else 's'}"
    title = f"The study's table, by its definitions on its grid and window ({cases})"
    columns = ["figure", "published", "here", "honest", "which is"]
    return [
        TextTable(title, columns, figures, words=["which is"]),
        TextTable("Why they differ", ["figure", "because"], sentences, words=["because"]),
    ]
