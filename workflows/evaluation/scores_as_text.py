"""What `evaluate` shows of its summary: tables for the terminal and for `scores.md`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transforms.files import MARKDOWN_MARK
from transforms.labels import REGIONS
from workflows.evaluation.study_published import study_tables
from workflows.messages.text_tables import TextTable, cell, markdown_text
from workflows.scoring.score_case import DISTINCT
from workflows.scoring.score_list import SCORES, TABLES, Score
from workflows.scoring.statistics import interval_in_words

EMPTY_KINDS = ("both_empty", "prediction_empty", "reference_empty", "no_lesion_scored")

Summary = Mapping[str, Any]


def score_tables(summary: Summary) -> list[TextTable]:
    """Every table of a summary, in the order of reading."""
    tables = [*(_scores(summary, table) for table in TABLES), _empty(summary), _worst(summary)]
    if summary["skipped"]:
        rows = [[skipped["case"], skipped["reason"]] for skipped in summary["skipped"]]
        tables.append(TextTable("Left out", ["case", "why"], rows, words=["why"]))
    for section, tables_of in SECTION_TABLES.items():
        if section in summary:
            tables += tables_of(summary[section])
    return tables


def explanations(summary: Summary) -> list[str]:
    """What the figures describe, in sentences."""
    settings = summary["settings"]
    scored = f"{summary['cases']} cases scored" if summary["cases"] != 1 else "One case scored"
    left_out = f"; {len(summary['skipped'])} left out, which no figure counts" if summary["skipped"] else ""
    return [
        f"{scored}{left_out}. {settings['grid'].capitalize()}.",
        f"Rules of BraTS {settings['rules']}: both masks empty is Dice 1 and HD95 0 mm, one empty is Dice 0 and HD95 "
        f"{settings['empty_hd95_mm']:.2f} mm. HD95 as {settings['hd95_as']}. "
        f"Lesion by lesion it is the rules of 2023, {settings['lesion_penalty_mm']:.0f} mm for one missed or invented.",
        *([interval_in_words(summary["cases"], "the mean")] if summary["cases"] > 1 else []),
        *(f"{name.replace('_', ' ').capitalize()}: {cell(value)}." for name, value in summary["source"].items()),
    ]


def as_markdown(summary: Summary, pictures: Mapping[str, str]) -> str:
    """The text of `scores.md`.

    Args:
        pictures: file name by what it shows.
    """
    parts = [MARKDOWN_MARK, "# Scores\n", *(f"{markdown_text(sentence)}\n" for sentence in explanations(summary))]
    parts += [table.to_markdown() for table in score_tables(summary)]
    parts += [f"![{shown}]({file})\n" for shown, file in pictures.items()]
    return "\n".join(parts)


def _scores(summary: Summary, table: str) -> TextTable:
    """One of `TABLES`."""
    scores = [score for score in SCORES if score.table == table]
    columns = ["region", "cases"]
    for score in scores:
        columns += [score.heading or score.title_and_unit, *["median"] * score.with_median]
    rows = [
        [name, str(region["cases"]), *(text for score in scores for text in _cells(score, region[score.name]))]
        for name, region in _shown(summary)
    ]
    return TextTable(TABLES[table], columns, rows)


def _cells(score: Score, over_cases: Any) -> list[str]:
    if score.over_cases == "sum":
        return [str(over_cases)]
    interval = over_cases["interval"] if score.with_interval else None
    ends = f" [{', '.join(cell(end, score.decimals) for end in interval)}]" if interval else ""
    median = [cell(over_cases["median"], score.decimals)] if score.with_median else []
    return [f"{cell(over_cases['mean'], score.decimals)}{ends}", *median]


def _empty(summary: Summary) -> TextTable:
    rows = [
        [name, str(region["cases"]), *(str(region["empty"][kind]) for kind in EMPTY_KINDS)]
        for name, region in _shown(summary)
    ]
    columns = ["region", "cases", "both empty", "no prediction", "no reference", "no lesion"]
    return TextTable("Cases whose scores come from a rule, not a measurement", columns, rows)


def _worst(summary: Summary) -> TextTable:
    rows = [
        [name, worst["case"], cell(worst["dice"], 3), cell(worst["hd95_mm"], 1), worst["empty"]]
        for name, region in _shown(summary)
        if name in REGIONS
        for worst in region["worst"]
    ]
    columns = ["region", "case", "Dice", "HD95 mm", "empty mask"]
    return TextTable("Worst cases by Dice", columns, rows, words=["case", "empty mask"])


def _shown(summary: Summary) -> list[tuple[str, Mapping[str, Any]]]:
    """The regions, then the classes that are not a region too: enhancing tumour is shown once."""
    return [(name, region) for name, region in summary["regions"].items() if name in DISTINCT]


def post_processing_tables(content: Mapping[str, Any]) -> list[TextTable]:
    """What each step changes."""
    rows = [
        [
            name,
            *(cell(stage[f"{region}_dice"], 3) for region in ("wt", "tc", "et")),
            f"{stage['false_slice_share']:.1%}",
            *(cell(stage[volume], 2) for volume in ("invented_ml", "false_ml")),
            f"{stage['false_alarms']:.0f} of {stage['patients_without_tumour']:.0f}",
        ]
        for name, stage in content["after_each_step"].items()
    ]
    columns = ["after", "WT Dice", "TC", "ET", "false slices", "invented ml", "false ml", "false alarms"]
    lost = next(iter(content["after_each_step"].values()))["outside_window_share"]
    meanings = [
        ["false slices", "share of the axial slices without tumour that hold predicted tumour"],
        ["invented ml", "predicted on slices without tumour, mean over cases"],
        ["false ml", "predicted outside the true tumour on any slice, mean over cases"],
        ["false alarms", "patients without tumour in whom some is predicted"],
    ]
    return [
        TextTable("Post-processing, step by step", columns, rows),
        TextTable("What these columns count", ["column", "meaning"], meanings, words=["meaning"]),
        TextTable("Slice window", ["", "share"], [["true tumour outside the training window", f"{lost:.1%}"]]),
    ]


def _false_positives(stage: str, cases: Mapping[str, Mapping[str, Any]]) -> TextTable:
    """Case by case, worst first, and all together: counts summed, volumes averaged."""
    counts = ("slices_without_tumour", "false_slices")
    volumes = ("invented_ml", "false_ml", "tumour_ml", "outside_window_ml")
    worst_first = sorted(cases.items(), key=lambda entry: -entry[1]["invented_ml"])
    rows = [
        [case, *(cell(counted[name]) for name in counts), *(cell(counted[name], 2) for name in volumes)]
        for case, counted in worst_first
    ]
    total = [cell(sum(counted[name] for counted in cases.values())) for name in counts]
    mean = [cell(sum(counted[name] for counted in cases.values()) / len(cases), 2) for name in volumes]
    columns = ["case", "slices without tumour", "false", "invented ml", "false ml", "tumour ml", "outside window ml"]
    rows.append([f"{len(cases)} cases: sum, mean ml", *total, *mean])
    return TextTable(f"False positives {stage.replace('_', ' ')}", columns, rows)


SECTION_TABLES = {
    "study": study_tables,
    "post_processing": post_processing_tables,
    "false_positives": lambda stages: [_false_positives(stage, cases) for stage, cases in stages.items() if cases],
}
"""The sections that an evaluation may add to its summary, and how each is shown."""
