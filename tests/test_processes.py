"""Work in several processes: in order, one thread each, and one line where one is killed."""

from __future__ import annotations

import os

import pytest

from workflows.errors import ConfigurationError, DatasetError
from workflows.processes import THREAD_SETTINGS, in_processes


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
