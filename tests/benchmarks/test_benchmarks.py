"""The benchmarks of speed: what is measured, how it is compared, and the page it is written to."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from tests.support import REPOSITORY

CPU = torch.device("cpu")
PAGE = REPOSITORY / "docs" / "benchmarks.md"
SCRIPTS = (
    *("training_step", "memory", "first_epoch", "prediction", "runtimes", "startup"),
    "growth",
    "study_on_gpu",
    "ranks",
    "quality",
)


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports a script of benchmarks/ by its name."""
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))
    return __import__


@pytest.fixture
def measuring(benchmark: Any) -> ModuleType:
    return benchmark("measuring")


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """A copy of the page, that a benchmark may write to."""
    copy = tmp_path / "benchmarks.md"
    copy.write_text(PAGE.read_text())
    return copy


def run(module: ModuleType, monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", [str(module.__file__), *map(str, arguments)])
    module.main()


def section(page: Path, title: str) -> str:
    return page.read_text().partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def rows_of(text: str) -> dict[str, list[str]]:
    """The cells of a Markdown table by the first of each row."""
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return {first: rest for first, *rest in lines[2:]}


# ---------------------------------------------------------------------------------------------------------------------
# How ways are compared


def test_each_way_has_its_turn_before_any_has_its_second(measuring: ModuleType):
    called: list[str] = []
    ways = {name: (lambda name=name: called.append(name)) for name in "ab"}
    costs = measuring.in_turns(ways, 3, CPU)
    assert "".join(called) == "ab" + "ababab"  # the first of each is not measured
    assert {name: len(of) for name, of in costs.items()} == {"a": 3, "b": 3}


def test_sleeping_costs_wall_clock_and_computing_costs_both(measuring: ModuleType):
    def compute() -> None:
        end = time.process_time() + 0.1
        while time.process_time() < end:
            pass

    asleep, busy = (measuring.cost_of(work, CPU) for work in (lambda: time.sleep(0.1), compute))
    assert asleep.wall_s >= 0.1 > 0.05 > asleep.cpu_s
    assert busy.cpu_s >= 0.1 and busy.wall_s >= 0.09


def test_a_ratio_is_the_median_of_each_turns_own(measuring: ModuleType):
    cost = measuring.Cost
    slow = [cost(2, 4), cost(20, 40), cost(6, 3)]  # the machine was ten times slower in the second turn
    fast = [cost(1, 1), cost(10, 10), cost(2, 1)]
    assert measuring.median_ratio(slow, fast) == cost(2, 4)


def test_a_line_through_three_points_of_which_one_is_off(benchmark: Any):
    line = benchmark("cache_cost").line_through([0, 1, 2], [0, 1, 2])
    assert (line.slope, line.at_zero, line.off) == pytest.approx((1, 0, 0), abs=1e-9)
    bent = benchmark("cache_cost").line_through([0, 1, 2], [0, 0, 3])  # 1.5 x - 0.5, off by 1 in the middle
    assert (bent.slope, bent.at_zero, bent.off) == pytest.approx((1.5, -0.5, 1 / 3))


def epochs_of(benchmark: Any, *minutes: float) -> list[Any]:
    return [benchmark("quality").Epoch(at, Path(f"after-{at}")) for at in minutes]


def test_minutes_to_a_dice_are_those_of_the_first_epoch_that_reaches_it_and_later_ones_are_not_scored(benchmark: Any):
    dice, asked = {"after-1.0": 0.5, "after-2.0": 0.8, "after-3.0": 0.7}, []

    def score(weights: Path) -> dict[str, float]:
        asked.append(weights.name)
        return {"cleaned": dice[weights.name]}

    epochs, minutes_to = epochs_of(benchmark, 1.0, 2.0, 3.0), benchmark("quality").minutes_to
    assert [minutes_to(epochs, goal, "cleaned", score) for goal in (0.4, 0.6, 0.8, 0.9)] == [1.0, 2.0, 2.0, None]
    assert asked.count("after-3.0") == 1


def test_the_aim_is_a_share_of_what_the_plain_configuration_ends_with(benchmark: Any):
    dice = {2.0: 0.5, 4.0: 0.77, 6.0: 0.8, 1.0: 0.7, 3.0: 0.76}  # 0.95 of 0.8 is 0.76
    progress = {"plain": epochs_of(benchmark, 2.0, 4.0, 6.0), "ours, quick": epochs_of(benchmark, 1.0)}
    progress["ours"] = epochs_of(benchmark, 1.0, 3.0)

    def score(weights: Path) -> dict[str, float]:
        of = dice[float(weights.name.removeprefix("after-"))]
        return {"as it is": of, "cleaned": of + 0.1}  # 0.95 of 0.9 is 0.855

    rows, about = benchmark("quality").section(progress, 2, score)
    cells = [[cell.strip() for cell in row.split("|")[1:10]] for row in rows.splitlines()[2:]]
    assert cells == [
        ["plain", "3", "6.0", "0.800", "4.0", "1.00", "0.900", "4.0", "1.00"],
        ["ours, quick", "1", "1.0", "0.700", "not reached", "–", "0.800", "not reached", "–"],
        ["ours", "2", "3.0", "0.760", "3.0", "0.75", "0.860", "3.0", "0.75"],
    ]
    assert " ends with: 0.760 as it is and 0.855 cleaned, " in about


# ---------------------------------------------------------------------------------------------------------------------
# The baseline does what ours does


def test_both_caches_hold_the_same_patient_but_the_baseline_in_almost_five_times_the_memory(
    benchmark: Any, phantom_cases: list[dict[str, Any]]
):
    cost = benchmark("cache_cost")
    ours = cost.our_cache(phantom_cases[:1], 32)
    plain = cost.plain_cache(phantom_cases[:1], 32)
    assert cost.our_bytes(ours) == 75 * 32 * 32 * (2 * 2 + 1)
    assert cost.plain_bytes(plain) == 75 * 32 * 32 * (2 + 4) * 4
    mine, theirs = ours.case(0), plain[0]
    image = torch.as_tensor(theirs["image"]).permute(3, 0, 1, 2)
    near = (mine["image"].float() - image.clamp(-5, 5)).abs() < 0.01  # rounded to 16 bits
    assert near.float().mean() > 0.999
    label = torch.as_tensor(theirs["label"]).argmax(0).permute(2, 0, 1)
    same = mine["label"][:, 0] == label  # "nearest" rounds down where "nearest-exact" takes the centre
    assert same.float().mean() > 0.95 and mine["label"].any()


# ---------------------------------------------------------------------------------------------------------------------
# Every script runs, on a small scale, and writes its section


def test_the_page_has_a_section_for_every_script(benchmark: Any):
    titles = set(re.findall(r"^## (.+)$", PAGE.read_text(), re.MULTILINE))
    for name in SCRIPTS:
        source = (REPOSITORY / "benchmarks" / f"{name}.py").read_text()
        written = re.findall(r'publish\(\s*arguments,\s*"([^"]+)"', source)
        assert written and set(written) <= titles, name
    makefile = (REPOSITORY / "Makefile").read_text()
    assert f"BENCHMARKS := {' '.join(SCRIPTS[:-1])}\n" in makefile


def test_without_a_gpu_the_studys_figures_of_one_stay(
    benchmark: Any, monkeypatch: pytest.MonkeyPatch, page: Path, capsys: pytest.CaptureFixture[str]
):
    run(benchmark("study_on_gpu"), monkeypatch, "--device", "cpu", "--page", page)
    assert "unmeasured: no GPU is at hand" in capsys.readouterr().out
    assert page.read_text() == PAGE.read_text()


def test_the_operators_that_take_most_time_are_named_with_their_shares(benchmark: Any):
    taken = {f"aten::{name}": 1000.0 * weight for weight, name in enumerate("abcdefgh", start=1)}
    assert benchmark("study_on_gpu").in_words(taken, steps=10, device="GPU") == (
        "By torch's profiler of 10 steps the GPU works 3.6 ms in each: h 22%, g 19%, f 17%, e 14%, d 11%, c 8%."
    )


@pytest.mark.slow
def test_the_studys_setting_is_measured_on_a_small_scale(
    benchmark: Any, monkeypatch: pytest.MonkeyPatch, page: Path, tmp_path: Path
):
    small = ("--patients", 2, 1, "--epochs", 1, "--plain-epochs", 1, "--cases", 3, "--size-px", 64, "--width", 4)
    profile = tmp_path / "profile.txt"
    module = benchmark("study_on_gpu")
    run(module, monkeypatch, "--device", "cpu", "--any-device", "--page", page, "--profile", profile, *small)
    rows = rows_of(section(page, "The study's setting on one GPU"))
    for way in ("ours", "plain MONAI"):
        minutes, seconds, slices_per_s, share = rows[way]
        assert float(minutes) == pytest.approx(float(seconds) * 35 / 60, rel=0.2)
        assert float(slices_per_s) > 0 and float(share.rstrip("%")) > 0
    assert "aten::" in profile.read_text()


@pytest.mark.slow
def test_a_training_step_is_measured(benchmark: Any, monkeypatch: pytest.MonkeyPatch, page: Path):
    small = ("--cases", 3, "--size-px", 64, "--repeats", 1)
    run(benchmark("training_step"), monkeypatch, "--device", "cpu", "--page", page, *small)
    rows = rows_of(section(page, "Training step"))
    for name, cells in rows.items():
        ours, plain, ratio, kept = (float(cell.rstrip("%")) for cell in cells)
        assert ours >= 0 and plain >= 0 and kept >= 0 and ratio == pytest.approx(ours / plain, abs=0.02, rel=0.2), name
    assert 0 <= float(rows["share of a step spent waiting for data"][0].rstrip("%")) < 100


def test_runtimes_are_measured_beside_torch(benchmark: Any, monkeypatch: pytest.MonkeyPatch, page: Path):
    run(benchmark("runtimes"), monkeypatch, "--slices", 3, "--size-px", 64, "--repeats", 1, "--page", page)
    rows = rows_of(section(page, "Runtimes"))
    names = [name.split(" ")[0] for name in rows]
    assert names[0] == "torch" and set(names) <= {"torch", "onnxruntime", "openvino", "openvino-bfloat16"}
    assert all(float(cell) >= 0 for cells in rows.values() for cell in cells)
    differing = {name: int(cells[-1]) for name, cells in zip(names, rows.values(), strict=True)}
    assert differing.pop("openvino-bfloat16", 0) < 0.05 * 3 * 64**2
    assert max(differing.values()) <= 3


@pytest.mark.slow
def test_a_prediction_is_measured_beside_two_network_passes(
    benchmark: Any, monkeypatch: pytest.MonkeyPatch, page: Path, phantom_dir: Path
):
    small = ("--folder", phantom_dir, "--zoo-pass", 16, 16, 16, "--study-slices", 1, "--repeats", 1)
    run(
        benchmark("prediction"), monkeypatch, "--device", "cpu", "--page", page, *small, "--setting", "input#size_px=64"
    )
    rows = rows_of(section(page, "Prediction, a folder of patients"))
    assert len(rows) == 6
    assert all(float(cell) >= 0 for cells in rows.values() for cell in cells)
    assert rows["ours: folder to label map"][2:] == ["1.0", "1.0"]


@pytest.mark.slow
def test_the_first_epoch_is_measured_from_packed_plain_and_preprocessed_files(
    benchmark: Any, monkeypatch: pytest.MonkeyPatch, page: Path
):
    small = ("--cases", 1, "--size", "small", "--size-px", 64, "--repeats", 1)
    run(benchmark("first_epoch"), monkeypatch, "--device", "cpu", "--page", page, *small)
    rows = rows_of(section(page, "First epoch"))
    sources = [".nii.gz", ".nii", ".nii.gz, keeping the preprocessed cases", "preprocessed cases"]
    assert [name.partition(":")[0] for name in rows] == [source for source in sources for _ in ("wall", "CPU")]
    assert all(float(cell) > 0 for cells in rows.values() for cell in cells[:2])
    from_files, from_folder = (float(rows[f"{source}: seconds of CPU per patient"][0]) for source in sources[::3])
    assert from_folder < from_files / 2


@pytest.mark.slow
def test_memory_and_growth_are_measured_in_processes_of_their_own(
    benchmark: Any, monkeypatch: pytest.MonkeyPatch, page: Path
):
    run(benchmark("memory"), monkeypatch, "--page", page, "--patients", 1, 3, "--cases", 1, "--size-px", 64)
    rows = rows_of(section(page, "Memory"))
    assert rows["cached per patient, MB"] == ["1.54", "7.37", "0.21"]
    assert all(float(cell) > 50 for cell in rows["peak of the process, 3 patients, MB"][:2])
    small = ("--patients", 1, 2, 3, "--sizes-px", 64, 96, 128, "--cases", 1, "--slices", 2, "--repeats", 1)
    run(benchmark("growth"), monkeypatch, "--device", "cpu", "--page", page, *small)
    rows = rows_of(section(page, "Growth"))
    assert float(rows["cached, MB"][2]) == pytest.approx(75 * 128**2 * 5 / 1e6, rel=1e-2)  # MB per patient
    assert rows["cached, MB"][4] == rows["cached per patient, MB"][4] == "0.0%"  # straight lines


@pytest.mark.slow
def test_two_processes_have_half_the_work_each(benchmark: Any, monkeypatch: pytest.MonkeyPatch, page: Path):
    small = ("--patients", 4, 2, "--cases", 2, "--size-px", 64)
    run(benchmark("ranks"), monkeypatch, "--device", "cpu", "--page", page, *small)
    rows = rows_of(section(page, "Several processes"))
    assert rows["patients to train on, cached"] == ["4", "2", "0.50"]
    assert rows["patients to validate, cached"] == ["2", "1", "0.50"]
    assert rows["slices per epoch"] == ["300", "150", "0.50"]
    assert rows["steps per epoch"] == ["19", "10", "0.53"]  # the last of them is a smaller one
    assert rows["their slices in memory, MB"] == ["6.1", "3.1", "0.50"]


@pytest.mark.slow
def test_start_up_is_measured_against_the_imports(benchmark: Any, monkeypatch: pytest.MonkeyPatch, page: Path):
    run(benchmark("startup"), monkeypatch, "--device", "cpu", "--page", page, "--repeats", 1)
    rows = rows_of(section(page, "Start-up"))
    whole, predict = (float(rows[name][1]) for name in ("the whole prediction", "`predict` until the first slice"))
    assert 0 < predict < whole
    assert rows["`import torch, monai, ignite`"][2:] == ["1.00", "1.00"]
    stages = [float(cell) for name, cells in rows.items() if name.startswith("–") for cell in cells[:2]]
    assert len(stages) == 8 and min(stages) > 0


def test_time_to_quality_without_real_cases_is_refused_in_one_line(benchmark: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("BRATS_REAL_DATA", raising=False)
    with pytest.raises(SystemExit, match=r"^error: BRATS_REAL_DATA is unset; name the folder of the real cases\.$"):
        run(benchmark("quality"), monkeypatch)


@pytest.mark.slow
def test_time_to_quality_trains_keeps_every_epoch_and_scores_whole_volumes(
    benchmark: Any, monkeypatch: pytest.MonkeyPatch, page: Path, tmp_path: Path
):
    if not os.environ.get("BRATS_REAL_DATA"):
        pytest.skip("BRATS_REAL_DATA is unset: the folds name the real cases")
    small = ["--setting", "max_epochs=2", "input#size_px=64", "input#slice_range=[90,100]"]
    run(benchmark("quality"), monkeypatch, "--ways", "plain", "--runs", tmp_path / "runs", "--page", page, *small)
    text = section(page, "Time to quality")
    assert re.search(r"^\| plain \| 2 \| \d\.\d \| 0\.\d{3} \| \d\.\d \| 1\.00 \|", text, re.M), text
    minutes = [at for at, _ in json.loads((tmp_path / "runs" / "fold2" / "plain-epochs.json").read_text())["epochs"]]
    assert 0 < minutes[0] < minutes[1] < 10
