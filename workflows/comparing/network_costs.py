"""What a network costs: seconds per training step and per patient, and memory.

On a CPU, seconds are those that the process's threads have used, which other programs on the machine disturb least; on
a GPU they are wall clock. The memory is the most that the process has held so far, and on a GPU also the most that
PyTorch has held there.
"""

from __future__ import annotations

import re
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
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
"""They also allocate memory and choose algorithms, and are left out."""
STEPS = 12
SECONDS = 60.0
"""A warm-up ends after that many steps or seconds, whichever comes first, but measures three steps at least."""
FEWEST_STEPS = 3


def clock(device: Any) -> Callable[[], float]:
    """The seconds that count on a device, from any start; on a GPU, once its work is done."""
    return time.process_time if torch.device(device).type == "cpu" else partial(_clock_of_gpu, torch.device(device))


def _clock_of_gpu(device: torch.device) -> float:
    torch.cuda.synchronize(device)
    return time.perf_counter()


def peak_memory() -> dict[str, float]:
    """The most memory that this process has held so far, "memory_gb", and "gpu_memory_gb" where it has used a GPU."""
    peak = {"memory_gb": _peak_kib() * 1024 / 1e9}
    if torch.cuda.is_initialized():
        peak["gpu_memory_gb"] = torch.cuda.max_memory_reserved() / 1e9
    return peak


def _peak_kib() -> float:
    """Linux's `ru_maxrss` would begin with what the parent held when it started this process."""
    status = Path("/proc/self/status")
    if status.is_file() and (peak := re.search(r"^VmHWM:\s+(\d+)", status.read_text(encoding="utf-8"), re.MULTILINE)):
        return float(peak[1])
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 1024 if sys.platform == "darwin" else float(most)  # macOS counts bytes


class StepCosts:
    """Measures the first steps of a training, ends it, and writes what an epoch will cost.

    `write` makes a JSON object with "parameters", "steps_per_epoch" and "seconds_per_step", the median from the end of
    one step to the end of the next, loading and augmentation included.
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
    """The median over the steps after the first `FIRST_STEPS`; over all where there are no more.

    Args:
        ends: when the run began and each of its steps ended.
    """
    taken = [end - start for start, end in pairwise(ends)]
    return statistics.median(taken[FIRST_STEPS:] or taken)


class PredictionCosts:
    """Measures the prediction of each case from reading its files to its label map on the disk, without its scoring.

    At the end it writes a JSON object with "seconds" by case, their median "seconds_per_case", and `peak_memory` up to
    the first label map, before anything has been scored.

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
