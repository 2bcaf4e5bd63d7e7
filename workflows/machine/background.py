"""What follows the computing of a patient (writing, records, reports), done while the next patient is computed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

from ignite.engine import Engine, Events
from monai.transforms import Transform


class Background:
    """One thread that does its work in the order in which it is submitted; after a failure it does nothing more.

    A thread suffices, since torch, zlib and the disk release Python while they work. It is only one, so that files and
    lines come in the order of the patients. MONAI's `ThreadBuffer` ends as if all were done when its thread fails; a
    future of `concurrent.futures` gives the error to whoever waits for it.

    Attach it after all that submits. No more than one patient waits to be finished while another is computed. The first
    error is raised in the engine, at the latest when it has completed. If not `enabled`, work is done as it comes.
    """

    def __init__(self, enabled: bool = True) -> None:
        self.enabled = enabled
        self._thread: ThreadPoolExecutor | None = None
        self._previous: list[Future[None]] = []
        self._current: list[Future[None]] = []
        self._failed = False

    def attach(self, engine: Engine) -> None:
        """Wait for the work of a patient after the next one, and for all work at the end."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._end_patient)
        engine.add_event_handler(Events.COMPLETED, self._finish)

    def submit(self, work: Callable[[], object]) -> None:
        """Have `work` done after all that was submitted before it."""
        if not self.enabled:
            work()
            return
        if self._thread is None:
            self._failed = False
            self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="writing")
        self._current.append(self._thread.submit(self._do, work))

    def later(self, transform: Transform) -> Transform:
        """The transform, done in the background: what it adds to a sample is not seen after it."""
        return _Later(self, transform)

    def _do(self, work: Callable[[], object]) -> None:
        if self._failed:
            return
        try:
            work()
        except BaseException:
            self._failed = True
            raise

    def _end_patient(self) -> None:
        earlier, self._previous, self._current = self._previous, self._current, []
        for future in earlier:
            future.result()

    def _finish(self) -> None:
        submitted = [*self._previous, *self._current]
        self._previous, self._current = [], []
        if self._thread is not None:
            self._thread.shutdown()
            self._thread = None
        for future in submitted:
            future.result()


class _Later(Transform):
    def __init__(self, background: Background, transform: Transform) -> None:
        self.background, self.transform = background, transform

    def __call__(self, data: Mapping[Any, Any]) -> Mapping[Any, Any]:
        self.background.submit(partial(self.transform, dict(data)))
        return data
