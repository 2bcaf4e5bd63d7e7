"""What a network costs: seconds per training step and per patient, and memory.

On a CPU, seconds are those of the process's threads, which other programs disturb least; on a GPU they are wall clock.
"""

from __future__ import annotations

import re
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.engines import IterationEvents

from workflows.files.json_files import write_json
from workflows.machine.stopping import exit_status
from workflows.training.run_state import RunState

FIRST_STEPS = 2
"""Left out, since they also allocate memory and choose algorithms."""
STEPS = 12
SECONDS = 60.0
FEWEST_STEPS = 3
"""A warm-up ends after `STEPS` or `SECONDS`, whichever comes first, but not before these."""


def clock(device: Any) -> Callable[[], float]:
    """The seconds that count on a device, from any start; on a GPU, once its work is done."""

    def clock_of_gpu() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    return time.process_time if torch.device(device).type == "cpu" else clock_of_gpu


def peak_memory() -> dict[str, float]:
    """The most memory that this process has held so far, "memory_gb", and "gpu_memory_gb" where it has used a GPU."""
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "darwin" else 1)  # bytes
    status = Path("/proc/self/status")  # Linux's `ru_maxrss` begins with what the parent held
    if status.is_file() and (most := re.search(r"^VmHWM:\s+(\d+)", status.read_text(encoding="utf-8"), re.MULTILINE)):
        peak_kib = float(most[1])
    on_gpu = {"gpu_memory_gb": torch.cuda.max_memory_reserved() / 1e9} if torch.cuda.is_initialized() else {}
    return {"memory_gb": peak_kib * 1024 / 1e9, **on_gpu}


class StepCosts:
    """Measures the first steps of a training, ends it, and writes what an epoch will cost.

    The JSON has "parameters", "steps_per_epoch" and "seconds_per_step": the median, loading and augmentation included.
    """

    def __init__(self, path: str | Path, network: torch.nn.Module, device: Any) -> None:
        self.path, self.network, self.clock = Path(path), network, clock(device)
        self.ends: list[float] = []
        self.steps_per_epoch = 0

    def attach(self, engine: Engine) -> None:
        """Take the time after each step."""
        engine.add_event_handler(Events.STARTED, self._end_step)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._end_step)

    def write(self, state: RunState) -> None:
        """Raises `SystemExit` if the run was asked to stop: its few steps are no measure."""
        if state.stop.signal:
            raise SystemExit(exit_status(state.stop.signal))
        parameters = sum(weights.numel() for weights in self.network.parameters())
        costs = {"steps_per_epoch": self.steps_per_epoch, "seconds_per_step": seconds_per_step(self.ends)}
        write_json({"parameters": parameters, **costs}, self.path)

    def _end_step(self, engine: Engine) -> None:
        self.ends.append(self.clock())
        self.steps_per_epoch = engine.state.epoch_length or 0
        measured = len(self.ends) - 1 - FIRST_STEPS
        if measured >= STEPS or (measured >= FEWEST_STEPS and self.ends[-1] - self.ends[0] > SECONDS):
            engine.terminate()


def seconds_per_step(ends: Sequence[float]) -> float:
    """The median over the steps after the first `FIRST_STEPS`, or over all if there are no more.

    `ends` are the times at which the run began and each step ended.
    """
    taken = [end - start for start, end in pairwise(ends)]
    return statistics.median(taken[FIRST_STEPS:] or taken)


class PredictionCosts:
    """Measures the prediction of each case from its files to its label map on the disk, without scoring.

    The JSON has "seconds" by case, their median "seconds_per_case", and `peak_memory` up to the first label map.

    The loader is a case ahead: reading the second case counts for the first, and nothing is read during the last. The
    median over cases of one size is that of reading and predicting one.
    """

    def __init__(self, path: str | Path, device: Any) -> None:
        self.path, self.clock = Path(path), clock(device)
        self.seconds: dict[str, float] = {}
        self.peak: dict[str, float] = {}

    def attach(self, engine: Engine) -> None:
        """Take the time of each case, and write at the end."""
        engine.add_event_handler(Events.GET_BATCH_STARTED, self._start)
        # The post-processing is a handler of the same event, and runs first.
        engine.add_event_handler(IterationEvents.MODEL_COMPLETED, self._end)
        engine.add_event_handler(Events.COMPLETED, self._write)

    def _start(self) -> None:
        self.started = self.clock()

    def _end(self, engine: Engine) -> None:
        taken = self.clock() - self.started
        state: Any = engine.state  # Ignite declares the batch as an integer
        for batch in state.batch:
            self.seconds[batch["case"]] = taken / len(state.batch)
        self.peak = self.peak or peak_memory()

    def _write(self) -> None:
        median = statistics.median(self.seconds.values())
        write_json({"seconds": self.seconds, "seconds_per_case": median, **self.peak}, self.path)
