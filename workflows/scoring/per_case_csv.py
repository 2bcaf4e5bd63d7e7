"""The rows of `per_case.csv`: the scores of one case and region each."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from workflows.files.text_files import write_text
from workflows.messages.errors import DatasetError
from workflows.scoring.score_case import EMPTY_MASKS, Rules, score_case
from workflows.scoring.score_list import SCORES
from workflows.scoring.surface_distances import Definition

PER_CASE_FILE = "per_case.csv"

COLUMNS = ("case", "region", *(score.name for score in SCORES), "empty")
"""Of `per_case.csv`; `empty` is one of `EMPTY_MASKS`."""

NEWER = {score.name for score in SCORES if score.since}
"""The columns that a table of an older version may lack."""

SUMMED = {score.name for score in SCORES if score.over_cases == "sum"}
Row = Mapping[str, Any]


def rows_of_case(
    case_id: str,
    prediction: NDArray[Any],
    reference: NDArray[Any],
    spacing_mm: Sequence[float],
    rules: Rules = "2020",
    hd95: Definition = "brats",
) -> list[dict[str, Any]]:
    """One row per region and class, in the order of `SCORED`; arguments as for `score_case`.

    Raises:
        DatasetError: naming the case, where `score_case` refuses it.
    """
    try:
        scores = score_case(prediction, reference, spacing_mm, rules, hd95)
    except ValueError as error:
        raise DatasetError(f"{case_id}: {error}") from error
    return [
        {"case": case_id, "region": region, **of_region, "empty": of_region.empty_mask}
        for region, of_region in scores.items()
    ]


def write_rows(rows: Iterable[Row], path: Path, columns: Sequence[str] = COLUMNS) -> None:
    """Write `per_case.csv`, or another table, whole or not at all; figures keep all their digits."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a `per_case.csv`, figures as numbers; an older one may lack columns of `NEWER`.

    Raises:
        DatasetError: if it cannot be read, lacks a column, holds no number for a figure, or repeats a case and region.
    """
    try:
        with path.open(encoding="utf-8", newline="") as table:
            reader = csv.DictReader(table)
            columns = [name for name in COLUMNS if name not in NEWER or name in (reader.fieldnames or ())]
            rows = [_checked(row, columns, path, reader.line_num) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path}: cannot be read as a table of scores ({error}).") from error
    if not rows:
        raise DatasetError(f"{path}: holds no scores; evaluate again.")
    (case, region), times = Counter((row["case"], row["region"]) for row in rows).most_common(1)[0]
    if times > 1:
        raise DatasetError(f"{path}: holds {region} of {case} twice.")
    return rows


def _checked(row: Mapping[str, str], columns: Sequence[str], path: Path, line: int) -> dict[str, Any]:
    if missing := [name for name in columns if row.get(name) is None]:
        raise DatasetError(f"{path}, line {line}: has no {', '.join(missing)}; evaluate again to get every column.")
    try:
        return {name: _figure(name, row[name]) for name in columns}
    except ValueError as error:
        raise DatasetError(f"{path}, line {line}: {error}.") from error


def _figure(name: str, text: str) -> Any:
    if name == "empty" and text not in EMPTY_MASKS:
        raise ValueError(f"{text!r} under empty is not one of {', '.join(EMPTY_MASKS)}")
    if name in ("case", "region", "empty"):
        return text
    figure = int(text) if name in SUMMED else float(text)
    if not math.isfinite(figure):
        raise ValueError(f"{text!r} under {name} is not a finite number")
    return figure
