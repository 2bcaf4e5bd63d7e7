"""Two evaluations against each other, by hand."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.scoring.test_statistics import row
from tests.support import Started
from workflows.comparing.compare_evaluations import compare, compare_runs, paired, wilcoxon_test
from workflows.evaluation.output_files import SUMMARY_FILE, summary_of
from workflows.files.json_files import write_json
from workflows.messages.errors import DatasetError
from workflows.scoring import per_case_csv
from workflows.scoring.per_case_csv import PER_CASE_FILE, write_rows

Command = Callable[..., Started]


def evaluation(folder: Path, dice: Mapping[str, float], hd95_mm: float = 5.0, **described: Any) -> Path:
    """The tables that `evaluate` writes, WT, TC and ET of equal scores."""
    reference_ml = described.pop("reference_ml", 10.0)
    rows = [
        row(case, region, dice=value, hd95_mm=hd95_mm, volume_ml=10.0, reference_ml=reference_ml)
        for case, value in dice.items()
        for region in ("WT", "TC", "ET")
    ]
    write_rows(rows, folder / PER_CASE_FILE)
    write_json(summary_of(rows, **{"rules": "2020", "hd95": "brats", "source": {}, **described}), folder / SUMMARY_FILE)
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    """B is better than A by 0.1 to 0.6 in six cases, worse by 0.7 in one and equal in one."""
    a = {f"P{n}": 0.2 for n in range(6)} | {"P6": 0.9, "P7": 0.5, "only A": 0.0}
    b = {f"P{n}": 0.2 + (n + 1) / 10 for n in range(6)} | {"P6": 0.2, "P7": 0.5}
    return evaluation(tmp_path / "a", a, 8.0), evaluation(tmp_path / "b", b, 5.0)


def test_differences_by_hand(runs: tuple[Path, Path]):
    compared = compare(*runs)
    assert compared["cases"] == 8 and compared["only_in_a"] == ["only A"] and compared["only_in_b"] == []
    dice = compared["regions"]["WT"]["dice"]
    assert dice["cases"] == 8
    assert dice["mean_a"] == pytest.approx((6 * 0.2 + 0.9 + 0.5) / 8)
    assert dice["mean_difference"] == pytest.approx((0.1 + 0.2 + 0.3 + 0.4 + 0.5 + 0.6 - 0.7) / 8)
    assert dice["median_difference"] == pytest.approx(0.25)
    assert (dice["b_better"], dice["b_worse"], dice["equal"]) == (6, 1, 1)
    low, high = dice["interval"]
    assert -0.7 < low < dice["mean_difference"] < high < 0.6
    # Ranks 1 to 7, the worse one has rank 7: of 128 signs, the sum is 7 or less in 19, twice for two sides.
    assert dice["p"] == pytest.approx(2 * 19 / 128)


def test_a_smaller_distance_is_the_better_one(runs: tuple[Path, Path]):
    hd95 = compare(*runs)["regions"]["ET"]["hd95_mm"]
    assert (hd95["b_better"], hd95["b_worse"], hd95["equal"]) == (8, 0, 0)
    assert hd95["mean_difference"] == -3 and hd95["interval"] is None  # the same in all


def test_the_other_way_round_changes_signs_and_sides_only(runs: tuple[Path, Path]):
    there, back = compare(*runs)["regions"]["WT"]["dice"], compare(*runs[::-1])["regions"]["WT"]["dice"]
    assert back["mean_difference"] == -there["mean_difference"] and back["p"] == there["p"]
    assert (back["b_better"], back["b_worse"]) == (there["b_worse"], there["b_better"])


def test_the_order_of_the_pairs_changes_nothing():
    pairs = [(a, b) for a, b in np.random.default_rng(0).random((20, 2))]
    assert paired(pairs[::-1], False) == paired(pairs, False)


def test_a_run_against_itself_is_equal_everywhere(runs: tuple[Path, Path]):
    dice = compare(runs[0], runs[0])["regions"]["WT"]["dice"]
    assert (dice["mean_difference"], dice["interval"], dice["equal"], dice["p"]) == (0, None, 9, None)
    assert dice["no_p_because"] == "all pairs are equal"


@pytest.mark.parametrize(("pairs", "p"), [(5, None), (6, 2 / 2**6)])
def test_five_pairs_that_differ_cannot_reach_five_percent_and_six_can(pairs: int, p: float | None):
    tested = wilcoxon_test(np.arange(1, pairs + 1) / 10)
    assert tested["p"] == (p if p is None else pytest.approx(p))
    assert (tested["no_p_because"] is None) == (p is not None)


def test_rounding_is_no_difference():
    equal = paired([(0.1 + 0.2, 0.3)] * 7, False)
    assert (equal["equal"], equal["b_better"], equal["b_worse"]) == (7, 0, 0)


def test_the_command_prints_and_writes_markdown_and_json(runs: tuple[Path, Path], command: Command, tmp_path: Path):
    ended = command("compare", *runs, "--out", tmp_path / "new" / "c.md")
    assert ended.status == 0, ended.stderr
    text = (tmp_path / "new" / "c.md").read_text()
    for shown in (text, ended.stdout):
        assert "(n = 8)" in shown and "only A" in shown and "+0.175" in shown and "6, 1, 1" in shown
        assert "not corrected" in shown
    row_of_wt = next(line for line in ended.stdout.splitlines() if line.startswith(" WT "))
    assert row_of_wt.endswith("]          6, 1, 1  0.297 ") and len(row_of_wt) <= 80  # not folded
    assert command("compare", *runs, "--out", tmp_path / "c.json").status == 0
    assert json.loads((tmp_path / "c.json").read_text()) == compare(*runs)


def test_a_run_folder_that_holds_one_evaluation_is_enough(runs: tuple[Path, Path], tmp_path: Path):
    for name, run in zip("ab", runs, strict=True):
        shutil.copytree(run, tmp_path / f"run {name}" / "scores")
    assert compare(tmp_path / "run a", tmp_path / "run b")["regions"] == compare(*runs)["regions"]


def refused(ended: Started) -> str:
    assert (ended.status, ended.stderr.count("\n"), ended.stdout) == (1, 1, ""), ended
    return ended.stderr.removeprefix("error: ").strip()


def test_what_cannot_be_compared_is_one_line(runs: tuple[Path, Path], command: Command, tmp_path: Path):
    a, b = runs
    (empty := tmp_path / "empty").mkdir()
    assert refused(command("compare", a, tmp_path / "none")) == f"{tmp_path / 'none'}: no such folder."
    assert refused(command("compare", a, empty)).startswith(f"{empty}: holds no per_case.csv; run  brats-unet evaluate")
    assert refused(command("compare", a, tmp_path)).startswith(f"{tmp_path}: holds 2 evaluations; name one: {a}, {b}.")
    other = evaluation(tmp_path / "others", {"Q1": 1.0})
    assert refused(command("compare", a, other)).endswith("share no case; compare evaluations of the same cases.")
    rules = evaluation(tmp_path / "rules", {"P1": 1.0}, rules="2023")
    assert refused(command("compare", a, rules)) == (
        f"{a} was scored with --rules 2020, {rules} with --rules 2023; score both alike."
    )
    references = evaluation(tmp_path / "references", {"P1": 1.0}, reference_ml=11.0)
    assert refused(command("compare", a, references)).startswith(
        "P1: its reference has 10 ml of WT in one evaluation and 11 ml in the other"
    )


def without_column(file: Path, name: str) -> None:
    """As an older version would have written it."""
    with file.open(newline="") as table:
        rows = list(csv.DictReader(table))
    with file.open("w", newline="") as table:
        writer = csv.DictWriter(table, [column for column in rows[0] if column != name], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def test_a_newer_score_that_an_older_table_lacks_is_left_out_and_named(
    runs: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(per_case_csv, "NEWER", {"lesion_dice"})
    whole = compare(*runs)
    without_column(runs[0] / PER_CASE_FILE, "lesion_dice")
    compared = compare_runs(*runs)
    assert (compared["not_scored_in_a"], compared["not_scored_in_b"]) == (["lesion_dice"], [])
    for region, scores in compared["regions"].items():
        assert scores == {name: of for name, of in whole["regions"][region].items() if name != "lesion_dice"}
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "lesion" in line] == [
        "Left out, since the older table of A has no such column: lesion_dice."
    ]
    without_column(runs[1] / PER_CASE_FILE, "lesion_dice")
    assert compare(*runs)["not_scored_in_b"] == ["lesion_dice"]


def test_a_newer_column_that_is_there_but_damaged_is_refused(runs: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(per_case_csv, "NEWER", {"dice"})
    file = runs[0] / PER_CASE_FILE
    file.write_text(file.read_text().replace("0.2", "high", 1))
    with pytest.raises(DatasetError, match=r"line 2: could not convert string to float: 'high'"):
        compare(*runs)
    file.write_text("case,region,dice\nP1,WT\n")  # the line ends before the column
    with pytest.raises(DatasetError, match=r"line 2: has no dice, "):
        compare(*runs)


def test_an_old_column_that_is_missing_is_refused(runs: tuple[Path, Path]):
    without_column(runs[0] / PER_CASE_FILE, "iou")
    with pytest.raises(DatasetError, match=r"line 2: has no iou; evaluate again to get every column"):
        compare(*runs)


def test_another_ending_is_wrong_usage(runs: tuple[Path, Path], command: Command, tmp_path: Path):
    ended = command("compare", *runs, "--out", tmp_path / "c.html")
    assert (ended.status, ended.stdout) == (2, "") and "Usage:" in ended.stderr
