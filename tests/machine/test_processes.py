"""Work in several processes: in order, one thread each, and one line where one is killed. Work in one of its own."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from tests.support import REPOSITORY, start
from workflows.machine.processes import (
    THREAD_SETTINGS,
    _control_group_quota,
    allowed_processors,
    in_own_process,
    in_processes,
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


@pytest.mark.parametrize(("content", "cores"), [("150000 100000", 2), ("50000 100000", 1), ("max 100000", sys.maxsize)])
def test_a_containers_quota_counts_in_whole_cores(content: str, cores: int, tmp_path: Path):
    (tmp_path / "cpu.max").write_text(f"{content}\n")
    assert _control_group_quota(tmp_path / "cpu.max") == cores
    assert _control_group_quota(tmp_path / "missing") == sys.maxsize
