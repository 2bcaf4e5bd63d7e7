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
        from tqdm import tqdm

        yield from tqdm(items, doing, total)
        return
    started = last_line = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if done == total or now - last_line >= SECONDS_BETWEEN_LINES:
            last_line = now
            each_s = max(now - started, 1e-9) / done
            left = f"{1 / each_s:.2f}/s, {each_s * (total - done):.0f} s left"
            print(f"{doing}: {done}/{total}, {left}", file=sys.stderr, flush=True)
