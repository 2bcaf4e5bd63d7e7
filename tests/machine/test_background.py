"""What is done in the background comes in order, holds few patients at once, and fails as if it were not there."""

from __future__ import annotations

import logging
import threading
import time

import pytest
from ignite.engine import Engine, Events
from monai.data import Dataset

from workflows.machine.background import Background
from workflows.messages.errors import BratsError
from workflows.prediction.usable_cases import FAULT, UsableCases


def engine_that(step, background: Background) -> Engine:
    engine = Engine(lambda _, batch: batch)
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: step(engine.state.output))
    background.attach(engine)
    return engine


@pytest.mark.parametrize("enabled", [True, False])
def test_what_is_submitted_is_done_in_that_order_before_the_engine_has_completed(enabled: bool):
    background, done = Background(enabled), []

    def slowly(number: int) -> None:
        time.sleep(0.01 * (3 - number % 3))
        done.append(number)

    engine = engine_that(lambda number: background.submit(lambda: slowly(number)), background)
    engine.run(range(7))
    assert done == list(range(7))
    engine.run(range(7, 9))  # it can be used again
    assert done == list(range(9))


def test_work_goes_on_in_another_thread_and_no_more_than_one_patient_waits():
    background, threads, waiting, most = Background(), set(), [0], [0]

    def write() -> None:
        threads.add(threading.current_thread().name)
        time.sleep(0.03)
        waiting[0] -= 1

    def submit(_: int) -> None:
        waiting[0] += 1
        most[0] = max(most[0], waiting[0])
        background.submit(write)

    engine_that(submit, background).run(range(8))
    assert len(threads) == 1 and threads != {threading.current_thread().name}
    assert waiting == [0]
    assert most == [2]  # the patient that was just computed, and the one before


def test_the_first_failure_ends_the_run_and_what_was_to_follow_is_not_done():
    background, done, computed = Background(), [], []

    def fail() -> None:
        raise BratsError("disk: No space left on device; make room for it.")

    def submit(number: int) -> None:
        computed.append(number)
        background.submit(fail if number == 2 else lambda: done.append(number))

    with pytest.raises(BratsError, match="make room"):
        engine_that(submit, background).run(range(20))
    assert done == [0, 1]
    assert len(computed) <= 4


def test_a_failure_with_the_last_patient_is_raised_too():
    background = Background()
    with pytest.raises(ZeroDivisionError):
        engine_that(lambda number: background.submit(lambda: 1 / (2 - number)), background).run(range(3))


class Read:
    """Notes when each case is read, and by which thread; one cannot be."""

    def __init__(self) -> None:
        self.cases: list[str] = []
        self.threads: set[str] = set()

    def __call__(self, entry: dict) -> dict:
        self.threads.add(threading.current_thread().name)
        self.cases.append(entry["case"])
        if entry["case"] == "P2":
            raise BratsError("P2: is cut short.")
        return entry


def test_the_next_patient_is_read_while_one_is_in_use_and_no_patient_beyond_it():
    read = Read()
    entries = [{"case": f"P{number}"} for number in range(8)]
    loader = UsableCases(Dataset(entries, read), background=Background(), batch_size=1)
    used = []
    for batch in loader:
        (case,) = batch["case"]
        used.append(case)
        time.sleep(0.05)
        number = int(case[1:])
        # One is held back, one is being read; where one is left out, the next takes its place.
        assert len(read.cases) <= number + 3 + (number == 1)
    assert used == ["P0", "P1", "P3", "P4", "P5", "P6", "P7"]
    assert threading.current_thread().name not in read.threads
    assert [fault.case for fault in loader.faults] == ["P2"]


def test_lines_about_faults_stand_where_they_would_without_a_background(caplog: pytest.LogCaptureFixture):
    entries = [{"case": "P0"}, {"case": "P1"}, {"case": "bad", FAULT: "bad: is there twice."}, {"case": "P3"}]
    lines = {}
    for enabled in (True, False):
        background = Background(enabled)
        loader = UsableCases(Dataset(entries, None), background=background, batch_size=1)

        def submit(batch: dict, background: Background = background) -> None:
            background.submit(lambda: (time.sleep(0.03), logging.getLogger("workflows").info(batch["case"][0])))

        engine = engine_that(submit, background)
        loader.attach(engine)
        caplog.clear()
        with caplog.at_level(logging.INFO, "workflows"):
            engine.run(loader)
        lines[enabled] = caplog.messages
    assert lines[True] == lines[False]
    assert len(lines[True]) == 4


def test_a_thread_that_reads_does_not_outlive_a_run_that_failed():
    loader = UsableCases(Dataset([{"case": f"P{n}"} for n in range(9)], None), background=Background(), batch_size=1)
    batches = iter(loader)
    next(batches)
    batches.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("reading")]
