"""Writes the report of every patient that an evaluator predicts, and the page over all of them."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path

from ignite.engine import Engine, Events

from workflows.dataset import find_cases
from workflows.errors import BratsError
from workflows.predict import VOLUMES_FILE
from workflows.ranks import is_first

logger = logging.getLogger(__name__)


class PredictionReports:
    """Attach it after `PredictionFiles`, whose records and table it reads.

    What writes pages is imported with the first of them: without reports a prediction starts sooner.

    A patient whose report fails keeps the label map; the log says why, and the others go on.

    Args:
        data_dir: where the patients' images lie.
        modalities: those that the network reads; the report shows all there are.
        enabled: False attaches nothing.
    """

    def __init__(
        self, output_dir: str | Path, data_dir: str | Path, modalities: Sequence[str], enabled: bool = True
    ) -> None:
        self.output_dir, self.data_dir = Path(output_dir), Path(data_dir)
        self.modalities, self.enabled = tuple(modalities), enabled

    def attach(self, engine: Engine) -> None:
        if self.enabled:
            engine.add_event_handler(Events.STARTED, self._start)
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._report_batch)
            engine.add_event_handler(Events.COMPLETED, self._write_overview)

    def _start(self, engine: Engine) -> None:
        self.cases = {case.id: case for case in find_cases(self.data_dir, self.modalities).cases}

    def _report_batch(self, engine: Engine) -> None:
        for batch in engine.state.batch:  # type: ignore[union-attr]
            started = time.monotonic()
            try:
                out = self._report(str(batch["case"]))
                logger.info(f"{batch['case']}: {out.name} ({time.monotonic() - started:.1f} s)")
            except BratsError as error:
                logger.warning(f"{batch['case']}: no report: {error}")

    def _report(self, case: str) -> Path:
        from workflows.report import make_report, write_report
        from workflows.report_overview import report_name, thumbnail_name, write_thumbnail

        folder = self.output_dir / case
        report = make_report(self.cases[case], self.data_dir, folder / f"{case}_seg.nii.gz")
        out = folder / report_name(case)
        write_report(report, out)
        write_thumbnail(report, folder / thumbnail_name(case))
        return out

    def _write_overview(self, engine: Engine) -> None:
        if not is_first():  # which by now has the table of all
            return
        from workflows.report_overview import write_overview

        out = write_overview(self.output_dir, self.output_dir / VOLUMES_FILE)
        if out:
            logger.info(f"all patients at a glance: {out.resolve()}")
