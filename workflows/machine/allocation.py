"""How this process asks the system for memory, and looks for what it no longer needs."""

from __future__ import annotations

import ctypes
import gc
import sys
from functools import cache

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Names of glibc's settings, `man mallopt`."""
KEPT_BYTES = (1 << 30, 1 << 25)
"""The largest block that is kept, or what older versions of glibc allow at most."""


def keep_freed_memory() -> None:
    """Use large blocks again that were freed; does nothing where there is no glibc.

    glibc asks the system anew for every block of more than 32 MiB, which fills it with zeros, page by page: a tenth of
    a training step on the CPU or more (`benchmarks/training_step.py` has the baseline both ways).
    """
    if any(_set(MMAP_THRESHOLD, size) for size in KEPT_BYTES):
        _set(TRIM_THRESHOLD, max(KEPT_BYTES))


@cache
def spare_collector_the_imports() -> None:
    """Python's garbage collector no longer visits the objects that there are now, nearly all of them of imports.

    It would visit them again and again while the rest is imported (`benchmarks/startup.py`). Only the first call does
    anything: a later one might keep the garbage of a run that has ended.
    """
    gc.collect(1)  # the young objects, in no time
    gc.freeze()


def give_freed_memory_back() -> None:
    """What glibc does by itself once a process has freed large blocks: to measure the difference."""
    _set(MMAP_THRESHOLD, min(KEPT_BYTES))
    _set(TRIM_THRESHOLD, 2 * min(KEPT_BYTES))


def _set(setting: int, size: int) -> bool:
    """Whether it was accepted; never where there is no glibc."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    return mallopt is not None and bool(mallopt(setting, size))
