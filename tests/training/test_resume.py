"""Runs that are killed, stopped and continued: real processes, real signals, full disks."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from tests.support import REPOSITORY, Started
from workflows.training.fast_paths import bfloat16_is_fast_on

TINY = ("--input#size_px", "64", "--network_def#width", "4", "--slices_per_step", "1", "--max_epochs", "3")
TINY += ("--device", "cpu", "--input#slice_range", "[70,94]", "--config", "axial")
PATIENCE_S = 300


def brats_unet(arguments: list[str], output: str, largest_file: int | None) -> None:
    """What a process of these tests does: the command, its output in a file, on one thread."""
    from workflows.cli import main

    descriptor = os.open(output, os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    torch.set_num_threads(1)
    multiprocessing.set_start_method("fork", force=True)  # a forked process inherits the way it was started
    if largest_file:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    sys.argv = ["brats-unet", *arguments]
    main()


@dataclass
class Process:
    """The command at work."""

    process: Any
    output: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process.exitcode is None

    def send(self, number: int) -> None:
        if self.running:
            os.kill(self.pid, number)

    def ended(self) -> Started:
        self.process.join(PATIENCE_S)
        assert self.process.exitcode is not None
        return Started(self.process.exitcode, "", self.output.read_text())

    def until(self, condition: Callable[[], bool]) -> bool:
        """Wait without a pause, for what is waited for lasts milliseconds; False if the process ended before."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            if not self.running:
                return False
            assert time.monotonic() < deadline, self.output.read_text()
        return True


Launch = Callable[..., Process]


@pytest.fixture(scope="session")
def launch(tmp_path_factory: pytest.TempPathFactory) -> Launch:
    """Starts `brats-unet` in a process of its own, forked from one that has imported torch and MONAI."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["workflows.training.run_state", "workflows.training.handlers", "workflows.data.reader", "monai.bundle"]
    )
    folder = tmp_path_factory.mktemp("output")

    def start(*arguments: object, largest_file: int | None = None) -> Process:
        output = folder / f"{len(list(folder.iterdir()))}.txt"
        output.touch()
        process = context.Process(target=brats_unet, args=([*map(str, arguments)], str(output), largest_file))
        process.start()
        return Process(process, output)

    return start


@pytest.fixture(scope="session")
def whole_run(launch: Launch, phantom_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three epochs that nothing interrupted."""
    run = tmp_path_factory.mktemp("whole") / "run"
    ended = launch("train", "--dataset-dir", phantom_dir, "--out", run, *TINY).ended()
    assert ended.status == 0, ended.stderr
    return run


@pytest.fixture(scope="session")
def begun_run(launch: Launch, phantom_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was killed in its second epoch; for tests that copy it."""
    run = tmp_path_factory.mktemp("begun") / "run"
    process = launch("train", "--dataset-dir", phantom_dir, "--out", run, *TINY)
    assert process.until((run / "last.pt").exists)
    process.send(signal.SIGKILL)
    assert process.ended().status == -signal.SIGKILL
    return run


@pytest.fixture
def begun(begun_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(begun_run, tmp_path / "run"))


def at_work_on(run: Path, name: str) -> Callable[[], bool]:
    """Whether a file of a run is being written at this moment."""
    return lambda: run.is_dir() and any(name in file.name and ".partial." in file.name for file in run.iterdir())


def assert_same(value: Any, other: Any, where: str = "") -> None:
    """Equal to the last bit, whatever is nested in it."""
    assert type(value) is type(other), where
    if isinstance(value, torch.Tensor):
        assert torch.equal(value, other), where
    elif isinstance(value, dict):
        assert value.keys() == other.keys(), where
        for key in value:
            assert_same(value[key], other[key], f"{where}/{key}")
    elif isinstance(value, list | tuple):
        assert len(value) == len(other), where
        for index, (one, another) in enumerate(zip(value, other, strict=True)):
            assert_same(one, another, f"{where}/{index}")
    else:
        assert value == other, where


def assert_same_run(run: Path, other: Path) -> None:
    """Weights, full state and log are those of the other run, and nothing half-written lies about."""
    for name in ("model.pt", "last.pt"):
        assert_same(torch.load(run / name, weights_only=True), torch.load(other / name, weights_only=True), name)
    assert (run / "training.log").read_text() == (other / "training.log").read_text()
    assert list(run.glob(".*.partial.*")) == []


# ---------------------------------------------------------------------------------------------------------------------
# Killed


@pytest.mark.parametrize("name", ["last.pt", pytest.param("training.log", marks=pytest.mark.slow)])
def test_a_run_killed_while_it_writes_and_resumed_ends_as_the_one_that_nothing_interrupted(
    name: str, launch: Launch, begun_run: Path, whole_run: Path, tmp_path: Path
):
    for attempt in range(5):  # a busy machine may look too late
        begun = Path(shutil.copytree(begun_run, tmp_path / f"run{attempt}"))
        process = launch("train", "--resume", "--out", begun)
        if process.until(at_work_on(begun, name)):
            process.send(signal.SIGKILL)
        if process.ended().status == -signal.SIGKILL:
            break
    assert process.ended().status == -signal.SIGKILL
    ended = launch("train", "--resume", "--out", begun).ended()
    assert ended.status == 0, ended.stderr
    assert "resuming in epoch" in ended.stderr
    assert_same_run(begun, whole_run)


@pytest.mark.slow
def test_a_run_killed_before_its_first_checkpoint_starts_afresh(
    launch: Launch, phantom_dir: Path, whole_run: Path, tmp_path: Path
):
    for attempt in range(5):  # a busy machine may look too late
        run = tmp_path / f"run{attempt}"
        process = launch("train", "--dataset-dir", phantom_dir, "--out", run, *TINY)
        assert process.until((run / "training.log").exists)
        process.send(signal.SIGKILL)
        process.ended()
        if not (run / "last.pt").exists():
            break
    assert (run / "training.log").exists() and not (run / "last.pt").exists()
    ended = launch("train", "--resume", "--out", run).ended()
    assert ended.status == 0, ended.stderr
    assert "no last.pt yet: starting afresh" in ended.stderr
    assert_same_run(run, whole_run)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_run_killed_at_twelve_random_moments_ends_as_the_one_that_nothing_interrupted(
    launch: Launch, phantom_dir: Path, whole_run: Path, tmp_path: Path
):
    """Every other kill falls into the writing of a file, the others anywhere within four seconds of the start."""
    moments, run = random.Random(0), tmp_path / "run"
    command = (sys.executable, "-m", "workflows", "train", "--resume", "--dataset-dir", phantom_dir, "--out", run)
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}  # as in `brats_unet`: sums depend on the threads they share
    killed, finished_early = 0, 0
    while killed < 12:
        with (tmp_path / "output.txt").open("w") as output:
            process = subprocess.Popen(
                list(map(str, (*command, *TINY))), stderr=output, stdout=output, cwd=REPOSITORY, env=one_thread
            )
            moment = wait_for_a_moment(run, process, moments, killed)
            process.kill()
        killed += process.wait() == -signal.SIGKILL
        if "nothing to resume" in (tmp_path / "output.txt").read_text() or process.returncode == 0:
            assert_same_run(run, whole_run)
            finished_early += 1
            shutil.rmtree(run)
        print(f"kill {killed} at {moment}", file=sys.stderr)
    ended = launch("train", "--resume", "--dataset-dir", phantom_dir, "--out", run, *TINY).ended()
    assert ended.status == 0, ended.stderr
    assert_same_run(run, whole_run)


def test_a_run_from_stored_cases_killed_and_resumed_ends_as_one_that_preprocessed_its_own(
    launch: Launch, phantom_dir: Path, whole_run: Path, tmp_path: Path
):
    run, store = tmp_path / "run", tmp_path / "a store"
    process = launch("train", "--dataset-dir", phantom_dir, "--out", run, "--cache-dir", store, *TINY)
    assert process.until((run / "last.pt").exists)
    process.send(signal.SIGKILL)
    began = process.ended()
    assert began.status == -signal.SIGKILL
    ended = launch("train", "--resume", "--out", run).ended()
    assert ended.status == 0, ended.stderr
    for output, said in (
        (began, "0 preprocessed cases read, 1 added; "),
        (ended, "1 preprocessed cases read, 0 added; "),
    ):
        assert output.stderr.count(f"{store}: {said}") == 2  # training and validation, a case each
    assert "changed since" not in ended.stderr
    assert_same_run(run, whole_run)


def wait_for_a_moment(run: Path, process: subprocess.Popen, moments: random.Random, kill: int) -> str:
    names = ("last.pt", "training.log", "model.pt", "config.json")
    writing, name = kill % 2 == 0, names[kill // 2 % len(names)]
    busy, pause = at_work_on(run, name), moments.uniform(0, 4)
    before = {path: path.stat().st_mtime_ns for path in run.glob("events*")} if run.is_dir() else {}
    while process.poll() is None and set(run.glob("events*")) <= set(before) and not (writing and busy()):
        pass  # preparations; afterwards training begins
    started = time.monotonic()
    while process.poll() is None and not (busy() if writing else time.monotonic() - started > pause):
        pass
    return f"the writing of {name}" if writing else f"{pause:.2f} s after the start"


# ---------------------------------------------------------------------------------------------------------------------
# Stopped


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)]
)
def test_a_stopped_run_ends_within_its_epoch_and_continues_from_there(
    number: signal.Signals, status: int, launch: Launch, begun: Path, whole_run: Path
):
    process = launch("train", "--resume", "--out", begun)
    assert process.until(lambda: "resuming in epoch 2" in process.output.read_text())
    time.sleep(0.1)
    process.send(number)
    ended = process.ended()
    assert ended.status == status, ended.stderr
    said = re.search(rf"stopped by {number.name} in epoch 2 after step (\d+) of 24", ended.last_line)
    assert said, ended.stderr
    state = torch.load(begun / "last.pt", weights_only=True)
    assert state["trainer"]["iteration"] == 24 + int(said[1])
    again = launch("train", "--resume", "--out", begun).ended()
    assert f"resuming in epoch 2 of 3 after step {said[1]}" in again.stderr
    assert_same_run(begun, whole_run)


def test_a_run_stopped_before_its_first_step_leaves_nothing_half_written(
    launch: Launch, phantom_dir: Path, whole_run: Path, tmp_path: Path
):
    run = tmp_path / "run"
    process = launch("train", "--dataset-dir", phantom_dir, "--out", run, *TINY)
    assert process.until((run / "config.json").exists)
    process.send(signal.SIGTERM)
    assert process.ended().status == 143
    assert not at_work_on(run, "")()
    assert not (run / "last.pt").exists()


# ---------------------------------------------------------------------------------------------------------------------
# What is continued


def test_resuming_a_run_that_has_ended_changes_nothing(launch: Launch, whole_run: Path):
    before = {name: (whole_run / name).read_bytes() for name in ("model.pt", "last.pt", "training.log", "config.json")}
    ended = launch("train", "--resume", "--out", whole_run).ended()
    assert ended.status == 0, ended.stderr
    assert "nothing to resume: the run has ended after 3 of 3 epochs" in ended.stderr
    assert before == {name: (whole_run / name).read_bytes() for name in before}


@pytest.mark.slow
def test_patience_counts_the_epochs_before_the_interruption(launch: Launch, phantom_dir: Path, tmp_path: Path):
    run = tmp_path / "run"
    never_better = ("--early_stop#score_function", "$lambda engine: 0.0", "--early_stop#patience", "2")
    process = launch("train", "--dataset-dir", phantom_dir, "--out", run, *TINY, *never_better, "--max_epochs", "9")
    assert process.until((run / "last.pt").exists)
    process.send(signal.SIGKILL)
    process.ended()
    for _ in range(2):
        ended = launch("train", "--resume", "--out", run).ended()
        assert ended.status == 0, ended.stderr
        assert len((run / "training.log").read_text().splitlines()) == 1 + 3
    assert "the run has ended after 3 of 9 epochs, stopped early" in ended.stderr


@pytest.mark.slow
def test_the_bundle_overlay_continues_a_run(python: Callable[..., Started], begun: Path, whole_run: Path):
    configs = REPOSITORY / "bundle" / "configs"
    files = f"['{configs}/train.json','{begun}/config.json','{configs}/resume.json']"
    arguments = ("-m", "monai.bundle", "run", "training", "--config_file", files, "--run_dir", begun)
    ended = python(*arguments, cwd=REPOSITORY, OMP_NUM_THREADS="1")
    assert ended.status == 0, ended.stderr
    assert_same_run(begun, whole_run)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["seed", "basic_unet"])
def test_a_variant_killed_and_resumed_ends_as_one_that_nothing_interrupted(
    variant: str, launch: Launch, phantom_dir: Path, tmp_path: Path
):
    small = () if variant == "basic_unet" else ("--network_def#width", "4")
    command = ("train", "--dataset-dir", phantom_dir, "--config", variant, "--input#size_px", "64", "--max_epochs", "4")
    assert launch(*command, *small, "--out", tmp_path / "whole").ended().status == 0
    process = launch(*command, *small, "--out", tmp_path / "killed")
    assert process.until((tmp_path / "killed" / "last.pt").exists)
    process.send(signal.SIGKILL)
    process.ended()
    assert launch("train", "--resume", "--out", tmp_path / "killed").ended().status == 0
    assert_same_run(tmp_path / "killed", tmp_path / "whole")


# ---------------------------------------------------------------------------------------------------------------------
# Changed settings

Command = Callable[..., Started]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("--learning_rate", "0.1"), "learning_rate: 0.002 → 0.1: this is part of its saved state"),
        (("--max_epochs", "5"), "max_epochs: 3 → 5: this is part of its saved state"),
        (("--slices_per_step", "2"), "slices_per_step: 1 → 2: this is part of its saved state"),
        (
            ("--network_def#width", "8"),
            "belongs to another network: network.conv_0.conv_0.conv.weight is (4, 8, 3, 3) in it and (8,",
        ),
        (("--input#slice_range", "[70,90]"), "its epochs have 24 steps, this configuration's 20"),
        (("--config", "seed"), "ema"),
    ],
)
def test_what_cannot_fit_is_refused_by_name_and_the_run_stays_as_it_was(
    change: tuple[str, str], said: str, command: Command, begun: Path
):
    before = {path.name: path.read_bytes() for path in begun.iterdir() if not path.name.startswith("events")}
    ended = command("train", "--resume", "--out", begun, *change)
    assert ended.status == 1
    assert said in ended.last_line
    assert ended.last_line.startswith("error: ")
    assert before == {name: (begun / name).read_bytes() for name in before}


def test_what_can_change_is_said_and_kept(launch: Launch, begun: Path):
    ended = launch("train", "--resume", "--out", begun, "--early_stop#patience", "7").ended()
    assert ended.status == 0, ended.stderr
    assert 'changed since the run began: early_stop#patience: "$max(12, round(0.6 * @max_epochs))" → 7' in ended.stderr
    assert '"patience": 7' in (begun / "config.json").read_text()


def test_a_run_goes_on_in_the_precision_it_began_with_on_a_machine_that_would_choose_the_other(
    launch: Launch, begun: Path
):
    file = begun / "config.json"
    own = json.loads(file.read_text())
    assert own["amp"] is bfloat16_is_fast_on("cpu")
    file.write_text(json.dumps({**own, "amp": not own["amp"]}))
    ended = launch("train", "--resume", "--out", begun, "--device", "cpu").ended()
    assert ended.status == 0, ended.stderr
    assert ("training in bfloat16" in ended.stderr) is not own["amp"]
    assert json.loads(file.read_text())["amp"] is not own["amp"]
    assert "changed since" not in ended.stderr


def test_another_precision_is_said(launch: Launch, begun: Path):
    other = not json.loads((begun / "config.json").read_text())["amp"]
    ended = launch("train", "--resume", "--out", begun, "--amp", other).ended()
    assert ended.status == 0, ended.stderr
    assert f"changed since the run began: amp: {str(not other).lower()} → {str(other).lower()}" in ended.stderr


def test_resuming_needs_the_name_of_the_run(command: Command):
    ended = command("train", "--resume")
    assert ended.status == 2
    assert "name the run to continue by --out RUN" in ended.stderr


def test_a_run_is_not_continued_with_another_split(command: Command, begun: Path, tmp_path: Path):
    (tmp_path / "other.json").write_text((begun / "split.json").read_text().replace("validation", "vali"))
    ended = command("train", "--resume", "--out", begun, "--split", tmp_path / "other.json")
    assert (ended.status, "keeps its own split" in ended.last_line) == (1, True)


def test_a_damaged_state_is_refused_in_one_line(command: Command, begun: Path):
    (begun / "last.pt").write_bytes((begun / "last.pt").read_bytes()[:1000])
    ended = command("train", "--resume", "--out", begun)
    assert ended.status == 1
    assert str(begun / "last.pt") in ended.last_line


# ---------------------------------------------------------------------------------------------------------------------
# A machine that fails


@contextmanager
def small_disk(folder: Path, megabytes: float) -> Iterator[Path]:
    """A disk in memory; skips where this user may not mount one."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes * 1024:.0f}k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this user may not mount a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def assert_one_line(ended: Started, *said: str) -> None:
    assert ended.status == 1, ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.last_line.startswith("error: ")
    for words in said:
        assert words in ended.last_line


def test_a_file_that_grows_too_large_ends_in_one_line_and_the_last_state_is_whole(launch: Launch, begun: Path):
    before = (begun / "last.pt").read_bytes()
    ended = launch("train", "--resume", "--out", begun, largest_file=len(before) // 2).ended()
    assert_one_line(ended, "last.pt: File too large", f"brats-unet train --resume --out {begun}")
    assert (begun / "last.pt").read_bytes() == before


def test_a_full_disk_ends_in_one_line_and_the_last_state_is_whole(launch: Launch, begun: Path, tmp_path: Path):
    # Room for the weights beside what there is, not for another state.
    used, state = sum(file.stat().st_size for file in begun.iterdir()), (begun / "last.pt").stat().st_size
    with small_disk(tmp_path / "disk", megabytes=(used + 0.75 * state) / 2**20) as disk:
        run = Path(shutil.copytree(begun, disk / "run"))
        before = (run / "last.pt").read_bytes()
        ended = launch("train", "--resume", "--out", run).ended()
        assert_one_line(ended, "No space left on device", f"brats-unet train --resume --out {run}")
        assert (run / "last.pt").read_bytes() == before


def test_a_read_only_folder_ends_in_one_line(launch: Launch, begun: Path, phantom_dir: Path, tmp_path: Path):
    with small_disk(tmp_path / "disk", megabytes=8) as disk:
        shutil.copytree(begun, disk / "run")
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        for arguments in (("--resume", "--out", disk / "run"), ("--dataset-dir", phantom_dir, "--out", disk / "new")):
            assert_one_line(launch("train", *arguments).ended(), "Read-only file system", str(disk))


def test_a_data_folder_that_has_vanished_is_named_in_one_line(launch: Launch, begun: Path, tmp_path: Path):
    ended = launch("train", "--resume", "--out", begun, "--dataset-dir", tmp_path / "gone").ended()
    assert_one_line(ended, str(tmp_path / "gone"))


@pytest.mark.slow
def test_a_data_folder_that_vanishes_while_it_is_read_is_named_in_one_line(
    launch: Launch, begun: Path, phantom_dir: Path, tmp_path: Path
):
    data = Path(shutil.copytree(phantom_dir, tmp_path / "data"))
    before = (begun / "last.pt").read_bytes()
    process = launch("train", "--resume", "--out", begun, "--dataset-dir", data)
    assert process.until(lambda: "caching 1 cases" in process.output.read_text())
    shutil.rmtree(data)
    assert_one_line(process.ended(), str(data / "BraTS20_Training_"), "no such file")
    assert (begun / "last.pt").read_bytes() == before


def children_of(process: Process) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(process.pid).children()
    return []


@pytest.mark.slow
def test_a_loading_process_killed_for_memory_ends_in_one_line_and_the_last_state_is_whole(
    launch: Launch, begun: Path, whole_run: Path
):
    before = (begun / "last.pt").read_bytes()
    process = launch("train", "--resume", "--out", begun, "--train#dataloader#num_workers", "1")
    assert process.until(lambda: bool(children_of(process))), process.output.read_text()
    os.kill(children_of(process)[0].pid, signal.SIGKILL)
    assert_one_line(process.ended(), "a process that loads data was killed", f"{begun / 'last.pt'} holds the state")
    assert (begun / "last.pt").read_bytes() == before
    assert launch("train", "--resume", "--out", begun).ended().status == 0
    assert_same_run(begun, whole_run)
