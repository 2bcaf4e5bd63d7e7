"""SIGTERM and Ctrl-C ask a run to stop after its current step; a second one ends it at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)
ECHO_S = 2.0
"""Within this time a signal may reach a rank twice: from a batch system, and again from `torchrun`."""


class StopRequest:
    """Whether a run has been asked to stop, between `listen` and `ignore`.

    A second signal within `echo_s` seconds counts as the first.
    """

    def __init__(self, echo_s: float = 0) -> None:
        self.echo_s, self._noted_at = echo_s, 0.0
        self.signal: signal.Signals | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def listen(self) -> None:
        """Take note of the signals. In another thread than the main one Python does not allow it; nothing happens."""
        if threading.current_thread() is threading.main_thread() and not self._previous:
            self._previous = {number: signal.signal(number, self._note) for number in SIGNALS}

    def ignore(self) -> None:
        """Let the signals do what they did before `listen`."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self.signal is not None:
            if time.monotonic() - self._noted_at < self.echo_s:
                return
            self.ignore()
            sys.exit(exit_status(number))
        self.signal, self._noted_at = signal.Signals(number), time.monotonic()
        # Not by print, which may be at work at this moment and cannot be entered twice.
        os.write(2, f"\n{self.signal.name}: stopping after this step; once more to stop at once\n".encode())


def exit_status(number: int) -> int:
    """The status by which shells report a process that a signal has ended: 143 after SIGTERM, 130 after Ctrl-C."""
    return 128 + number


def exit_on_sigterm() -> None:
    """Let SIGTERM end the process like an exception, so that nothing half-written stays."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(exit_status(number)))
