"""Memory that was freed is used again instead of being asked for anew, and imports are not searched for garbage."""

from __future__ import annotations

import platform
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import REPOSITORY, Started

PAGES_FAULTED = """
import resource, sys
sys.path.insert(0, sys.argv[1])
import torch
from workflows.machine.allocation import give_freed_memory_back, keep_freed_memory
if sys.argv[2] != "as ever":
    keep_freed_memory()
if sys.argv[2] == "given back":
    give_freed_memory_back()
for _ in range(20):  # until it has found its place, at an address that torch can use
    torch.ones(1 << 24)  # 64 MiB
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    torch.ones(1 << 24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="this is about glibc's malloc")
def test_large_blocks_are_given_back_by_glibc_and_kept_by_us(python: Callable[..., Started], tmp_path: Path):
    def pages(how: str) -> int:
        ended = python("-c", PAGES_FAULTED, REPOSITORY, how, cwd=tmp_path, THP_MEM_ALLOC_ENABLE="0")
        assert ended.status == 0, ended.stderr
        return int(ended.stdout)

    as_ever, given_back, kept = (pages(how) for how in ("as ever", "given back", "kept"))
    assert kept < 100
    assert min(as_ever, given_back) > 10 * max(kept, 100)


FROZEN = """
import gc, sys
sys.path.insert(0, sys.argv[1])
import torch
from workflows.machine.allocation import spare_collector_the_imports
spare_collector_the_imports()
first = gc.get_freeze_count()
kept = [[] for _ in range(1000)]
spare_collector_the_imports()
print(first, gc.get_freeze_count(), len(gc.get_objects()))
"""


def test_what_was_imported_is_no_longer_visited_by_the_collector_and_what_comes_later_is(
    python: Callable[..., Started], tmp_path: Path
):
    ended = python("-c", FROZEN, REPOSITORY, cwd=tmp_path)
    assert ended.status == 0, ended.stderr
    first, second, visited = map(int, ended.stdout.split())
    assert first == second > 50_000  # torch alone
    assert 1000 <= visited < first
