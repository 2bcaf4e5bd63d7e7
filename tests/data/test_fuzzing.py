"""A bounded part of `fuzzing.py`, in a process of its own whose memory is its own."""

from __future__ import annotations

import re

import pytest

from tests.support import REPOSITORY, start


@pytest.mark.parametrize("inputs", [300, pytest.param(10000, marks=pytest.mark.slow)])
def test_damaged_files_are_read_or_refused_within_two_seconds_and_a_gigabyte(inputs: int):
    ended = start("tests/data/fuzzing.py", "--inputs", inputs, cwd=REPOSITORY)
    assert ended.status == 0, ended.stderr[-3000:]
    tried, refused, read = (
        sum(map(int, re.findall(pattern, ended.stdout, re.MULTILINE)))
        for pattern in (r"^(\d+) inputs", r"^ *(\d+)  refused", r"^ *(\d+)  read")
    )
    assert tried == refused + read >= inputs
    assert min(refused, read) > inputs // 100  # neither only noise nor only sound files
