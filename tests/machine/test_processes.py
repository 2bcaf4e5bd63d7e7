"""Work in several processes: in order, one thread each, and one line where one is killed. Work in one of its own."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.support import REPOSITORY, Started, start
from workflows.machine.processes import (
    THREAD_SETTINGS,
    _control_group_quota,
    allowed_processors,
    in_own_process,
    in_processes,
    use_allowed_processors,
)
from workflows.messages.errors import BratsError, ConfigurationError, DatasetError


@pytest.mark.parametrize("workers", [1, 2, None])
def test_results_come_in_the_order_of_the_items(workers: int | None):
    assert in_processes(abs, [-3, 2, -1], "counting", workers) == [3, 2, 1]


def test_every_process_uses_one_thread(monkeypatch: pytest.MonkeyPatch):
    for name in THREAD_SETTINGS:
        monkeypatch.setenv(name, "7")
    assert in_processes(os.getenv, list(THREAD_SETTINGS), "asking", workers=2) == ["1", "1", "1"]


def test_a_killed_process_is_one_line():
    with pytest.raises(DatasetError, match="A process was killed while working, probably for want of memory"):
        in_processes(os._exit, [1, 1], "working", workers=2)


def test_no_items_are_no_work_and_no_workers_are_refused():
    assert in_processes(abs, [], "counting") == []
    with pytest.raises(ConfigurationError, match="0 workers cannot work"):
        in_processes(abs, [1], "counting", workers=0)


# ---------------------------------------------------------------------------------------------------------------------
# A process of its own


def fail_as_a_person_can_mend() -> None:
    raise ConfigurationError("mend this.")


def fail_otherwise() -> None:
    raise RuntimeError("no such kernel")


def write_own_number(file: Path) -> None:
    file.write_text(str(os.getpid()))


def test_work_happens_in_another_process_and_what_it_says_comes_back(tmp_path: Path):
    in_own_process(write_own_number, tmp_path / "number")
    assert int((tmp_path / "number").read_text()) != os.getpid()
    for work, said in ((fail_as_a_person_can_mend, "^mend this.$"), (fail_otherwise, "^RuntimeError: no such kernel$")):
        with pytest.raises(BratsError, match=said):
            in_own_process(work)
    with pytest.raises(BratsError, match="killed, probably for want of memory"):
        in_own_process(os._exit, 9)
    with pytest.raises(SystemExit) as stopped:
        in_own_process(sys.exit, 143)
    assert stopped.value.code == 143


def test_when_the_waiting_process_is_ended_so_is_its_work(tmp_path: Path):
    code = (
        "import signal, sys, time\n"
        "from workflows.machine.processes import in_own_process\n"
        "if __name__ == '__main__':\n"
        "    signal.signal(signal.SIGALRM, lambda *_: sys.exit(7))\n"
        "    signal.alarm(3)\n"
        "    in_own_process(time.sleep, 500)\n"
    )
    script = tmp_path / "waiting.py"
    script.write_text(code)
    started = time.monotonic()
    ended = start(script, cwd=REPOSITORY, PYTHONPATH=str(REPOSITORY))
    assert ended.status == 7, ended.stderr
    assert time.monotonic() - started < 300


def test_a_process_that_may_use_one_processor_starts_no_more(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {5})
    assert allowed_processors() == 1
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(64)))
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "1")
    assert allowed_processors() == 1


@pytest.mark.parametrize(
    ("group", "files", "cores"),
    [
        ("0::/", {"cpu.max": "150000 100000"}, 2),
        ("0::/", {"cpu.max": "50000 100000"}, 1),
        ("0::/", {"cpu.max": "max 100000"}, sys.maxsize),
        ("0::/", {}, sys.maxsize),
        ("0::/user/job", {"user/cpu.max": "200000 100000", "user/job/cpu.max": "max 100000"}, 2),
        ("0::/job", {"cpu.max": "100000 100000", "job/cpu.max": "400000 100000"}, 1),
        ("0::/not/seen/in/this/container", {"cpu.max": "300000 100000"}, 3),
        ("4:cpu,cpuacct:/job", {"cpu/job/cpu.cfs_quota_us": "250000", "cpu/job/cpu.cfs_period_us": "100000"}, 3),
        ("4:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, sys.maxsize),
        ("4:memory:/\n0::/", {"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"}, sys.maxsize),
    ],
)
def test_the_quota_of_a_control_group_counts_in_whole_cores(
    group: str, files: dict[str, str], cores: int, tmp_path: Path
):
    (tmp_path / "own").write_text(f"{group}\n")
    for name, content in files.items():
        (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / name).write_text(f"{content}\n")
    assert _control_group_quota(tmp_path / "root", tmp_path / "own") == cores
    assert _control_group_quota(tmp_path / "root", tmp_path / "missing") == sys.maxsize


def test_torch_starts_no_more_threads_than_processors_are_allowed(monkeypatch: pytest.MonkeyPatch):
    before = torch.get_num_threads()
    try:
        for number in (1, 2):
            torch.set_num_threads(2)
            monkeypatch.setenv("SLURM_CPUS_PER_TASK", str(number))
            use_allowed_processors()
            assert torch.get_num_threads() == min(number, allowed_processors())
    finally:
        torch.set_num_threads(before)


# ---------------------------------------------------------------------------------------------------------------------
# Called from a person's own code


SCRIPT = """
import asyncio
from workflows.audit.dataset_checks import audit_dataset
from workflows.machine.processes import in_own_process

def work():
    print("cases", len(audit_dataset("DATA", workers=2).cases))
    in_own_process(print, "from a process of its own")

print("script")
"""
CALLS = {"without a main guard": "work()", "in a thread beside a running loop": "asyncio.run(asyncio.to_thread(work))"}


def check_output(ended: Started) -> None:
    assert ended.status == 0, ended.stderr
    assert [ended.stdout.count(line) for line in ("script\n", "cases 3\n", "process of its own")] == [1, 1, 1]
    assert "Error" not in ended.stderr


@pytest.mark.parametrize("call", CALLS)
def test_a_script_of_ones_own_is_run_once_however_it_calls(
    call: str, python: Callable[..., Started], phantom_dir: Path, tmp_path: Path
):
    (tmp_path / "script.py").write_text(SCRIPT.replace("DATA", str(phantom_dir)) + CALLS[call])
    check_output(python("script.py", cwd=tmp_path, PYTHONPATH=str(REPOSITORY)))


def test_ipython_runs_a_script_of_ones_own_once(python: Callable[..., Started], phantom_dir: Path, tmp_path: Path):
    pytest.importorskip("IPython")
    (tmp_path / "script.py").write_text(SCRIPT.replace("DATA", str(phantom_dir)) + "work()")
    environment = {"PYTHONPATH": str(REPOSITORY), "IPYTHONDIR": str(tmp_path / "profile")}
    check_output(python("-m", "IPython", "--no-banner", "-c", "%run script.py", cwd=tmp_path, **environment))


def test_a_process_that_may_start_none_works_by_itself(python: Callable[..., Started], tmp_path: Path):
    code = (
        "import multiprocessing, workflows.machine.processes as processes\n"
        "def three(_): return processes.in_processes(abs, [-3, -3], 'counting', workers=2)\n"
        "with multiprocessing.get_context('fork').Pool(1) as pool: print(pool.map(three, [0]))"
    )
    assert python("-c", code, cwd=tmp_path, PYTHONPATH=str(REPOSITORY)).stdout.strip() == "[[3, 3]]"
