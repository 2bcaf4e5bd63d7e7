"""Networks under one budget: what is measured, what is refused, what is written and what is not done twice."""

from __future__ import annotations

import csv
import json
import mmap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from ignite.engine import Engine
from matplotlib.image import imread

from tests.support import REPOSITORY, Run, Started, listing
from workflows.comparing.compare_networks import Conditions, compare_networks, epochs_within
from workflows.comparing.network_costs import FIRST_STEPS, STEPS, StepCosts, peak_memory, seconds_per_step
from workflows.comparing.network_figures import COLOURS, MARKERS, draw_networks, look
from workflows.comparing.network_tables import COLUMNS, notes, print_table, table_of, write_tables
from workflows.messages.errors import ConfigurationError

Command = Callable[..., Started]

# ---------------------------------------------------------------------------------------------------------------------
# The budget


def test_nine_minutes_are_ten_epochs_of_fifty_steps_of_a_second_and_one_where_not_one_fits():
    assert epochs_within(9, steps_per_epoch=50, seconds_per_step=1.0) == 10
    assert epochs_within(9, steps_per_epoch=50, seconds_per_step=1.09) == 9
    assert epochs_within(9, steps_per_epoch=50, seconds_per_step=60.0) == 1


def test_the_first_two_steps_and_a_slow_one_do_not_count():
    assert seconds_per_step([0, 10, 15, 16, 17, 30, 31]) == 1
    assert seconds_per_step([0, 10, 14]) == 7  # there are no others


def test_a_warm_up_ends_after_a_dozen_measured_steps(tmp_path: Path):
    import torch

    costs = StepCosts(tmp_path / "steps.json", torch.nn.Linear(2, 3), "cpu")
    engine = Engine(lambda engine, batch: None)
    costs.attach(engine)
    engine.run(range(5), max_epochs=100)
    assert engine.state.iteration == FIRST_STEPS + STEPS == 14


def test_memory_that_was_held_once_counts_for_ever():
    process = psutil.Process()
    with mmap.mmap(-1, 400_000_000) as held:  # which Python's allocator might keep
        held.write(b"1" * 400_000_000)
        with_it = process.memory_info().rss
    without_it = process.memory_info().rss
    assert without_it < with_it - 300_000_000
    inexact = 2_000_000  # Linux adds up what each thread has counted only now and then, see proc_pid_status(5)
    assert peak_memory()["memory_gb"] * 1e9 >= with_it - inexact


# ---------------------------------------------------------------------------------------------------------------------
# What is refused before any work


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--networks", "unet4d"), "no overlay 'unet4d'; there are attention_unet, axial, basic_unet"),
        (
            ("--networks", "unet2d,resume"),
            "resume: is no network; it has no network_def. Choose from packed_unet",
        ),
        (("--minutes", 0), "minutes is 0.0; it must be greater than 0."),
        (("--section", "training"), "section is 'training'; choose from validation, testing."),
        (("--max_epoch", 3), "no setting is called 'max_epoch'; did you mean max_epochs?"),
        (("--max_epochs", 3), "max_epochs: the comparison decides this for each network; leave it out."),
        (("--split", "nowhere.json"), "nowhere.json: no such file; make one by  brats-unet split."),
    ],
)
def test_what_cannot_be_meant_is_one_line_and_nothing_is_written(
    arguments: tuple[object, ...], said: str, command: Command, phantom_dir: Path, tmp_path: Path
):
    ended = command("compare-networks", "--dataset-dir", phantom_dir, "--out", tmp_path / "out", *arguments)
    assert ended.status == 1
    assert ended.last_line.startswith(f"error: {said}")
    assert list(tmp_path.iterdir()) == []


def test_two_networks_of_one_name_are_refused(tmp_path: Path, phantom_dir: Path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.json").write_text('{"network_def": {}}')
    mine = [str(tmp_path / folder / "mine.json") for folder in ("a", "b")]
    with pytest.raises(ConfigurationError, match=r"b/mine.json and .*a/mine.json have one name; rename one"):
        compare_networks(phantom_dir, tmp_path / "out", mine)


def test_a_folder_keeps_to_its_settings(tmp_path: Path, phantom_dir: Path, tiny_run: Run):
    """A network that cannot be built fails at once, but its comparison has begun."""
    mine = tmp_path / "mine.json"
    mine.write_text('{"network_def": {"_target_": "NoSuchNet"}}')
    split, out = tiny_run.folder / "split.json", tmp_path / "out"
    with pytest.raises(ConfigurationError, match=r"1 of 1 networks failed; .*\n  mine: network_def: no network"):
        compare_networks(phantom_dir, out, [str(mine)], split, Conditions(minutes=1))
    with pytest.raises(ConfigurationError, match=r"other settings \(minutes 1 → 2\); name another --out"):
        compare_networks(phantom_dir, out, [str(mine)], split, Conditions(minutes=2))
    other = tmp_path / "other.json"
    other.write_text(split.read_text() + "\n")
    with pytest.raises(ConfigurationError, match="holds a comparison on another split"):
        compare_networks(phantom_dir, out, [str(mine)], other, Conditions(minutes=1))


# ---------------------------------------------------------------------------------------------------------------------
# What is written


def row(name: str, dice: float, millions: float = 1.0, **changes: Any) -> dict[str, Any]:
    regions = {f"{region}_dice": dice for region in ("wt", "tc", "et")}
    figures = {
        "network": name,
        "parameters": int(millions * 1e6),
        "epochs": 10,
        "steps_per_epoch": 47,
        "seconds_per_step": 1.125,
        "seconds_are": "CPU",
        "training_minutes": 9.96,
        "training_wall_minutes": 12.0,
        "training_gb": 1.2 * millions,
        "prediction_seconds": 4.04 * millions,
        "prediction_gb": 2.5,
        "cases": 2,
        "mean_dice": dice,
        **regions,
        "wt_hd95_mm": 5.25,
        "tc_hd95_mm": 6.0,
        "et_hd95_mm": 373.13,
        "by_case": {"A": dict.fromkeys(("WT", "TC", "ET"), dice), "B": dict.fromkeys(("WT", "TC", "ET"), dice / 2)},
    }
    assert set(COLUMNS) == set(figures) - {"by_case"}
    return {**figures, **changes}


def test_the_table_begins_with_the_best_mean_dice():
    table = table_of([row("small", 0.5, 0.5), row("large", 0.625, 7.76)])
    assert table.rows[0] == [
        *("large", "7.76", "10", "10.0", "9.31", "31.4", "2.50"),
        *("0.625 / 0.625 / 0.625", "0.625", "5.2 / 6.0 / 373.1"),
    ]
    assert [cells[0] for cells in table.rows] == ["large", "small"]


def test_files_hold_all_networks_and_say_what_they_do_not_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    rows = [row("small", 0.5, 0.5), row("large", 0.625, 7.76)]
    write_tables(rows, {"minutes": 9, "section": "validation"}, tmp_path)
    with (tmp_path / "networks.csv").open() as file:
        table = list(csv.DictReader(file))
    assert tuple(table[0]) == COLUMNS
    assert [(line["network"], float(line["mean_dice"])) for line in table] == [("small", 0.5), ("large", 0.625)]
    written = json.loads((tmp_path / "networks.json").read_text())
    assert (written["minutes"], written["networks"]) == (9, rows)
    text = (tmp_path / "networks.md").read_text()
    assert "What this does not show: which network is best. It is one seed, one split and 2 cases" in text
    assert "in 9 minutes of processor time" in text and "](networks.png)" in text
    assert imread(tmp_path / "networks.png").std() > 0.05
    print_table(rows, tmp_path)
    assert "large" in capsys.readouterr().out


def test_on_a_gpu_the_minutes_are_those_of_the_clock():
    on_gpu = [row("small", 0.5, seconds_are="wall clock")]
    assert "training (wall clock min)" in table_of(on_gpu).columns
    assert "minutes of wall clock" in notes(on_gpu, {"minutes": 9, "section": "testing"})


def test_every_network_of_the_bundle_has_its_own_colour_and_shape(tmp_path: Path):
    from workflows.comparing.compare_networks import NETWORKS

    looks = [look(number) for number in range(len(COLOURS) * len(MARKERS))]
    assert len(set(looks)) == len(looks)
    for of_bundle in zip(*looks[: len(NETWORKS)], strict=True):
        assert len(set(of_bundle)) == len(NETWORKS)
    picture = draw_networks(
        [row(name, 0.7, 1 + n) for n, name in enumerate(NETWORKS)], tmp_path / "networks.png", "2 cases"
    )
    assert imread(picture).shape[1] > 1000


# ---------------------------------------------------------------------------------------------------------------------
# All of it


def small_networks(folder: Path) -> list[Path]:
    """A 2D and a 3D network of a few features, as overlays."""
    flat = json.loads((REPOSITORY / "bundle" / "configs" / "unet2d.json").read_text())
    flat["network_def"]["width"] = 4
    deep = json.loads((REPOSITORY / "bundle" / "configs" / "unet3d.json").read_text())
    deep["network_def"] |= {"slab": 16}
    deep["network_def"]["network"]["features"] = [2, 2, 4, 4, 8, 2]
    deep["slices_per_step"] = 32
    files = []
    for name, overlay in (("flat", flat), ("deep", deep)):
        files.append(folder / f"{name}.json")
        files[-1].write_text(json.dumps(overlay))
    return files


@pytest.mark.slow
def test_two_networks_one_of_them_3d_are_trained_scored_and_not_done_twice(
    tiny_run: Run, tmp_path: Path, command: Command
):
    out, files = tmp_path / "out", small_networks(tmp_path)
    arguments = (
        *("compare-networks", "--dataset-dir", tiny_run.data, "--out", out, "--split", tiny_run.folder / "split.json"),
        *("--networks", ",".join(map(str, files)), "--minutes", "0.01", "--input#size_px", 64, "--device", "cpu"),
        *("--config", "axial"),
    )
    ended = command(*arguments)
    assert ended.status == 0, ended.stderr
    with (out / "networks.csv").open() as file:
        rows = {line["network"]: line for line in csv.DictReader(file)}
    assert list(rows) == ["flat", "deep"]
    for name, line in rows.items():
        steps = json.loads((out / name / "steps.json").read_text())
        assert int(line["epochs"]) == epochs_within(0.01, steps["steps_per_epoch"], steps["seconds_per_step"])
        log = list(csv.DictReader((out / name / "run" / "training.log").open()))
        assert len(log) == int(line["epochs"])
        assert [bool(epoch["val_loss"]) for epoch in log] == [False] * (len(log) - 1) + [True]
        assert 0.1 < float(line["prediction_gb"]) < 20 and 0.1 < float(line["training_gb"]) < 20
        assert float(line["prediction_seconds"]) > 0 and float(line["training_minutes"]) > 0
    # Four slabs of 16 of each patient's 75 slices would leave some out, so there are five, two to a batch.
    cases = len(json.loads((tiny_run.folder / "split.json").read_text())["training"])
    assert json.loads((out / "deep" / "steps.json").read_text())["steps_per_epoch"] == -(-5 * cases // 2)

    # The scores are those of the command `evaluate`, and of the 3D network they do not hang on the size of batches.
    for name in rows:
        scores = tmp_path / f"{name}_scores"
        again = ("--checkpoint", out / name / "run" / "model.pt", "--section", "validation", "--out", scores)
        assert command("evaluate", *again, "--slices_per_batch", 16 if name == "flat" else 7).status == 0
        assert (scores / "per_case.csv").read_bytes() == (out / name / "scores" / "per_case.csv").read_bytes()

    before = {file: state for file, state in listing(out).items() if "/" in file}
    ended = command(*arguments)
    assert ended.status == 0 and ended.stdout.count("is there, skipped") == 2
    assert {file: state for file, state in listing(out).items() if "/" in file} == before
