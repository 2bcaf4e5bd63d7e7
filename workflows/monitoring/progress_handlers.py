"""What a terminal shows of a training: bars for the epoch and the run, and a row of figures per epoch."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events
from ignite.handlers import ProgressBar as IgniteProgressBar
from ignite.metrics import Frequency
from monai.engines import Evaluator

from workflows.monitoring.best_epoch import BestEpoch
from workflows.monitoring.training_log import SHOWN_FIGURES, figures_of_epoch

RUN_BAR_FORMAT = "{desc} [{n_fmt}/{total_fmt} epochs] {percentage:3.0f}%|{bar}| [{elapsed}, {remaining} left]"
CELL = 9


class ProgressBar:
    """Ignite's bar over an epoch's batches, on a terminal only: in a log file a line per epoch is enough."""

    def __init__(self, doing: str) -> None:
        self.bar = IgniteProgressBar(desc=doing, persist=False) if sys.stderr.isatty() else None

    @idist.one_rank_only()
    def attach(self, engine: Engine) -> None:
        """To the trainer or the validator."""
        if self.bar is not None:
            # Ignite adds the number of the epoch, and a validation counts only the validated ones.
            closing = Events.COMPLETED if isinstance(engine, Evaluator) else Events.EPOCH_COMPLETED
            self.bar.attach(engine, closing_event_name=closing)


class EpochFrequency(Frequency):
    """Ignite's, computed once per epoch and not after every step, where several ranks would wait for each other."""

    def attach(self, engine: Engine, name: str) -> None:  # type: ignore[override]  # Ignite's takes a `usage` that we never give
        """To the trainer, whose figure `name` it becomes."""
        engine.add_event_handler(Events.EPOCH_STARTED, self.started)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.iteration_completed)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.completed, name)


class RunBar:
    """Ignite's bar over a run's epochs with the time left, from the start of the run, on a terminal only.

    Attach it to the trainer after the handler that validates, so that its time counts.
    """

    def __init__(self) -> None:
        self.bar = IgniteProgressBar(desc="run", bar_format=RUN_BAR_FORMAT) if sys.stderr.isatty() else None

    @idist.one_rank_only()
    def attach(self, engine: Engine) -> None:
        """To the trainer."""
        if self.bar is not None:
            engine.add_event_handler(Events.STARTED, self._open)
            self.bar.attach(engine, event_name=Events.EPOCH_COMPLETED, closing_event_name=Events.COMPLETED)

    def _open(self, engine: Engine) -> None:
        # Left alone, Ignite opens the bar with the first epoch that ends, and measures time from there.
        bar: Any = self.bar
        done, total = engine.state.epoch, engine.state.max_epochs
        every_one = {"mininterval": 0, "miniters": 1}  # tqdm leaves out what comes too fast
        shown = {"desc": "run", "bar_format": bar.bar_format, "leave": False}
        bar.pbar = bar.pbar_cls(total=total, initial=done, **shown, **every_one)


class EpochTable:
    """A table on a terminal, one row per epoch, with a mark on each that was the best so far; nothing in a log file.

    Attach it to the trainer after the handler that validates.
    """

    def __init__(self, validator: Engine, best: BestEpoch) -> None:
        self.validator, self.best, self.begun = validator, best, False

    @idist.one_rank_only()
    def attach(self, engine: Engine) -> None:
        """To the trainer."""
        if sys.stdout.isatty():
            engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Write the row of the epoch that has ended."""
        from tqdm import tqdm

        if not self.begun:
            self.begun = True
            tqdm.write("".join(f"{title:>{CELL}}" for title in ("epoch", *SHOWN_FIGURES.values(), "slices/s")))
        tqdm.write(self._row(engine.state.epoch, figures_of_epoch(engine, self.validator)))

    def _row(self, epoch: int, figures: Mapping[str, Any]) -> str:
        cells = [f"{figures[name]:.3f}" if name in figures else "" for name in SHOWN_FIGURES]
        speed = figures.get("slices_per_second", "")
        row = "".join(f"{cell:>{CELL}}" for cell in (epoch, *cells, speed))
        return f"{row}  best so far" if self.best.epoch == epoch else row
