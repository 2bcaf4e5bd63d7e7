"""What a terminal and a log file show of a training, the terminal being a real pseudo-terminal."""

from __future__ import annotations

import fcntl
import logging
import os
import pty
import re
import struct
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from monai.handlers import ValidationHandler

from tests.training.test_handlers import batches, evaluator_of, tiny_network, trainer_of
from workflows.monitoring.best_epoch import BestEpoch
from workflows.monitoring.progress_handlers import EpochTable, ProgressBar, RunBar
from workflows.monitoring.training_log import TrainingLog

EPOCHS = 3


@contextmanager
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """Standard output and error are a terminal of 40 rows; what it showed is in the list when it is closed."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    shown: list[bytes] = []

    def read() -> None:
        try:
            while part := os.read(master, 4096):
                shown.append(part)
        except OSError:  # Linux says so when the other end is closed
            pass

    reader = threading.Thread(target=read)
    reader.start()
    with os.fdopen(slave, "w", encoding="utf8") as screen, monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", screen)
        patched.setattr(sys, "stderr", screen)
        yield shown
    reader.join(10)
    os.close(master)


def train_with_progress(log: Path) -> None:
    network = tiny_network()
    validator = evaluator_of(network, batches())
    ProgressBar("validation").attach(validator)
    trainer = trainer_of(network, [ProgressBar("training"), ValidationHandler(validator=validator, interval=1)], EPOCHS)
    TrainingLog(log, validator, trainer.optimizer).attach(trainer)
    best = BestEpoch("val_mean_region_dice")
    best.attach(validator)
    EpochTable(validator, best).attach(trainer)
    RunBar().attach(trainer)
    trainer.run()


def test_a_terminal_shows_a_bar_per_epoch_one_for_the_run_and_a_row_per_epoch(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    with terminal(monkeypatch) as parts, caplog.at_level(logging.INFO, logger="workflows.monitoring.training_log"):
        train_with_progress(tmp_path / "training.log")
    shown = b"".join(parts).decode()
    assert caplog.messages == []
    assert shown.index(f"run [0/{EPOCHS} epochs]") < shown.index("training")
    assert all(f"training [{epoch}/{EPOCHS}]" in shown for epoch in range(1, EPOCHS + 1))
    assert "validation: [" in shown
    assert re.search(rf"\[{EPOCHS}/{EPOCHS} epochs\] 100%.*?\d\d:\d\d left", shown)
    assert len(re.findall(r"epoch +loss +val loss +val WT +val TC +val ET +slices/s", shown)) == 1
    rows = re.findall(r"(\d+)((?: +[01]\.\d{3}){5})", shown)
    assert [int(epoch) for epoch, _ in rows] == [1, 2, 3]
    last = (tmp_path / "training.log").read_text().splitlines()[-1].split(",")
    assert float(rows[-1][1].split()[0]) == pytest.approx(float(last[2]), abs=5e-4)
    assert 1 <= shown.count("best so far") <= EPOCHS


def test_a_log_file_gets_one_plain_line_per_epoch_and_neither_bars_nor_table(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
):
    with caplog.at_level(logging.INFO, logger="workflows.monitoring.training_log"):
        train_with_progress(tmp_path / "training.log")
    assert [message.partition(":")[0] for message in caplog.messages] == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]
    assert tuple(capfd.readouterr()) == ("", "")
