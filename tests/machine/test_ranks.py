"""One run in several processes: real ones, started by torchrun, that talk by Gloo."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from tests.support import REPOSITORY, Run, Started, start
from workflows.machine import ranks
from workflows.machine.stopping import StopRequest
from workflows.settings.bundle_files import config_files
from workflows.training import rank_handlers
from workflows.training_data.slice_batches import SliceBatches
from workflows.training_data.slice_dataset import SliceDataset

TINY = ("--input#size_px", "64", "--network_def#width", "4", "--slices_per_step", "2", "--max_epochs", "2")
TINY += ("--device", "cpu", "--input#slice_range", "[70,94]")
SECTIONS = ("training", "validation", "testing")
TORCHRUN = ("-m", "torch.distributed.run", "--nproc_per_node=2")
PATIENCE_S = 300


def files(*names: str) -> str:
    return str([str(REPOSITORY / "bundle" / "configs" / f"{name}.json") for name in names])


def training(data: Path, run: Path, *more: str) -> tuple[object, ...]:
    """The command that trains by two processes."""
    configuration = files("train", "axial", "multi_gpu_train", *more)
    named = ("--dataset_dir", data, "--split_file", data.parent / "split.json", "--run_dir", run)
    return (*TORCHRUN, "-m", "monai.bundle", "run", "training", "--config_file", configuration, *named, *TINY)


@pytest.fixture(scope="session")
def nine(phantom_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine patients, three different ones in each section of `split.json` beside the folder."""
    folder = tmp_path_factory.mktemp("nine")
    split: dict[str, Any] = {"label_convention": "brats-to-2022", **{section: [] for section in SECTIONS}}
    for section in SECTIONS:
        for patient in sorted(phantom_dir.glob("BraTS20_Training_*")):
            case = f"{section}_{patient.name[-3:]}"
            entry = {"case": case}
            for file in sorted(patient.glob("*.nii.gz")):
                kind = file.name.removeprefix(f"{patient.name}_").removesuffix(".nii.gz")
                copy = folder / "data" / case / f"{case}_{kind}.nii.gz"
                copy.parent.mkdir(parents=True, exist_ok=True)
                os.link(file, copy)
                entry["label" if kind == "seg" else kind] = str(copy.relative_to(folder / "data"))
            split[section].append(entry)
    (folder / "split.json").write_text(json.dumps(split))
    return folder / "data"


@pytest.fixture(scope="session")
def two(nine: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two epochs by two processes."""
    run = tmp_path_factory.mktemp("two") / "run"
    ended = start(*training(nine, run), cwd=REPOSITORY)
    assert ended.status == 0, ended.stderr
    return Run(nine, run, ended.stdout + ended.stderr, {})


def log_rows(run: Path) -> list[dict[str, str]]:
    with (run / "training.log").open() as log:
        return list(csv.DictReader(log))


# ---------------------------------------------------------------------------------------------------------------------
# Shares


@pytest.mark.parametrize("number", [1, 2, 3, 8])
@pytest.mark.parametrize("cases", [8, 9, 31])
def test_shares_in_order_are_all_cases_in_order_and_differ_by_one_at_most(cases: int, number: int):
    shares = [range(*ranks.bounds(cases, rank, number)) for rank in range(number)]
    assert [case for share in shares for case in share] == list(range(cases))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_more_processes_than_cases_are_refused_in_one_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ranks, "number_of_ranks", lambda: 3)
    with pytest.raises(ranks.ConfigurationError, match=r"^2 validation cases are too few for 3 processes; start 2 at "):
        ranks.share({"validation": [1, 2]}, "validation")


def test_a_process_alone_is_the_first_and_the_torch_of_many_is_not_asked(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    ranks.begin("cpu")
    ranks.wait_for_all()
    assert not torch.distributed.is_initialized()
    assert (ranks.rank(), ranks.number_of_ranks(), ranks.is_first()) == (0, 1, True)
    assert ranks.from_first(lambda: "done") == "done"
    assert (ranks.gathered(3), ranks.joined([3, 4]), ranks.largest(3), ranks.own_seed(7)) == ([3], [3, 4], 3, 7)
    network = torch.nn.Linear(1, 1)
    assert rank_handlers.averaging_gradients(network, "cpu") is network
    assert ranks.continue_command("RUN") == "brats-unet train --resume --out RUN"


LEAVING = """
import sys, torch
from workflows.machine import ranks
from workflows.training import rank_handlers

ranks.begin("cpu")
run = {"network": rank_handlers.averaging_gradients(torch.nn.Linear(2, 1), "cpu")}
run["itself"] = run
run["network"](torch.ones(1, 2)).backward()
sys.setswitchinterval(60)  # Gloo's thread gets Python's lock when this thread gives it away, not before
ranks.{last}
"""


@pytest.mark.parametrize("last", ["wait_for_all()", "gathered('é')"])
def test_who_leaves_just_after_a_message_neither_aborts_nor_hangs(last: str, tmp_path: Path):
    (tmp_path / "leaving.py").write_text(LEAVING.replace("{last}", last))
    launched = Launched(tmp_path / "output.txt", *TORCHRUN, tmp_path / "leaving.py")
    assert launched.ended().status == 0, launched.output.read_text()


TALKING = """
import sys, torch
from ignite.engine import Engine
from workflows.machine import ranks
from workflows.monitoring.best_epoch import BestEpoch
from workflows.monitoring.progress_handlers import EpochTable, ProgressBar, RunBar
from workflows.monitoring.tensorboard_handlers import Scalars
from workflows.training.rank_handlers import SameEverywhere, event_writer

ranks.begin("cpu")
here = ranks.rank()
assert (ranks.number_of_ranks(), ranks.ranks_on_this_machine()) == (2, 2)
assert ranks.gathered(here == 0) == [True, False] and ranks.gathered("é" * here) == ["", "é"]
assert ranks.joined([here] * (1 + here)) == [0, 1, 1]
assert ranks.largest(here + 5) == 6
assert ranks.from_first(lambda: {"done by": here}) == {"done by": 0}
assert ranks.continue_command("RUN") == "torchrun --nproc_per_node=2 -m workflows train --resume --out RUN"

network = torch.nn.BatchNorm1d(2)
network.running_mean += here
network.num_batches_tracked += here
engine = Engine(lambda engine, batch: batch)
engine.state.metrics["dice"] = 0.5 + here
SameEverywhere(network).attach(engine)
sys.stderr.isatty = sys.stdout.isatty = lambda: True
Scalars(event_writer(log_dir=sys.argv[1]), iteration_log=False).attach(engine)
best = BestEpoch("dice")
best.attach(engine)
EpochTable(engine, best).attach(engine)
ProgressBar("training").attach(engine)
RunBar().attach(engine)
engine.run([0], 1)
assert engine.state.metrics["dice"] == 0.5
assert network.running_mean.tolist() == [0, 0] and network.num_batches_tracked == 0

try:
    ranks.from_first(lambda: 1 / 0)
except ZeroDivisionError:
    assert here == 0
except SystemExit as ended:
    assert here == 1 and ended.code == 1
else:
    raise AssertionError
"""


def test_ranks_hear_of_each_other_and_the_first_alone_reports(tmp_path: Path):
    (tmp_path / "talking.py").write_text(TALKING)
    logs = ("--redirects", "3", "--log-dir", tmp_path / "logs")
    ended = start(*TORCHRUN, *logs, tmp_path / "talking.py", tmp_path / "events", cwd=REPOSITORY)
    first, second = (
        "".join(log.read_text() for log in sorted((tmp_path / "logs").rglob(f"{rank}/std*.log"))) for rank in (0, 1)
    )
    assert ended.status == 0, ended.stderr + first + second
    assert len(list((tmp_path / "events").iterdir())) == 1
    shown = ("val loss", "best so far", "run [0/1 epochs]", "training[1/1]")
    assert all(part in first for part in shown)
    assert not any(part in second for part in shown)


def three_patients(slices: Sequence[int]) -> SliceDataset:
    data = [{"case": str(number), "count": count} for number, count in enumerate(slices)]
    empty = {"image": (1, 4, 4), "label": (1, 4, 4)}
    return SliceDataset(data, lambda case: {key: torch.zeros(case["count"], *size) for key, size in empty.items()})


@pytest.mark.parametrize("wanted", [9, 20, 25])
def test_an_epoch_as_long_as_another_ranks_shows_every_slice_and_repeats_some(wanted: int):
    batches = list(SliceBatches(three_patients([4, 3, 2]), 4, shuffle=True, agree=lambda own: max(own, wanted)))
    shown = [index for batch in batches for index in batch]
    assert len(shown) == wanted and [len(batch) for batch in batches[:-1]] == [4] * (len(batches) - 1)
    assert len(batches) == -(-wanted // 4)
    assert sorted(shown[:9]) == list(range(9))
    times = [shown.count(index) for index in range(9)]
    assert max(times) - min(times) <= 1


def test_an_epoch_of_whole_patients_repeats_patients():
    batches = SliceBatches(three_patients([4, 3, 2]), None, shuffle=True, agree=lambda own: own + 2)
    shown = [tuple(batch) for batch in batches]
    assert len(batches) == len(shown) == 5
    assert set(shown[:3]) == {(0, 1, 2, 3), (4, 5, 6), (7, 8)} and shown[3] != shown[4]


def test_a_signal_that_comes_twice_at_once_counts_once_among_ranks():
    request = StopRequest(echo_s=60)
    request.listen()
    try:
        for _ in range(2):
            signal.raise_signal(signal.SIGTERM)
        assert request.signal is signal.SIGTERM
    finally:
        request.ignore()


# ---------------------------------------------------------------------------------------------------------------------
# Training


@pytest.mark.slow
def test_ranks_train_on_all_cases_and_the_first_keeps_the_last_weights(nine: Path, tmp_path: Path):
    run = tmp_path / "run"
    named = ("--dataset_dir", nine, "--run_dir", run, "--all_cases", "True")
    command = (*TORCHRUN, "-m", "monai.bundle", "run", "training")
    ended = start(*command, "--config_file", files("train", "axial", "multi_gpu_train"), *named, *TINY, cwd=REPOSITORY)
    assert ended.status == 0, ended.stderr
    assert len(re.findall(r"rank \d of 2: [45] of 9 training cases", ended.stdout + ended.stderr)) == 2
    weights, last = (torch.load(run / name, weights_only=True) for name in ("model.pt", "last.pt"))
    assert all(torch.equal(value, last["scored_network"][name]) for name, value in weights.items())


def test_each_rank_caches_its_share_and_the_first_writes_for_all(two: Run):
    said = re.findall(r"rank (\d) of 2: (\d) of 3 (training|validation) cases", two.output)
    assert sorted(said) == [(f"{rank}", f"{rank + 1}", section) for rank in (0, 1) for section in SECTIONS[:2]]
    assert len(re.findall(r"epoch \d/2: loss", two.output)) == 2
    names = sorted(path.name.partition(".out.")[0] for path in two.folder.iterdir())
    assert names == ["config.json", "curves.png", "events", "last.pt", "model.pt", "split.json", "training.log"]
    assert [row["epoch"] for row in log_rows(two.folder)] == ["1", "2"]
    state = torch.load(two.folder / "last.pt", weights_only=True)
    # The larger share has two patients of 24 slices; both ranks take its 24 steps of two.
    assert (state["trainer"]["epoch_length"], state["trainer"]["iteration"]) == (24, 48)


def validated_alone(run: Run, *variants: str, **settings: Any) -> dict[str, float]:
    """The validation figures of a run's best weights, computed by this process."""
    from monai.bundle import ConfigWorkflow

    workflow = ConfigWorkflow(
        config_files("train", ("axial", *variants)),
        workflow_type="train",
        dataset_dir=str(run.data),
        split_file=str(run.folder / "split.json"),
        run_dir=str(run.folder.parent / "alone"),
        slices_per_validation_step=None,
        **settings,
        **{"input#slice_range": [70, 94]},
    )
    workflow.initialize()
    evaluator = workflow.parser.get_parsed_content("validate#evaluator")
    workflow.parser.get_parsed_content("early_stop").set_trainer(workflow.trainer)
    weights = torch.load(run.checkpoint, weights_only=True)
    assert not any(name.startswith("module.") for name in weights)
    evaluator.network.load_state_dict(weights)
    evaluator.run()
    return evaluator.state.metrics


def validated(row: dict[str, str]) -> dict[str, float]:
    return {name: float(value) for name, value in row.items() if name.startswith("val_")}


def test_the_figures_of_two_processes_are_those_of_one_for_the_same_weights(two: Run, tiny_settings: dict[str, Any]):
    alone = validated_alone(two, **tiny_settings)
    rows = [validated(row) for row in log_rows(two.folder)]
    best = max(rows, key=lambda row: row["val_wt_dice"] + row["val_tc_dice"] + row["val_et_dice"])
    assert {name: alone[name] for name in best} == pytest.approx(best, rel=1e-6, abs=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["seed", "flexible_unet"])  # whole patients; batch normalisation, unused layers
def test_so_they_are_with_another_recipe_or_network(variant: str, nine: Path, tmp_path: Path):
    named = ("--dataset-dir", nine, "--split", nine.parent / "split.json", "--out", tmp_path / "run")
    settings = ("--input#size_px", "64", "--input#slice_range", "[70,94]", "--device", "cpu", "--max_epochs", "1")
    overlays = ("--config", "axial", "--config", variant, "--config", "multi_gpu_train")
    ended = start(*TORCHRUN, "-m", "workflows", "train", *named, *overlays, *settings, cwd=REPOSITORY)
    assert ended.status == 0, ended.stderr
    run = Run(nine, tmp_path / "run", ended.stdout, {})
    row = validated(log_rows(run.folder)[0])
    alone = validated_alone(run, variant, **{"input#size_px": 64}, device="cpu")
    assert {name: alone[name] for name in row} == pytest.approx(row, rel=1e-5, abs=1e-7)


def test_weights_of_two_processes_are_averaged_over_the_steps_of_both(two: Run):
    """Scored weights follow the trained ones, and differ from them."""
    state = torch.load(two.folder / "last.pt", weights_only=True)
    assert state["network"].keys() == state["scored_network"].keys() == torch.load(two.checkpoint).keys()
    assert any(not torch.equal(state["network"][name], state["scored_network"][name]) for name in state["network"])


def test_a_folder_with_another_run_is_refused_once_and_in_one_line(two: Run):
    ended = start(*training(two.data, two.folder), cwd=REPOSITORY)
    assert ended.status != 0
    assert ended.stderr.count("holds an earlier run") == 1
    assert "Traceback" not in ended.stderr.partition("torch/distributed")[0]


class Launched:
    """torchrun at work."""

    def __init__(self, output: Path, *arguments: object) -> None:
        self.output = output
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        with output.open("w") as file:
            command = [sys.executable, *map(str, arguments)]
            self.process = subprocess.Popen(command, cwd=REPOSITORY, env=inherited, stdout=file, stderr=file)

    def until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert self.process.poll() is None and time.monotonic() < deadline, self.output.read_text()
            time.sleep(0.005)

    def ranks(self) -> list[psutil.Process]:
        return [child for child in psutil.Process(self.process.pid).children() if "RANK" in child.environ()]

    def ended(self) -> Started:
        self.process.wait(PATIENCE_S)
        return Started(self.process.returncode, "", self.output.read_text())


def assert_same_run(run: Path, other: Path) -> None:
    from tests.training.test_resume import assert_same

    for name in ("model.pt", "last.pt"):
        assert_same(torch.load(run / name, weights_only=True), torch.load(other / name, weights_only=True), name)
    assert (run / "training.log").read_text() == (other / "training.log").read_text()


@pytest.mark.slow
def test_a_run_whose_processes_are_killed_continues_to_the_same_end(two: Run, nine: Path, tmp_path: Path):
    run = tmp_path / "run"
    launched = Launched(tmp_path / "output.txt", *training(nine, run))
    launched.until((run / "last.pt").exists)
    for process in launched.ranks():
        process.kill()
    assert launched.ended().status != 0
    assert torch.load(run / "last.pt", weights_only=True)["trainer"]["iteration"] < 48
    ended = start(*training(nine, run, "resume"), cwd=REPOSITORY)
    assert ended.status == 0, ended.stderr
    assert ended.stdout.count("resuming in epoch 2 of 2") == 1
    assert_same_run(run, two.folder)


@pytest.mark.slow
@pytest.mark.parametrize("to", ["torchrun", "one rank"])
def test_a_signal_stops_both_processes_after_one_step_and_they_continue_from_there(
    to: str, two: Run, nine: Path, tmp_path: Path
):
    run = tmp_path / "run"
    launched = Launched(tmp_path / "output.txt", *training(nine, run))
    launched.until((run / "last.pt").exists)
    target = launched.process.pid if to == "torchrun" else launched.ranks()[1].pid
    os.kill(target, signal.SIGTERM)
    said = launched.ended().stderr
    stopped = re.findall(r"stopped by SIGTERM in epoch 2 after step (\d+) of 24; continue with  (.*)", said)
    assert len(stopped) == 1, said
    step, command = stopped[0]
    assert torch.load(run / "last.pt", weights_only=True)["trainer"]["iteration"] == 24 + int(step)
    assert command == f"torchrun --nproc_per_node=2 -m workflows train --resume --out {run}"
    ended = start(*TORCHRUN, *command.split()[2:], cwd=REPOSITORY)
    assert ended.status == 0, ended.stderr
    assert ended.stdout.count(f"resuming in epoch 2 of 2 after step {step}") == 1
    assert_same_run(run, two.folder)


@pytest.mark.slow
def test_a_run_of_two_processes_is_not_continued_by_one(two: Run, tmp_path: Path):
    run = Path(shutil.copytree(two.folder, tmp_path / "run"))
    ended = start("-m", "workflows", "train", "--resume", "--out", run, "--max_epochs", "2", cwd=REPOSITORY)
    assert ended.status == 1
    assert "the number of processes are others" in ended.last_line


# ---------------------------------------------------------------------------------------------------------------------
# Evaluation


def evaluation(run: Run, out: Path) -> tuple[object, ...]:
    return ("-m", "workflows", "evaluate", "--checkpoint", run.checkpoint, "--out", out, "--device", "cpu")


@pytest.fixture(scope="session")
def evaluated_by_two(two: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("evaluated") / "two"
    configuration = files("inference", "axial", "evaluate", "multi_gpu_evaluate")
    named = ("--dataset_dir", two.data, "--split_file", two.folder / "split.json", "--checkpoint", two.checkpoint)
    settings = (
        "--input#size_px",
        "64",
        "--network_def#width",
        "4",
        "--device",
        "cpu",
        "--input#slice_range",
        "[70,94]",
    )
    bundle = ("-m", "monai.bundle", "run", "evaluation", "--config_file", configuration, "--output_dir", out)
    ended = start(*TORCHRUN, *bundle, *named, *settings, cwd=REPOSITORY)
    assert ended.status == 0, ended.stderr
    assert ended.stdout.count("per_case.csv, summary.json") == 1
    return out


@pytest.mark.slow
def test_two_processes_evaluate_three_cases_as_one_does(evaluated_by_two: Path, two: Run, tmp_path: Path):
    ended = start(*evaluation(two, tmp_path / "one"), cwd=REPOSITORY)
    assert ended.status == 0, ended.stderr
    for name in ("per_case.csv", "volumes.csv", "summary.json", "scores.md"):
        assert (tmp_path / "one" / name).read_text() == (evaluated_by_two / name).read_text(), name
    one, by_two = (sorted(str(f.relative_to(d)) for f in d.rglob("*")) for d in (tmp_path / "one", evaluated_by_two))
    assert one == by_two
    with (evaluated_by_two / "per_case.csv").open() as table:
        cases = [row["case"] for row in csv.DictReader(table)]
    assert list(dict.fromkeys(cases)) == ["testing_001", "testing_002", "testing_003"]


@pytest.mark.parametrize(
    "bad", ["testing_001", pytest.param("testing_003", marks=pytest.mark.slow)], ids=["all of its share", "one of two"]
)
def test_a_bad_case_of_one_rank_is_named_and_the_cases_of_both_are_scored(
    bad: str, two: Run, evaluated_by_two: Path, tmp_path: Path
):
    data = Path(shutil.copytree(two.data, tmp_path / "data"))
    flair = data / bad / f"{bad}_flair.nii.gz"
    content = flair.read_bytes()
    flair.unlink()
    flair.write_bytes(content[: len(content) // 2])
    more = ("--dataset-dir", data, "--config", "multi_gpu_evaluate")
    ended = start(*TORCHRUN, *evaluation(two, tmp_path / "out"), *more, cwd=REPOSITORY)
    assert ended.status != 0
    assert ended.stderr.count("1 of 3 cases could not be used; the others are done.") == 1, ended.stderr
    assert f"\n  {bad}: " in ended.stderr
    whole = (evaluated_by_two / "per_case.csv").read_text().splitlines()
    assert (tmp_path / "out" / "per_case.csv").read_text().splitlines() == [w for w in whole if not w.startswith(bad)]
