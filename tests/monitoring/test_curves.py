"""The curves of a run, from its log."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from PIL import Image

from tests.support import Run, Started
from workflows.messages.errors import ConfigurationError
from workflows.monitoring.curves import PANELS, best_epoch, curves_figure, draw_curves, read_log

Row = dict[str, float]


def rows_with(**columns: list[float]) -> list[Row]:
    """One row per value; the columns that are not named are 0.5 throughout."""
    count = len(next(iter(columns.values())))
    names = [*PANELS, *(f"val_{name}" for name in PANELS)]
    return [
        {"epoch": number + 1, **dict.fromkeys(names, 0.5), **{name: values[number] for name, values in columns.items()}}
        for number in range(count)
    ]


def drawn(figure: Figure, panel: str) -> dict[str, list[tuple[float, float]]]:
    """The points of each line of a panel, by its label."""
    axes = figure.axes[list(PANELS).index(panel)]
    return {str(line.get_label()): list(zip(*line.get_data(), strict=True)) for line in axes.get_lines()}


def test_the_best_epoch_is_the_first_with_the_highest_mean_of_the_regions():
    rows = rows_with(val_wt_dice=[0.1, 0.9, 0.9, 0.2], val_tc_dice=[0.9, 0.4, 0.4, 0.2])
    assert best_epoch(rows) == 2


def test_of_a_loss_the_lowest_is_best_and_an_epoch_without_validation_never_is():
    assert best_epoch(rows_with(val_loss=[3.0, math.nan, 1.0, 2.0]), "val_loss", lowest=True) == 3
    assert best_epoch(rows_with(val_loss=[math.nan, math.nan]), "val_loss", lowest=True) is None


def test_training_and_validation_are_drawn_as_logged_and_the_best_epoch_is_marked():
    figure = curves_figure(rows_with(loss=[2, 1, 0.5], val_loss=[3, math.nan, 2.5]), best=3)
    lines = drawn(figure, "loss")
    assert lines["training"] == [(1, 2), (2, 1), (3, 0.5)]
    assert lines["validation"] == [(1, 3), (3, 2.5)]
    assert [x for x, _ in lines["best epoch, 3"]] == [3, 3]
    assert figure.axes[list(PANELS).index("loss")].get_title(loc="right") == "2.500"


def test_the_four_figures_of_the_study_come_first():
    assert list(PANELS)[:4] == ["accuracy", "loss", "study_dice", "study_mean_iou"]


def test_a_run_ends_with_its_curves_and_the_command_draws_the_same(
    tiny_run: Run, command: Callable[..., Started], tmp_path: Path
):
    out = tmp_path / "new" / "again.png"
    ended = command("curves", tiny_run.folder, "--out", out)
    assert (ended.status, ended.stdout) == (0, f"{out}\n"), ended.stderr
    with Image.open(out) as again, Image.open(tiny_run.folder / "curves.png") as curves:
        assert again.size == curves.size
        assert again.tobytes() == curves.tobytes()


def test_the_curves_of_a_run_mark_the_epoch_whose_weights_were_kept(tiny_run: Run, tmp_path: Path):
    with (tiny_run.folder / "training.log").open() as log:
        means = [sum(float(row[f"val_{name}_dice"]) for name in ("wt", "tc", "et")) for row in csv.DictReader(log)]
    assert best_epoch(read_log(tiny_run.folder / "training.log")) == means.index(max(means)) + 1


def test_a_run_by_loss_marks_the_epoch_of_the_lowest_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    rows = rows_with(val_loss=[1.0, 0.2, 0.6], val_wt_dice=[0.1, 0.2, 0.9])
    with (tmp_path / "training.log").open("w", newline="") as log:
        writer = csv.DictWriter(log, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    (tmp_path / "config.json").write_text('{"best_figure": "val_loss", "best_is_lowest": true}')
    marked = []
    monkeypatch.setattr("workflows.monitoring.curves.curves_figure", lambda rows, best: marked.append(best) or Figure())
    draw_curves(tmp_path)
    assert marked == [2]
    assert (tmp_path / "curves.png").exists()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "no such file; name the folder of a run"),
        ("", "is no training log; it has no column"),
        ("epoch,loss\n1,2\n", "it has no column accuracy, et_dice"),
        (",".join(("epoch", *PANELS)) + "\n", "holds no epoch yet"),
        (",".join(("epoch", *PANELS)) + "\n1,a,2,3,4,5,6,7\n", "line 2: is no row of figures"),
        (",".join(("epoch", *PANELS)) + "\n1,2,3,4,5,6,7,8,9\n", "line 2: is no row of figures"),
    ],
)
def test_what_is_no_log_ends_in_one_line_and_leaves_no_picture(content: str | None, complaint: str, tmp_path: Path):
    if content is not None:
        (tmp_path / "training.log").write_text(content)
    with pytest.raises(ConfigurationError, match=complaint):
        draw_curves(tmp_path)
    assert not (tmp_path / "curves.png").exists()
