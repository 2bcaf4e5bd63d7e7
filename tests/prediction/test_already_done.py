"""A prediction of many patients that was stopped is continued by the same command, and only by the same."""

from __future__ import annotations

import csv
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import REPOSITORY, Run
from workflows.machine.background import Background
from workflows.messages.errors import root_cause
from workflows.prediction.predict import patients, predict
from workflows.prediction.records_and_tables import PredictionFiles

NAMES = [f"P{number}" for number in range(1, 7)]
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}


def link_patients(phantom_dir: Path, folder: Path, names: list[str]) -> Path:
    """Patients with FLAIR and T1ce only, whose files are links to those of the phantoms in turn."""
    cases = sorted(path for path in phantom_dir.iterdir() if path.is_dir())
    for number, name in enumerate(names):
        case = cases[number % len(cases)]
        (folder / name).mkdir(parents=True)
        for modality in ("flair", "t1ce"):
            os.link(case / f"{case.name}_{modality}.nii.gz", folder / name / f"{name}_{modality}.nii.gz")
    return folder


def command(data: Path, out: Path, checkpoint: Path, *options: str) -> list[str]:
    named = ("predict", data, "--out", out, "--checkpoint", checkpoint, "--device", "cpu", *options)
    return [sys.executable, "-m", "workflows", *map(str, named)]


def tables(out: Path) -> tuple[list[str], list[str]]:
    """The cases in volumes.csv and those that index.html leads to."""
    with (out / "volumes.csv").open() as file:
        rows = [row["case"] for row in csv.DictReader(file)]
    links = re.findall(r'href="([^"/]+)/\1_report\.html"', (out / "index.html").read_text())
    return rows, list(dict.fromkeys(links))


def label_maps(out: Path) -> dict[str, bytes]:
    return {file.parent.name: file.read_bytes() for file in sorted(out.glob("P*/P*_seg.nii.gz"))}


def killed_with_some_done(start: Callable[[Path], subprocess.Popen[bytes]], folder: Path) -> Path:
    """The output folder of a process that got SIGKILL after its second record; tried again where that came too late."""
    for attempt in range(5):
        out = folder / f"out{attempt}"
        process = start(out)
        deadline = time.monotonic() + 300
        while len(list(out.glob("P*/P*_seg.json"))) < 2 and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.kill()
        if process.wait() == -signal.SIGKILL and len(list(out.glob("P*/P*_seg.json"))) < len(NAMES):
            return out
    raise AssertionError("the process was always faster")


@pytest.mark.slow
def test_after_sigkill_the_same_command_does_the_rest_and_the_tables_hold_all(
    tiny_run: Run, phantom_dir: Path, tmp_path: Path
):
    data = link_patients(phantom_dir, tmp_path / "data", NAMES)

    def start(out: Path) -> subprocess.Popen[bytes]:
        log = (tmp_path / "log.txt").open("w")
        return subprocess.Popen(
            command(data, out, tiny_run.checkpoint), cwd=REPOSITORY, env=ONE_THREAD, stdout=log, stderr=log
        )

    out = killed_with_some_done(start, tmp_path)
    recorded = {path.parent.name for path in out.glob("P*/P*_seg.json")}
    times = {name: (out / name / f"{name}_seg.nii.gz").stat().st_mtime_ns for name in recorded}
    ended = subprocess.run(
        command(data, out, tiny_run.checkpoint), cwd=REPOSITORY, env=ONE_THREAD, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    assert f"{len(recorded)} of 6 are done already; --overwrite does them again" in ended.stdout
    numbered = re.findall(r" (\d)/6 (P\d): WT ", ended.stdout)
    assert [int(number) for number, _ in numbered] == list(range(len(recorded) + 1, 7))
    assert {name for _, name in numbered} == set(NAMES) - recorded
    assert {name: (out / name / f"{name}_seg.nii.gz").stat().st_mtime_ns for name in recorded} == times
    assert tables(out) == (NAMES, NAMES)
    assert not list(out.rglob("*.partial.*"))
    assert {path.name for path in out.glob("P1/*")} == {
        f"P1_{name}" for name in ("seg.nii.gz", "seg.json", "report.html", "thumbnail.png")
    }
    whole = tmp_path / "whole"
    assert subprocess.run(command(data, whole, tiny_run.checkpoint), cwd=REPOSITORY, env=ONE_THREAD).returncode == 0
    assert label_maps(out) == label_maps(whole)
    assert (out / "volumes.csv").read_bytes() == (whole / "volumes.csv").read_bytes()


def test_a_file_that_cannot_be_written_in_the_background_ends_in_one_line_and_nothing_half_written_stays(
    tiny_run: Run, phantom_dir: Path, tmp_path: Path
):
    data = link_patients(phantom_dir, tmp_path / "data", ["P1", "P2", "P3"])
    ended = subprocess.run(
        command(data, tmp_path / "out", tiny_run.checkpoint, "--no-report", "--runtime", "torch"),
        cwd=REPOSITORY,
        env=ONE_THREAD,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000)),  # bytes, as a disk with no more
    )
    assert ended.returncode == 1
    assert re.fullmatch(r"error: \S+/P1_seg\.nii\.gz: File too large; make room for it\.\n", ended.stderr), ended.stderr
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == []


# ---------------------------------------------------------------------------------------------------------------------
# What counts as the same


@pytest.fixture
def once(tiny_run: Run, phantom_dir: Path, tmp_path: Path) -> dict[str, Any]:
    """Two patients that were predicted, and the settings of that run."""
    data = link_patients(phantom_dir, tmp_path / "data", ["P1", "P2"])
    files = {"patient_dir": str(data), "output_dir": str(tmp_path / "out"), "checkpoint": str(tiny_run.checkpoint)}
    settings = {**files, "device": "cpu", "report": False, "runtime": "torch"}
    predict([], settings)
    return settings


def left(run: dict[str, Any], overwrite: bool = False, **changed: Any) -> list[str]:
    """Who would be predicted again: what the run itself asks before it begins."""
    out, data = Path(run["output_dir"]), Path(run["patient_dir"])
    recorded = json.loads((out / "P2" / "P2_seg.json").read_text())["settings"]
    arguments: dict[str, Any] = {"checkpoints": [run["checkpoint"]], "settings": recorded, **changed}
    files = PredictionFiles(out, background=Background(enabled=False), **arguments)
    return [str(entry["case"]) for entry in files.unfinished(patients(data, ["flair", "t1ce"]), overwrite)]


def test_what_makes_a_prediction_another_one_has_it_done_again(once: dict[str, Any], tmp_path: Path):
    recorded = json.loads((tmp_path / "out" / "P1" / "P1_seg.json").read_text())["settings"]
    other = tmp_path / "other.pt"
    other.write_bytes(Path(once["checkpoint"]).read_bytes() + b"\0")
    both = ["P1", "P2"]
    assert left(once) == []
    assert left(once, overwrite=True) == both
    assert left(once, settings={**recorded, "largest_component_only": False}) == both
    as_tuple = {**recorded["input"], "modalities": tuple(recorded["input"]["modalities"])}
    assert left(once, settings={**recorded, "input": as_tuple}) == []
    assert left(once, checkpoints=[other]) == both
    assert left(once, checkpoints=[once["checkpoint"], other]) == both
    assert left(once, enhancing_value=3) == both
    assert left(once, maps={"probability_map": True}) == both
    assert left(once, maps={"uncertainty_map": True}) == both


@pytest.mark.parametrize(
    "change",
    [
        lambda data, out: os.utime(data / "P1_t1ce.nii.gz", (1, 1)),
        lambda data, out: (out / "P1_seg.nii.gz").unlink(),
        lambda data, out: (out / "P1_seg.nii.gz").write_bytes(b"of a run that was killed before its record"),
        lambda data, out: (out / "P1_seg.json").unlink(),
        lambda data, out: (out / "P1_seg.json").write_text('{"case": "P1"}'),
        lambda data, out: (out / "P1_seg.json").write_text("[]"),
    ],
    ids=["a newer image", "no label map", "another label map", "no record", "an old record", "no object"],
)
def test_a_patient_whose_files_are_not_those_of_its_record_is_done_again(
    change: Callable[[Path, Path], object], once: dict[str, Any], tmp_path: Path
):
    images = tmp_path / "data" / "P1"
    shutil.copy(images / "P1_t1ce.nii.gz", images / "copy")
    (images / "copy").replace(images / "P1_t1ce.nii.gz")  # the link leads to a phantom of all tests
    predict([], once)
    assert left(once) == []
    change(images, tmp_path / "out" / "P1")
    assert left(once) == ["P1"]


def test_the_same_command_again_writes_the_tables_and_nothing_else(
    once: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    before = label_maps(tmp_path / "out")
    table = (tmp_path / "out" / "volumes.csv").read_bytes()
    (tmp_path / "out" / "volumes.csv").unlink()  # as after a kill between the last patient and the tables
    changed = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*/*")}
    capsys.readouterr()
    predict([], once)
    assert "2 of 2 are done already" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*/*")} == changed
    assert (tmp_path / "out" / "volumes.csv").read_bytes() == table
    assert label_maps(tmp_path / "out") == before


def test_reports_that_a_stopped_run_left_out_are_made_up_for(once: dict[str, Any], tmp_path: Path):
    predict([], {**once, "report": True})
    assert tables(tmp_path / "out") == (["P1", "P2"], ["P1", "P2"])
    label_map = tmp_path / "out" / "P1" / "P1_seg.nii.gz"
    assert label_map.stat().st_mtime_ns < (tmp_path / "out" / "P1" / "P1_report.html").stat().st_mtime_ns


def test_a_bad_patient_is_listed_again_while_the_others_are_done(once: dict[str, Any], tmp_path: Path):
    (tmp_path / "data" / "P3").mkdir()
    for modality in ("flair", "t1ce"):
        (tmp_path / "data" / "P3" / f"P3_{modality}.nii.gz").write_bytes(b"")
    with pytest.raises(RuntimeError) as failure:
        predict([], once)
    said = r"1 of 3 cases could not be used; the others are done\.\n  P3: .* is empty"
    assert re.match(said, str(root_cause(failure.value)))
    assert len(label_maps(tmp_path / "out")) == 2


def test_overlapped_or_not_a_prediction_writes_the_same(
    once: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "data" / "P0").mkdir()
    for modality in ("flair", "t1ce"):
        (tmp_path / "data" / "P0" / f"P0_{modality}.nii.gz").write_bytes(b"")
    lines, written = [], []
    for overlap in (True, False):
        out = tmp_path / f"overlap_{overlap}"
        capsys.readouterr()
        with pytest.raises(RuntimeError) as failure:
            predict([], {**once, "output_dir": str(out), "overlap": overlap})
        assert "P0: " in str(root_cause(failure.value))
        said = capsys.readouterr().out.replace(str(out), "OUT")
        lines.append(re.sub(r"\d\d:\d\d:\d\d|\(\d+\.\d s\)", "", said))
        written.append({str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.suffix in (".gz", ".csv")})
    assert lines[0] == lines[1]
    assert written[0] == written[1]
