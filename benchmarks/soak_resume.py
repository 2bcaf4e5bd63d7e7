"""A training that nothing interrupts beside the same one that is killed and resumed at random throughout."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import torch
from soak_processes import finish, small_phantoms, start_training

CASES = 4
CALIBRATION_EPOCHS = 6
STOPPED = 143
WAITED_FOR = ("last.pt", "last.pt", "training.log", "model.pt", "config.json")
"""Files in whose writing every third kill shall fall; left to chance hardly any would."""
LONGEST_WAIT_S = 120
START_S = 30
STARTING_SHARE, TERMINATED_SHARE = 0.2, 0.2


def soak_resume(folder: Path, minutes: float, epochs: int | None, kill_every_s: float, seed: int) -> str:
    """Print how often and where the run was killed; give what differs in the end, or nothing."""
    data = small_phantoms(folder / "phantoms", CASES)
    epochs = epochs or calibrated_epochs(data, folder, minutes)
    whole = Uninterrupted(data, folder, epochs)
    try:
        kills = train_killed(data, folder, epochs, kill_every_s, random.Random(seed), whole.look)
        killed_minutes = (time.monotonic() - whole.started) / 60
        whole.finish()
    finally:
        whole.process.kill()
    print_kills(kills)
    print(f"\n{epochs} epochs, at the same time: without interruption {whole.minutes:.1f} minutes", end=" ")
    print(f"({whole.cpu_minutes:.1f} of CPU), with {kills.total()} kills {killed_minutes:.1f} minutes")
    return differences_of_runs(folder / "killed", folder / "whole")


class Uninterrupted:
    """The training that nothing interrupts, and how long it takes."""

    def __init__(self, data: Path, folder: Path, epochs: int) -> None:
        self.output, self.started = folder / "whole.txt", time.monotonic()
        self.process = start_training(data, folder / "whole", epochs, self.output)
        self.minutes = self.cpu_minutes = 0.0

    def look(self) -> None:
        """Note the time and CPU time used so far, if the training still runs."""
        if self.process.poll() is None:
            times = psutil.Process(self.process.pid).cpu_times()
            self.cpu_minutes = (times.user + times.system) / 60
            self.minutes = (time.monotonic() - self.started) / 60

    def finish(self) -> None:
        """Wait until the training ends."""
        while self.process.poll() is None:
            self.look()
            time.sleep(0.1)
        finish(self.process, self.output)


def calibrated_epochs(data: Path, folder: Path, minutes: float) -> int:
    """How many epochs a training takes about so long, beside another of its kind as in the test itself."""
    outputs = [folder / f"calibration_{index}.txt" for index in range(2)]
    seconds: dict[int, float] = {}
    processes = [start_training(data, output.with_suffix(""), CALIBRATION_EPOCHS, output) for output in outputs]
    while processes[0].poll() is None:
        done = outputs[0].read_text().count(": loss")
        if done:
            seconds.setdefault(done, time.monotonic())
        time.sleep(0.02)
    for process, output in zip(processes, outputs, strict=True):
        finish(process, output)
    per_epoch = (seconds[CALIBRATION_EPOCHS] - seconds[1]) / (CALIBRATION_EPOCHS - 1)
    print(f"calibration: {per_epoch:.1f} s per epoch", file=sys.stderr)
    return max(2, round(minutes * 60 / per_epoch))


def train_killed(
    data: Path, folder: Path, epochs: int, kill_every_s: float, moments: random.Random, meanwhile: Callable[[], None]
) -> Counter[tuple[str, str]]:
    """Start the run until it has ended by itself. Gives how many kills there were by signal and by where they hit."""
    run, kills = folder / "killed", Counter[tuple[str, str]]()
    while True:
        output = folder / f"killed_{kills.total():03d}.txt"
        process = start_training(data, run, epochs, output)
        number = signal.SIGTERM if moments.random() < TERMINATED_SHARE else signal.SIGKILL
        waited_for = moments.choice(WAITED_FOR) if kills.total() % 3 == 2 else None
        while_starting = waited_for == "config.json" or moments.random() < STARTING_SHARE
        pause_s = moments.uniform(0, START_S if while_starting else 2 * kill_every_s)
        if not while_starting:
            wait(process, lambda said=output: trains(said.read_text()), LONGEST_WAIT_S, meanwhile)
        if waited_for != "config.json":
            wait(process, lambda: False, pause_s, meanwhile)
        if waited_for:
            wait(process, lambda name=waited_for: name in being_written(run), LONGEST_WAIT_S)
        where = end(process, run, number, output)
        if process.returncode == 0:
            return kills
        if process.returncode not in (-signal.SIGKILL, -signal.SIGTERM, STOPPED):
            sys.exit(f"error: status {process.returncode}: {output.read_text()[-2000:]}")
        kills[number.name, where] += 1
        print(f"kill {kills.total()}: {number.name} while {where}", file=sys.stderr, flush=True)


def wait(
    process: subprocess.Popen[bytes],
    condition: Callable[[], bool],
    longest_s: float,
    meanwhile: Callable[[], None] | None = None,
) -> None:
    """Until the condition holds, the time is over or the process has ended. With nothing to do meanwhile it looks as
    often as the writing of a file needs, which lasts milliseconds.
    """
    until = time.monotonic() + longest_s
    while process.poll() is None and time.monotonic() < until and not condition():
        if meanwhile:
            meanwhile()
        time.sleep(0.05 if meanwhile else 0.0003)


def being_written(run: Path) -> str:
    """The name of a file's partial copy that lies in the run's folder at this moment."""
    names = (path.name for path in run.iterdir()) if run.is_dir() else iter(())
    return next((name for name in names if ".partial." in name), "")


def end(process: subprocess.Popen[bytes], run: Path, number: signal.Signals, output: Path) -> str:
    """Freeze the process, see what it is doing, send the signal. Gives where it hit."""
    if process.poll() is not None:
        return ""
    process.send_signal(signal.SIGSTOP)
    while process.poll() is None and psutil.Process(process.pid).status() not in (psutil.STATUS_STOPPED, "zombie"):
        pass
    where = what_it_does(run, output.read_text())
    process.send_signal(number)
    process.send_signal(signal.SIGCONT)
    process.wait()
    return where


def what_it_does(run: Path, said: str) -> str:
    """What a training is doing, judged by its files and its log."""
    if writing := next((name for name in sorted(set(WAITED_FOR)) if name in being_written(run)), ""):
        return f"writing {writing}"
    return "training or validating" if trains(said) else "starting up"


def trains(said: str) -> bool:
    """Whether a process that has said this is past its preparations."""
    return "resuming in epoch" in said or ": loss" in said


def print_kills(kills: Counter[tuple[str, str]]) -> None:
    """Print where the kills hit, as a table in Markdown."""
    numbers = sorted({number for number, _ in kills})
    print(f"| where it hit | {' | '.join(numbers)} |")
    print("| --- |" + " ---: |" * len(numbers))
    for where in sorted({where for _, where in kills}):
        print(f"| {where} | {' | '.join(str(kills[number, where]) for number in numbers)} |")
    print(f"| **all** | {' | '.join(f'**{sum(c for (n, _), c in kills.items() if n == m)}**' for m in numbers)} |")


def differences_of_runs(run: Path, other: Path) -> str:
    """The first thing in which weights, state and log of two runs differ, to the last bit; nothing where they agree."""
    for name in ("model.pt", "last.pt"):
        one, another = (torch.load(folder / name, weights_only=True) for folder in (run, other))
        if where := first_difference(one, another, name):
            return f"the killed run's {where} differs"
    if (run / "training.log").read_bytes() != (other / "training.log").read_bytes():
        return "the killed run's training.log differs"
    if left := being_written(run):
        return f"the killed run left {left}"
    print("model.pt, last.pt and training.log are the same to the last bit")
    return ""


def first_difference(value: Any, other: Any, where: str) -> str:
    """Where two nested values differ first; nothing where they are the same in type and to the last bit."""
    if type(value) is not type(other):
        return where
    if isinstance(value, torch.Tensor):
        return "" if value.dtype == other.dtype and torch.equal(value, other) else where
    if isinstance(value, dict) and list(value) == list(other):
        return next(filter(None, (first_difference(value[key], other[key], f"{where}/{key}") for key in value)), "")
    if isinstance(value, list | tuple) and len(value) == len(other):
        pairs = enumerate(zip(value, other, strict=True))
        return next(filter(None, (first_difference(*pair, f"{where}/{index}") for index, pair in pairs)), "")
    return "" if value == other else where
