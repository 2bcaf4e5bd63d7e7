"""What `evaluate` shows of its summary: tables for the terminal and for `scores.md`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transforms.files import MARKDOWN_MARK
from transforms.labels import REGIONS
from workflows.evaluation.postprocessing_tables import SECTION_TABLES
from workflows.messages.text_tables import TextTable, cell, markdown_text, tables_of
from workflows.scoring.score_case import DISTINCT
from workflows.scoring.score_list import SCORES, TABLES, Score
from workflows.scoring.statistics import interval_in_words

OWN_ENTRIES = {
    "schema_version",
    "cases",
    "skipped",
    "settings",
    "source",
    "mean_dice",
    "regions",
    "interval",
}
"""The entries of a summary that are always there; all others are sections that an evaluation added."""

EMPTY_KINDS = ("both_empty", "prediction_empty", "reference_empty", "no_lesion_scored")

Summary = Mapping[str, Any]


def score_tables(summary: Summary) -> list[TextTable]:
    """Every table of a summary, in the order of reading."""
    tables = [*(_scores(summary, table) for table in TABLES), _empty(summary), _worst(summary)]
    if summary["skipped"]:
        rows = [[skipped["case"], skipped["reason"]] for skipped in summary["skipped"]]
        tables.append(TextTable("Left out", ["case", "why"], rows, words=["why"]))
    for name, content in summary.items():
        if name in SECTION_TABLES:
            tables += SECTION_TABLES[name](content)
        elif name not in OWN_ENTRIES:
            tables += tables_of(name.replace("_", " ").capitalize(), content)
    return tables


def explanations(summary: Summary) -> list[str]:
    """What the figures are of, in sentences."""
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


def print_summary(summary: Summary) -> None:
    """Tables and sentences, on the terminal."""
    for table in score_tables(summary):
        table.print()
    print("\n".join(explanations(summary)))


def _scores(summary: Summary, table: str) -> TextTable:
    """One of `TABLES`."""
    scores = [score for score in SCORES if score.table == table]
    headings = [heading for score in scores for heading in _headings(score)]
    rows = [
        [*_region(name, of), *(text for score in scores for text in _cells(score, of[score.name]))]
        for name, of in _shown(summary)
    ]
    return TextTable(TABLES[table], ["region", "cases", *headings], rows)


def _headings(score: Score) -> list[str]:
    return [score.heading or score.title_and_unit, *(["median"] if score.with_median else [])]


def _cells(score: Score, over_cases: Any) -> list[str]:
    if score.over_cases == "sum":
        return [str(over_cases)]
    interval = over_cases["interval"] if score.with_interval else None
    ends = f" [{', '.join(cell(end, score.decimals) for end in interval)}]" if interval else ""
    median = [cell(over_cases["median"], score.decimals)] if score.with_median else []
    return [f"{cell(over_cases['mean'], score.decimals)}{ends}", *median]


def _empty(summary: Summary) -> TextTable:
    rows = [[*_region(name, of), *(str(of["empty"][kind]) for kind in EMPTY_KINDS)] for name, of in _shown(summary)]
    columns = ["region", "cases", "both empty", "no prediction", "no reference", "no lesion"]
    return TextTable("Cases whose scores come from a rule, not a measurement", columns, rows)


def _worst(summary: Summary) -> TextTable:
    rows = [
        [name, worst["case"], cell(worst["dice"], 3), cell(worst["hd95_mm"], 1), worst["empty"]]
        for name, of in _shown(summary)
        if name in REGIONS
        for worst in of["worst"]
    ]
    return TextTable(
        "Worst cases by Dice", ["region", "case", "Dice", "HD95 mm", "empty mask"], rows, words=["case", "empty mask"]
    )


def _shown(summary: Summary) -> list[tuple[str, Mapping[str, Any]]]:
    """The regions, then the classes that are none of them: enhancing tumour is both."""
    return [(name, of) for name, of in summary["regions"].items() if name in DISTINCT]


def _region(name: str, of: Mapping[str, Any]) -> list[str]:
    return [name, str(of["cases"])]
