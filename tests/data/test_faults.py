"""Every fault that a data folder can have ends in one line or is handled.

`docs/faults.md` is written from here:  python -m pytest tests/data/test_faults.py --write-docs
"""

from __future__ import annotations

import contextlib
import html
import io
import json
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.data.faults import FAULTS, Fault, Patient, make_faults, remove, without_root_rights
from tests.support import REPOSITORY, Started, start
from workflows.data.find_cases import find_cases
from workflows.data.reader import CaseReader
from workflows.messages.errors import DatasetError, printable
from workflows.splits.split import obtain_datalist

DOCUMENT = REPOSITORY / "docs" / "faults.md"
BEGIN, END = "<!-- faults: written by tests/data/test_faults.py -->\n", "<!-- end of faults -->\n"
BY_ID = {fault.id: fault for fault in FAULTS}
OTHER_IDS = {"two_patients": "stranger: ", "letter_case": "LETTER_CASE: "}
"""With what a line begins where the fault shows in a patient of another id."""
LABEL_VALUES = {0: 0, 1: 1, 2: 2, 4: 3}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A phantom thinned to 40×40×78 voxels of 6×6×2 mm, which reads in milliseconds."""
    from workflows.phantom.phantom import generate_dataset

    folder = tmp_path_factory.mktemp("sound")
    (patient,) = generate_dataset(folder / "set", cases=1, size="small", workers=1)
    files = {}
    for what in ("flair", "t1ce", "seg"):
        image = nib.load(patient / f"{patient.name}_{what}.nii.gz").slicer[::3, ::3, ::2]
        files[what] = folder / f"{what}.nii.gz"
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj), image.affine), files[what])
    return files


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a network of width 4 that has learnt nothing, with its configuration."""
    import torch

    from networks.unet import UNet2D

    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    torch.save(UNet2D(width=4, depth=2).state_dict(), folder / "model.pt")
    network = {"_target_": "networks.unet.UNet2D", "in_channels": 2, "out_channels": 4, "width": 4, "depth": 2}
    (folder / "config.json").write_text(json.dumps({"size_px": 32, "network_def": network}))
    return folder / "model.pt"


@dataclass
class Seen:
    """What a person sees of one fault: the lines of each command, and its status."""

    lines: dict[str, list[str]] = field(default_factory=dict)
    status: dict[str, int] = field(default_factory=dict)


@dataclass
class Table:
    """Every fault tried by every command, and the folder of predictions."""

    data: Path
    predictions: Path
    seen: dict[str, Seen]
    predicted: Started


@pytest.fixture(scope="module")
def table(sound: dict[str, Path], checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Table]:
    root = tmp_path_factory.mktemp("faults")
    folders = make_faults(root / "data", sound)
    with without_root_rights():
        predicted = command(
            "predict", root / "data", "--out", root / "out", "--checkpoint", checkpoint, "--device", "cpu"
        )
        seen = {fault.id: see(fault, folders[fault.id], predicted) for fault in FAULTS}
    yield Table(root / "data", root / "out", seen, predicted)
    remove(root / "data")


def command(*arguments: object) -> Started:
    """`brats-unet` in this process."""
    from workflows.cli import main

    out, err, before = io.StringIO(), io.StringIO(), sys.argv
    sys.argv, status = ["brats-unet", *map(str, arguments)], 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as ended:
        status = int(ended.code or 0)
    finally:
        sys.argv = before
    return Started(status, out.getvalue(), err.getvalue())


def see(fault: Fault, folder: Path, predicted: Started) -> Seen:
    """One fault by itself in the audit and in the reading of training, and its lines of the common prediction."""
    seen = Seen()
    audited = command("audit", folder, "--workers", 1)
    assert "Traceback" not in audited.stdout + audited.stderr
    seen.lines["audit"] = findings(audited.stdout) + [
        line for line in audited.stderr.splitlines() if line.startswith("error: ")
    ]
    seen.status["audit"] = audited.status
    marks = (
        f"{printable(fault.name or fault.id)}: ",
        f"{folder}/",
        OTHER_IDS.get(fault.id, "\0"),
    )
    listed = [line[2:] for line in predicted.stderr.splitlines() if line.startswith("  ")]
    seen.lines["predict"] = [line for line in listed if line.startswith(marks) or f" {folder}/" in line]
    seen.status["predict"] = int(bool(seen.lines["predict"]))
    read_for_training(folder, seen)
    return seen


def findings(text: str) -> list[str]:
    """The lines of an audit between its table and its summary."""
    lines = text.splitlines()
    summary = next((number for number, line in enumerate(lines) if re.match(r"\d+ cases, ", line)), 0)
    return lines[lines.index("") + 1 : summary] if summary else []


def read_for_training(folder: Path, seen: Seen) -> None:
    from transforms.inputs import AxialWindow
    from transforms.pipelines import training_preprocessing
    from workflows.training_data.slice_dataset import NamedCases

    seen.lines["train"], seen.status["train"] = [], 0
    try:
        case = next(case for case in find_cases(folder).cases if case.segmentation)
    except (DatasetError, StopIteration):
        return
    if not {"flair", "t1ce"} <= case.images.keys():
        return  # a split leaves it out
    chain = training_preprocessing(AxialWindow(size_px=32), LABEL_VALUES, reader=CaseReader())
    entry = {
        "case": case.id,
        "image": [str(case.images[m]) for m in ("flair", "t1ce")],
        "label": str(case.segmentation),
    }
    try:
        NamedCases([entry], chain, cache_rate=0)[0]
    except DatasetError as error:
        seen.lines["train"], seen.status["train"] = [printable(str(error))], 1


def test_there_are_at_least_forty_faults():
    assert len(FAULTS) == len(BY_ID) >= 40


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)
def test_a_fault_is_refused_in_one_line_or_handled(fault: Fault, table: Table):
    seen = table.seen[fault.id]
    refusing = [name for name, status in seen.status.items() if status]
    assert refusing == fault.refused_by.split(), seen
    for name in refusing:
        assert any(fault.says in line for line in seen.lines[name]), seen
    if not refusing:
        assert any(fault.says in line for line in seen.lines["audit"]) or not fault.says, seen
        assert not [line for line in seen.lines["audit"] if "unusable" in line]
    for lines in (seen.lines["predict"], seen.lines["train"]):
        assert len(lines) == len(set(lines)) <= 1, lines
        assert all(line.isprintable() for line in lines)


def test_the_prediction_of_many_finishes_the_good_and_lists_the_bad(table: Table):
    refused = [fault for fault in FAULTS if "predict" in fault.refused_by]
    assert table.predicted.status == 1
    first, *listed = table.predicted.stderr.splitlines()
    total = len(FAULTS) + 1  # one folder holds two patients
    assert first == f"error: {len(refused)} of {total} cases could not be used; the others are done."
    assert len(listed) == len(refused)
    assert "Traceback" not in table.predicted.stdout + table.predicted.stderr


def test_predict_says_of_which_case_which_image_has_unusual_intensities(table: Table):
    said = table.predicted.stdout
    assert said.count(": the background is not one value") == 1 and "ringing: FLAIR: the background" in said
    assert said.count("far beyond its intensities") == 1 and "hot_voxel: T1ce: 1e+09 is far beyond" in said


def test_what_is_written_is_whole_and_nothing_else(table: Table):
    good = {fault.name or fault.id for fault in FAULTS if "predict" not in fault.refused_by} | {"two_patients"}
    tables = {"volumes.csv", "index.html", "colours_3d_slicer.ctbl", "colours_itk_snap.label"}
    endings = ("seg.nii.gz", "seg.json", "report.html", "thumbnail.png")
    expected = {f"{name}/{name}_{ending}" for name in good for ending in endings} | tables
    assert {
        str(path.relative_to(table.predictions)) for path in table.predictions.rglob("*") if path.is_file()
    } == expected
    for name in good:
        labels = np.asarray(nib.load(table.predictions / name / f"{name}_seg.nii.gz").dataobj)
        assert set(np.unique(labels)) <= {0, 1, 2, 4}


def test_the_audit_of_many_finishes_the_good_and_lists_the_bad(table: Table, tmp_path: Path):
    with without_root_rights():
        ended = command("audit", table.data, "--workers", 1, "--out", tmp_path / "audit.json")
    assert ended.status == 1
    content = json.loads((tmp_path / "audit.json").read_text())
    unusable = {case["id"] for case in content["cases"] if case["problems"]}
    expected = {fault.name or fault.id for fault in FAULTS if "audit" in fault.refused_by}
    assert unusable == (expected - {"two_patients", "closed_folder"}) | {"stranger"}
    assert any("closed_folder" in error for error in content["errors"])


def test_two_years_of_brats_in_one_folder_are_refused(sound: dict[str, Path], tmp_path: Path):
    for name in ("old1", "old2", "young"):
        patient = Patient(tmp_path / name, name)
        patient.folder.mkdir()
        for what, file in sound.items():
            os.link(file, patient.file(what))
    patient.change("seg", lambda labels: np.where(labels == 4, 3, labels).astype(np.uint8))
    audited = command("audit", tmp_path, "--workers", 1)
    assert audited.status == 1
    assert "young: unusable: follows another label convention" in audited.stdout
    with pytest.raises(DatasetError, match=r"old1 holds 4 .* and young holds 3"):
        obtain_datalist(tmp_path, None, tmp_path.with_name("run"))


def test_one_patient_alone_ends_with_its_line_in_a_process_of_its_own(
    sound: dict[str, Path], checkpoint: Path, tmp_path: Path
):
    make_faults(tmp_path / "data", sound)
    folder, in_tmp = tmp_path / "data" / "cut_gzip", {"cwd": tmp_path, "PYTHONPATH": str(REPOSITORY)}
    ended = start("-m", "workflows", *("predict", folder, "--out", "out", "--checkpoint", checkpoint), **in_tmp)
    remove(tmp_path / "data")
    assert ended.status == 1
    assert re.fullmatch(r"error: cut_gzip: .*_t1ce\.nii\.gz: is cut short.*; fetch it again\.\n", ended.stderr), (
        ended.stderr
    )
    assert not (tmp_path / "out").exists()


def rows(table: Table) -> str:
    """The table of the document."""
    head = ["| fault | audit | predict | train | what is said |", "| --- | --- | --- | --- | --- |"]
    return "\n".join([*head, *(row(fault, table) for fault in FAULTS), ""])


def row(fault: Fault, table: Table) -> str:
    seen = table.seen[fault.id]
    said = next((lines for name in ("predict", "train", "audit") if (lines := seen.lines[name])), ["handled"])
    text = " ".join(said).replace(str(table.data / fault.id), "DATA").replace("x" * 225, "xxx…")
    text = re.sub(r"!= 0x[0-9a-f]{8}", "!= 0x…", text)  # a checksum follows how this machine's processor rounds
    text = html.escape(text, quote=False).replace("|", "\\|").replace("$", "&#36;")
    status = [str(seen.status[name]) for name in ("audit", "predict", "train")]
    return f"| {fault.title} | {' | '.join(status)} | {text} |"


def test_the_documents_table_is_current(table: Table, request: pytest.FixtureRequest):
    before, begin, rest = DOCUMENT.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    assert begin and end
    counted = re.sub(r"\d+ faults", f"{len(FAULTS)} faults", before)
    current = counted + BEGIN + rows(table) + END + after
    if request.config.getoption("--write-docs"):
        DOCUMENT.write_text(current)
    assert DOCUMENT.read_text() == current, "run  python -m pytest tests/data/test_faults.py --write-docs"
