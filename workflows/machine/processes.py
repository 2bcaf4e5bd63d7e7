"""Work on many cases in several processes, and work in a process of its own."""

from __future__ import annotations

import math
import multiprocessing
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TypeVar

from workflows.messages.errors import BratsError, ConfigurationError, DatasetError, root_cause
from workflows.messages.progress import track

Item = TypeVar("Item")
Result = TypeVar("Result")

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
    if processes <= 1:
        return list(track(map(work, items), doing, len(items)))
    # Spawned: a caller may run threads, as PyTorch does, and a forked process would inherit them half.
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(processes, mp_context=context, initializer=_use_one_thread) as pool:
            try:
                return list(track(pool.map(work, items), doing, len(items)))
            finally:
                pool.shutdown(cancel_futures=True)  # else Ctrl-C would wait for all remaining work
    except BrokenProcessPool as error:
        raise DatasetError(
            f"A process was killed while {doing}, probably for want of memory; use fewer workers."
        ) from error


def allowed_processors() -> int:
    """The processor cores that this process may use, which may be fewer than the machine has.

    The affinity tells (Slurm and `taskset` set it), the quota of a container's control group, and Slurm's own number
    for jobs that it does not bind.
    """
    with suppress(AttributeError):  # there is no affinity on macOS
        return max(1, min(len(os.sched_getaffinity(0)), _control_group_quota(), _slurm_number()))
    return max(1, min(os.cpu_count() or 1, _slurm_number()))


def _control_group_quota(file: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Whole cores, see the kernel's documentation of cgroup v2; no limit where it does not say."""
    with suppress(OSError, ValueError):
        quota, period = map(int, file.read_text().split())  # "max" for none is no number
        return math.ceil(quota / period)
    return sys.maxsize


def _slurm_number() -> int:
    number = os.environ.get("SLURM_CPUS_PER_TASK", "")
    return int(number) if number.isdigit() and int(number) else sys.maxsize


def _use_one_thread() -> None:
    """Runs before the work is imported, and so before the libraries that read these settings."""
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
