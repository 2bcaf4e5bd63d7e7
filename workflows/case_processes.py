"""The same work on every case, in several processes."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from workflows.dataset import Case
from workflows.errors import DatasetError
from workflows.progress import track

Result = TypeVar("Result")


def map_cases(work: Callable[[Case], Result], cases: Sequence[Case], doing: str, workers: int | None) -> list[Result]:
    """`work` of every case, in their order, with progress.

    Args:
        work: can be pickled, and so can what it returns; it handles what one broken case raises.
        doing: what happens, in the present participle, for the progress.
        workers: processes; as many as there are processor cores by default, none but this one where 1 is enough.
    Raises:
        DatasetError: if a process is killed.
    """
    processes = min(workers or os.cpu_count() or 1, len(cases))
    if processes == 1:
        return list(track(map(work, cases), doing, len(cases)))
    # Spawned, since a caller may run threads (PyTorch does), which a forked process inherits half.
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(processes, mp_context=context) as pool:
            return list(track(pool.map(work, cases), doing, len(cases)))
    except BrokenProcessPool as error:
        raise DatasetError(f"A process {doing} was killed, probably for want of memory; use fewer workers.") from error
