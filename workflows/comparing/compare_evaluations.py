"""Two evaluations of the same cases: what differs, case by case, and whether that is more than chance."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from transforms.files import MARKDOWN_MARK
from workflows.evaluation.output_files import SUMMARY_FILE
from workflows.files.json_files import write_json
from workflows.files.outputs import check_outputs
from workflows.files.text_files import write_text
from workflows.messages.errors import DatasetError
from workflows.messages.text_tables import TextTable, cell
from workflows.scoring.per_case_csv import PER_CASE_FILE, read_rows
from workflows.scoring.score_case import DISTINCT
from workflows.scoring.score_list import IN_SUMMARY, SCORES
from workflows.scoring.statistics import INTERVAL_METHOD, interval_in_words, mean_interval

COMPARED = tuple(score for score in IN_SUMMARY if score.compared)
FEWEST_FOR_WILCOXON = 6  # with five pairs that differ the smallest two-sided p is 2 / 2**5, above 0.05
SAME_VOLUME_ML = 1e-6
DECIMALS = 12  # differences closer than this are ties, not rounding

Rows = dict[tuple[str, str], dict[str, Any]]  # by case and region


def compare_runs(run_a: Path, run_b: Path, out: Path | None = None) -> dict[str, Any]:
    """Compare, print, and write as .md or .json where `out` is named.

    Raises:
        DatasetError: as `compare`.
        ConfigurationError: if `out` is somebody else's file.
    """
    if out:
        check_outputs([out])
    compared = compare(run_a, run_b)
    tables = tables_of(compared)
    for table in tables:
        table.print()
    sentences = sentences_of(compared)
    print("\n".join(sentences))
    if out and out.suffix == ".json":
        write_json(compared, out)
    elif out:
        shown = (table.to_markdown().rstrip() for table in tables)
        parts = [MARKDOWN_MARK.rstrip(), "# Comparison", *sentences, *shown]
        write_text(out, "\n\n".join(parts) + "\n")
    return compared


def compare(run_a: Path, run_b: Path) -> dict[str, Any]:
    """The paired differences, B minus A, of every region and score over the cases that both hold.

    A score whose column one table lacks, since an older version wrote it, is left out. For the runs see `find_scores`.

    Raises:
        DatasetError: if one holds no scores, they share no case, or they were scored by different rules or against
            different references.
    """
    files = [find_scores(run) for run in (run_a, run_b)]
    rows_a, rows_b = ({(row["case"], row["region"]): row for row in read_rows(file)} for file in files)
    _refuse_other_settings(files)
    shared = [key for key in rows_a if key in rows_b]
    if not shared:
        raise DatasetError(f"{files[0]} and {files[1]} share no case; compare evaluations of the same cases.")
    _refuse_other_references(rows_a, rows_b, shared)
    cases = {case for case, _ in shared}
    names, both = [score.name for score in COMPARED], (rows_a, rows_b)
    missing_a, missing_b = ([n for n in names if not all(n in row for row in rows.values())] for rows in both)
    scores = [score for score in COMPARED if score.name not in {*missing_a, *missing_b}]
    pairs: dict[str, list[tuple[dict[str, Any], dict[str, Any]]]] = defaultdict(list)
    for key in shared:
        pairs[key[1]].append((rows_a[key], rows_b[key]))
    regions = {
        region: {s.name: paired([(a[s.name], b[s.name]) for a, b in both], s.better == "lower") for s in scores}
        for region, both in pairs.items()
    }
    return {
        "a": str(files[0].parent.resolve()),
        "b": str(files[1].parent.resolve()),
        "cases": len(cases),
        "only_in_a": sorted({case for case, _ in rows_a} - cases),
        "only_in_b": sorted({case for case, _ in rows_b} - cases),
        "not_scored_in_a": missing_a,
        "not_scored_in_b": missing_b,
        "regions": regions,
        "interval": {**INTERVAL_METHOD, "of": "the mean difference over cases"},
        "test": "Wilcoxon signed-rank, two-sided, equal pairs left out (scipy.stats.wilcoxon); "
        "p values are not corrected for their number",
    }


def paired(pairs: Sequence[tuple[float, float]], less_is_better: bool) -> dict[str, Any]:
    """Statistics of B minus A; neither the order of the pairs nor rounding in the last digits changes them."""
    a, b = (np.array([pair[side] for pair in pairs], dtype=float) for side in (0, 1))
    differences = np.sort((b - a).round(DECIMALS))
    better = np.count_nonzero(differences < 0 if less_is_better else differences > 0)
    changed = np.count_nonzero(differences)
    return {
        "cases": len(pairs),
        "mean_a": math.fsum(a) / len(a),
        "mean_b": math.fsum(b) / len(b),
        "mean_difference": math.fsum(differences) / len(differences),
        "median_difference": float(np.median(differences)),
        "interval": mean_interval(differences),
        "b_better": int(better),
        "b_worse": int(changed - better),
        "equal": int(len(pairs) - changed),
        **wilcoxon_test(differences[differences != 0]),
    }


def wilcoxon_test(differences: Any) -> dict[str, Any]:
    """The p value of differences (N,), none of them 0; None and the reason where too few differ for a p below 0.05."""
    if len(differences) < FEWEST_FOR_WILCOXON:
        few = f"{len(differences)} pairs differ, fewer than {FEWEST_FOR_WILCOXON} cannot reach 0.05"
        return {"p": None, "no_p_because": few if len(differences) else "all pairs are equal"}
    from scipy.stats import wilcoxon

    return {"p": float(wilcoxon(differences).pvalue), "no_p_because": None}


def find_scores(run: Path) -> Path:
    """The file, or the `per_case.csv` in a folder, or the only one in the folders in it.

    Raises:
        DatasetError: if there is none, or more than one.
    """
    if run.is_file():
        return run
    if not run.is_dir():
        raise DatasetError(f"{run}: no such folder.")
    found = [run / PER_CASE_FILE] if (run / PER_CASE_FILE).is_file() else sorted(run.glob(f"*/{PER_CASE_FILE}"))
    if not found:
        first = f"run  brats-unet evaluate  first, with --out {run}/scores"
        raise DatasetError(f"{run}: holds no {PER_CASE_FILE}; {first}.")
    if len(found) > 1:
        folders = ", ".join(str(file.parent) for file in found)
        raise DatasetError(f"{run}: holds {len(found)} evaluations; name one: {folders}.")
    return found[0]


def _refuse_other_settings(files: Sequence[Path]) -> None:
    settings = [_settings_beside(file) for file in files]
    for name in ("rules", "hd95"):
        a, b = (of_one.get(name) for of_one in settings)
        if a and b and a != b:
            scored = f"{files[0].parent} was scored with --{name} {a}, {files[1].parent} with --{name} {b}"
            raise DatasetError(f"{scored}; score both alike.")


def _settings_beside(file: Path) -> Mapping[str, Any]:
    try:
        summary = json.loads((file.parent / SUMMARY_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    settings = summary.get("settings") if isinstance(summary, dict) else None
    return settings if isinstance(settings, dict) else {}


def _refuse_other_references(rows_a: Rows, rows_b: Rows, shared: Sequence[tuple[str, str]]) -> None:
    for case, region in shared:
        a, b = (rows[case, region]["reference_ml"] for rows in (rows_a, rows_b))
        if not math.isclose(a, b, rel_tol=1e-6, abs_tol=SAME_VOLUME_ML):
            raise DatasetError(
                f"{case}: its reference has {a:g} ml of {region} in one evaluation and {b:g} ml in the other; "
                "compare scores against the same references."
            )


def tables_of(compared: Mapping[str, Any]) -> list[TextTable]:
    """One table for each score that is compared in one and that both sides have."""
    missing = {*compared["not_scored_in_a"], *compared["not_scored_in_b"]}
    columns = ["region", "n", "A", "B", "B − A", "won, lost, tied", "p"]
    regions = {name: scores for name, scores in compared["regions"].items() if name in DISTINCT}
    return [
        TextTable(
            score.title_and_unit,
            columns,
            [_table_row(name, scores[score.name], score.decimals) for name, scores in regions.items()],
        )
        for score in SCORES
        if score.compared == "table" and score.name not in missing
    ]


def _table_row(region: str, figures: Mapping[str, Any], digits: int) -> list[str]:
    interval = f" [{', '.join(f'{end:.{digits}f}' for end in figures['interval'])}]" if figures["interval"] else ""
    return [
        *(region, str(figures["cases"])),
        *(cell(figures[mean], digits) for mean in ("mean_a", "mean_b")),
        f"{figures['mean_difference']:+.{digits}f}{interval}",
        f"{figures['b_better']}, {figures['b_worse']}, {figures['equal']}",
        cell(figures["p"], 3),
    ]


def sentences_of(compared: Mapping[str, Any]) -> list[str]:
    """What was compared, and how to read the tables."""
    lines = [
        f"A: {compared['a']}",
        f"B: {compared['b']}",
        f"Means over the cases that both scored (n = {compared['cases']}).",
        *([interval_in_words(compared["cases"], "the mean difference")] if compared["cases"] > 1 else []),
        "Won: cases in which B is the better one; for HD95 that is the smaller one.",
        f"p: {compared['test']}; none where fewer than {FEWEST_FOR_WILCOXON} pairs differ, which cannot reach 0.05.",
    ]
    for side in ("a", "b"):
        if only := compared[f"only_in_{side}"]:
            lines.append(f"Not compared, since only {side.upper()} scored them ({len(only)}): {', '.join(only)}.")
        if missing := compared[f"not_scored_in_{side}"]:
            lines.append(f"Left out, since the older table of {side.upper()} has no such column: {', '.join(missing)}.")
    return lines
