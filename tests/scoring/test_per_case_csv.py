"""`per_case.csv`: what is written is what is read, and what cannot be read is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from transforms.labels import OEDEMA
from workflows.messages.errors import DatasetError
from workflows.scoring.per_case_csv import COLUMNS, read_rows, rows_of_case, write_rows
from workflows.scoring.score_case import SCORED

MILLIMETRE = (1.0, 1.0, 1.0)
HERE = (1, 1, 1)


def oedema_at(*corners: tuple[int, int, int]) -> np.ndarray:
    array = np.zeros((6, 6, 6), np.uint8)
    for corner in corners:
        array[corner] = OEDEMA
    return array


def rows(case: str = "P1") -> list[dict[str, object]]:
    return rows_of_case(case, oedema_at((1, 1, 1), (1, 1, 2), (1, 1, 3)), oedema_at((1, 1, 3)), MILLIMETRE)


def test_a_case_has_a_row_per_region_and_class_with_the_columns_in_order():
    assert [row["region"] for row in rows()] == list(SCORED)
    assert all(list(row) == list(COLUMNS) for row in rows())
    assert {row["case"] for row in rows()} == {"P1"}


def test_of_three_predicted_voxels_one_is_right():
    whole = rows()[0]
    assert (whole["dice"], whole["iou"], whole["sensitivity"]) == (2 / 4, 1 / 3, 1)
    assert (whole["volume_ml"], whole["reference_ml"], whole["volume_error_ml"]) == (0.003, 0.001, 0.002)


@pytest.mark.parametrize(
    ("prediction", "reference", "empty"),
    [([HERE], [HERE], "no"), ([], [], "both"), ([], [HERE], "prediction"), ([HERE], [], "reference")],
)
def test_a_row_says_which_mask_is_empty(prediction: list, reference: list, empty: str):
    by_region = {
        row["region"]: row["empty"]
        for row in rows_of_case("P1", oedema_at(*prediction), oedema_at(*reference), MILLIMETRE)
    }
    assert by_region["WT"] == by_region["oedema"] == empty
    assert by_region["TC"] == by_region["ET"] == "both"  # there is oedema only


def test_a_case_that_cannot_be_scored_is_named():
    with pytest.raises(DatasetError, match=r"^P1: the prediction holds 4; class indices go from 0 to 3"):
        rows_of_case("P1", 2 * oedema_at((0, 0, 0)), oedema_at(), MILLIMETRE)


def test_the_file_gives_back_every_digit(tmp_path: Path):
    written = [*rows("P1"), *rows('a, "quoted" = name')]
    write_rows(written, tmp_path / "new" / "per_case.csv")
    assert read_rows(tmp_path / "new" / "per_case.csv") == written


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: "", "holds no scores"),
        (lambda text: text.splitlines()[0] + "\n", "holds no scores"),
        (lambda text: text.replace("lesion_dice", "other"), "line 2: has no lesion_dice; evaluate again"),
        (lambda text: text.replace("0.5", "high", 1), "line 2: could not convert string to float: 'high'"),
        (lambda text: text.replace("0.5", "nan", 1), "line 2: 'nan' under dice is not a finite number"),
        (lambda text: text.replace(",no\n", ",maybe\n", 1), "line 2: 'maybe' under empty is not one of no, both"),
        (lambda text: text + text.splitlines()[-1] + "\n", "holds enhancing tumour of P1 twice"),
        (lambda text: text[: len(text) // 2], "has no "),
    ],
)
def test_a_damaged_table_is_named_with_its_line(change, message: str, tmp_path: Path):
    file = tmp_path / "per_case.csv"
    write_rows(rows(), file)
    file.write_text(change(file.read_text()))
    with pytest.raises(DatasetError, match=message) as refused:
        read_rows(file)
    assert str(file) in str(refused.value)


def test_a_missing_table_is_named(tmp_path: Path):
    with pytest.raises(DatasetError, match=r"missing\.csv: cannot be read"):
        read_rows(tmp_path / "missing.csv")
