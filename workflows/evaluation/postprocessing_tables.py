"""How the sections that an evaluation of a checkpoint adds to its summary are shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workflows.evaluation.study_published import STUDY_FIGURES
from workflows.messages.text_tables import TextTable, cell

Content = Mapping[str, Any]


def study_tables(content: Content) -> list[TextTable]:
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
    return [
        TextTable(
            f"The study's table, by its definitions on its grid and window ({cases})",
            ["figure", "published", "here", "honest", "which is"],
            figures,
            words=["which is"],
        ),
        TextTable("Why they differ", ["figure", "because"], sentences, words=["because"]),
    ]


def post_processing_tables(content: Content) -> list[TextTable]:
    """What each step changes."""
    rows = [
        [
            name,
            *(cell(of[f"{region}_dice"], 3) for region in ("wt", "tc", "et")),
            f"{of['false_slice_share']:.1%}",
            *(cell(of[volume], 2) for volume in ("invented_ml", "false_ml")),
            f"{of['false_alarms']:.0f} of {of['patients_without_tumour']:.0f}",
        ]
        for name, of in content["after_each_step"].items()
    ]
    columns = ["after", "WT Dice", "TC", "ET", "false slices", "invented ml", "false ml", "false alarms"]
    lost = next(iter(content["after_each_step"].values()))["outside_window_share"]
    return [
        TextTable("Post-processing, step by step", columns, rows),
        TextTable(
            "What these columns count",
            ["column", "meaning"],
            [
                ["false slices", "share of the axial slices without tumour that hold predicted tumour"],
                ["invented ml", "predicted on slices without tumour, mean over cases"],
                ["false ml", "predicted outside the true tumour on any slice, mean over cases"],
                ["false alarms", "patients without tumour in whom some is predicted"],
            ],
            words=["meaning"],
        ),
        TextTable("Slice window", ["", "share"], [["true tumour outside the training window", f"{lost:.1%}"]]),
    ]


def false_positive_tables(content: Content) -> list[TextTable]:
    """Case by case, worst first, and all together: counts summed, volumes averaged."""
    return [_false_positives(stage.replace("_", " "), cases) for stage, cases in content.items() if cases]


def _false_positives(stage: str, cases: Mapping[str, Mapping[str, Any]]) -> TextTable:
    counts = ("slices_without_tumour", "false_slices")
    volumes = ("invented_ml", "false_ml", "tumour_ml", "outside_window_ml")
    worst_first = sorted(cases.items(), key=lambda entry: -entry[1]["invented_ml"])
    rows = [
        [case, *(cell(of[name]) for name in counts), *(cell(of[name], 2) for name in volumes)]
        for case, of in worst_first
    ]
    total = [cell(sum(of[name] for of in cases.values())) for name in counts]
    mean = [cell(sum(of[name] for of in cases.values()) / len(cases), 2) for name in volumes]
    columns = ["case", "slices without tumour", "false", "invented ml", "false ml", "tumour ml", "outside window ml"]
    rows.append([f"{len(cases)} cases: sum, mean ml", *total, *mean])
    return TextTable(f"False positives {stage}", columns, rows)


SECTION_TABLES = {
    "study": study_tables,
    "post_processing": post_processing_tables,
    "false_positives": false_positive_tables,
}
