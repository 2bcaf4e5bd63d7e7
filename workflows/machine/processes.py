"""Work on many cases in several processes, and work in a process of its own."""

from __future__ import annotations

import math
import multiprocessing
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from workflows.messages.errors import (
    BratsError,
    ConfigurationError,
    DatasetError,
    root_cause,
    show_what_the_terminal_knows,
)
from workflows.messages.progress import track

Item = TypeVar("Item")
Result = TypeVar("Result")

_STARTING = threading.Lock()
THREAD_SETTINGS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def in_processes(
    work: Callable[[Item], Result], items: Sequence[Item], doing: str, workers: int | None = None
) -> list[Result]:
    """`work` of each item, in the order of the items, with progress.

    Args:
        work: at the top level of a module or a `functools.partial` of such a function.
        doing: what happens, in the present participle.
        workers: processes of one thread each; `allowed_processors` by default. One works here.
    Raises:
        DatasetError: if a process is killed from outside.
        ConfigurationError: if `workers` is below 1.
    """
    if workers is not None and workers < 1:
        raise ConfigurationError(f"{workers} workers cannot work; use 1 or more.")
    processes = min(workers or allowed_processors(), len(items))
    if processes <= 1 or multiprocessing.current_process().daemon:  # a daemon, as in a Pool, may start none
        return list(track(map(work, items), doing, len(items)))
    # Spawned: a caller may run threads, as PyTorch does, and a forked process would inherit them half.
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(processes, mp_context=context, initializer=_use_one_thread) as pool:
            try:
                with _without_main():
                    results = pool.map(work, items)
                return list(track(results, doing, len(items)))
            finally:
                pool.shutdown(cancel_futures=True)  # else Ctrl-C would wait for all remaining work
    except BrokenProcessPool as error:
        raise DatasetError(
            f"A process was killed while {doing}, probably for want of memory; use fewer workers."
        ) from error


@contextmanager
def _without_main() -> Iterator[None]:
    """Processes that start meanwhile do not run the caller's script once more, which may have no main guard: their
    work lies in a module.
    """
    with _STARTING:
        main = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = main


def allowed_processors() -> int:
    """The processor cores that this process may use, which may be fewer than the machine has.

    The affinity tells (Slurm and `taskset` set it), the quota of a container's control group, and Slurm's own number
    for jobs that it does not bind.
    """
    has_affinity = hasattr(os, "sched_getaffinity")  # not on macOS and Windows
    cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    return max(1, min(cores, _control_group_quota(), _slurm_number()))


def use_allowed_processors() -> None:
    """Let torch, which asks for the affinity alone, start no more threads than `allowed_processors`."""
    import torch

    if torch.get_num_threads() > (allowed := allowed_processors()):
        torch.set_num_threads(allowed)


def _control_group_quota(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int:
    """Whole cores that this process's control group, and those that hold it, may use; no limit where none is stated.

    See https://docs.kernel.org/admin-guide/cgroup-v2.html, and https://docs.kernel.org/scheduler/sched-bwc.html for v1.
    """
    quotas = [sys.maxsize]
    with suppress(OSError, ValueError):
        for _, controllers, group in (line.split(":", 2) for line in own.read_text().splitlines()):
            if not controllers or "cpu" in controllers.split(","):
                place = root / ("cpu" if controllers else "") / group.lstrip("/")
                quotas += [_quota_in(folder) for folder in (place, *place.parents)]
    return min(quotas)


def _quota_in(folder: Path) -> int:
    for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        with suppress(OSError, ValueError):  # "max" stands for no limit in v2, and is no number
            quota, period = map(int, " ".join((folder / name).read_text() for name in names).split())
            if quota > 0:  # -1 stands for no limit in v1
                return math.ceil(quota / period)
    return sys.maxsize


def _slurm_number() -> int:
    number = os.environ.get("SLURM_CPUS_PER_TASK", "")
    return int(number) if number.isdigit() and int(number) else sys.maxsize


def _use_one_thread() -> None:
    """Runs before the work is imported, and so before the libraries that read these settings."""
    show_what_the_terminal_knows()
    os.environ.update(dict.fromkeys(THREAD_SETTINGS, "1"))


def in_own_process(work: Callable[..., object], *arguments: object) -> None:
    """Run `work`, at the top level of a module, in a process of its own; it leaves its results in files.

    Raises:
        BratsError: what `work` says of something a person can mend, or that it failed otherwise or was killed.
        SystemExit: as `work` raises it, when it has been asked to stop.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_report, args=(sender, work, arguments))
    with _without_main():
        process.start()
    sender.close()
    try:
        outcome = receiver.recv()
    except EOFError:
        outcome = BratsError("the process was killed, probably for want of memory.")
    except BaseException:
        process.terminate()
        raise
    finally:
        process.join()
    if outcome is not None:
        raise outcome


def _report(sender: Connection, work: Callable[..., object], arguments: Sequence[object]) -> None:
    show_what_the_terminal_knows()
    try:
        work(*arguments)
    except SystemExit as stopped:
        sender.send(stopped if stopped.code else None)
    except Exception as error:  # noqa: BLE001  # whatever went wrong, the process that waits must hear of it
        ours = root_cause(error)
        if ours is None:
            traceback.print_exc()
        sender.send(BratsError(str(ours or f"{type(error).__name__}: {error}")))
    else:
        sender.send(None)
