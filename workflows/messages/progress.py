"""Progress of long work: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")
SECONDS_BETWEEN_LINES = 10.0


def track(items: Iterable[Item], doing: str, total: int) -> Iterator[Item]:
    """Yield `items` unchanged while showing how many of `total` are done, the rate and the time left.

    Args:
        doing: what happens, in the present participle, e.g. "reading".
    """
    if sys.stderr.isatty():
        yield from _bar(items, doing, total)
    else:
        yield from _lines(items, doing, total)


def _bar(items: Iterable[Item], doing: str, total: int) -> Iterator[Item]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    started = time.monotonic()
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(doing, total=total, rate="")
        for done, item in enumerate(items, start=1):
            yield item
            progress.update(task, completed=done, rate=_rate(done, started))


def _lines(items: Iterable[Item], doing: str, total: int) -> Iterator[Item]:
    started = last_line = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if done == total or now - last_line >= SECONDS_BETWEEN_LINES:
            last_line = now
            left = (now - started) / done * (total - done)
            print(f"{doing}: {done}/{total}, {_rate(done, started)}, {left:.0f} s left", file=sys.stderr, flush=True)


def _rate(done: int, started: float) -> str:
    return f"{done / max(time.monotonic() - started, 1e-9):.2f}/s"
