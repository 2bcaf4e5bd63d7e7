"""Writes the report of every patient that an evaluator predicts, and the page over all of them."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from ignite.engine import Engine, Events

from workflows.data.find_cases import find_cases
from workflows.data.reading import BY_NAMES, Reading
from workflows.files.prediction_names import VOLUMES_FILE, map_name, record_name, report_name, thumbnail_name
from workflows.machine.background import Background
from workflows.machine.ranks import is_first
from workflows.messages.errors import BratsError

logger = logging.getLogger(__name__)


class PredictionReports:
    """Attach it after `PredictionFiles`, whose records and table it reads.

    What writes pages is imported with the first page, so that a prediction without reports starts sooner. A patient
    whose report fails keeps the label map; the log says why, and the others go on.

    Args:
        data_dir: where the patients' images lie.
        modalities: those that the network reads; the report shows all there are.
        background: where they are written, after the records.
        done: patients of an earlier run; a missing report is written now.
    """

    def __init__(
        self,
        output_dir: str | Path,
        data_dir: str | Path,
        modalities: Sequence[str],
        enabled: bool = True,
        background: Background | None = None,
        done: Sequence[str] = (),
        reading: Reading = BY_NAMES,
    ) -> None:
        self.output_dir, self.data_dir = Path(output_dir), Path(data_dir)
        self.modalities, self.enabled, self.reading = tuple(modalities), enabled, reading
        self.background, self.done = background or Background(enabled=False), done

    def attach(self, engine: Engine) -> None:
        """Report each patient after its prediction, and all patients at the end."""
        if self.enabled:
            engine.add_event_handler(Events.STARTED, self._start)
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._report_batch)
            engine.add_event_handler(Events.COMPLETED, self._finish)

    def _start(self) -> None:
        self.cases = {case.id: case for case in find_cases(self.data_dir, self.modalities, self.reading).cases}
        for case in self.done:
            if not self._is_written(case):
                self.background.submit(partial(self._write, case))
        if self.done:
            self.background.submit(self._write_overview)

    def _is_written(self, case: str) -> bool:
        """Whether a stopped run came as far as the thumbnail, which is the last of a patient's files."""
        record, last = (self.output_dir / case / name for name in (record_name(case), thumbnail_name(case)))
        return last.is_file() and last.stat().st_mtime_ns >= record.stat().st_mtime_ns

    def _report_batch(self, engine: Engine) -> None:
        for batch in engine.state.batch:  # type: ignore[union-attr]  # declared int
            self.background.submit(partial(self._write, str(batch["case"])))

    def _write(self, case: str) -> None:
        from workflows.report.overview import write_thumbnail
        from workflows.report.report import make_report, write_report

        started, folder = time.monotonic(), self.output_dir / case
        try:
            report = make_report(self.cases[case], self.data_dir, folder / map_name(case))
            write_report(report, folder / report_name(case))
            write_thumbnail(report, folder / thumbnail_name(case))
        except BratsError as error:
            logger.warning(f"{case}: no report: {error}")
        else:
            logger.info(f"{case}: {report_name(case)} ({time.monotonic() - started:.1f} s)")

    def _finish(self) -> None:
        if is_first():  # which has the table of all patients by now
            self.background.submit(partial(self._write_overview, say=True))

    def _write_overview(self, say: bool = False) -> None:
        from workflows.report.overview import write_overview

        out = write_overview(self.output_dir, self.output_dir / VOLUMES_FILE)
        if out and say:
            logger.info(f"all patients at a glance: {out.resolve()}")
