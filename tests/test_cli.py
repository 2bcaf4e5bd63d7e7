"""`brats-unet`: quick to answer, forgiving in spelling, and one line where something is wrong."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import REPOSITORY, Run, Started

Python = Callable[..., Started]
Command = Callable[..., Started]


def one_line(ended: Started) -> str:
    """What a person can mend: status 1, one line on stderr, and no traceback anywhere."""
    assert ended.status == 1, ended
    assert "Traceback" not in ended.stdout + ended.stderr
    assert ended.stderr.count("\n") == 1, ended.stderr
    assert ended.stderr.startswith("error: ")
    return ended.stderr.removeprefix("error: ").strip()


# ---------------------------------------------------------------------------------------------------------------------
# Start


def test_help_is_there_within_a_second(python: Python, tmp_path: Path):
    seconds = []
    for _ in range(3):
        before = os.times()
        ended = python("-m", "workflows", "--help", cwd=tmp_path)
        after = os.times()  # time of the processor, which other programs on the machine do not prolong
        seconds.append(after.children_user + after.children_system - before.children_user - before.children_system)
        assert ended.status == 0, ended.stderr
        assert all(name in ended.stdout for name in ("phantom", "audit", "split", "train", "predict", "evaluate"))
    assert statistics.median(seconds) < 1, seconds


def test_the_command_itself_imports_neither_torch_nor_monai(python: Python, tmp_path: Path):
    check = "import sys, workflows.cli; sys.exit(' '.join({'torch', 'monai', 'numpy'} & sys.modules.keys()) or 0)"
    ended = python("-c", check, cwd=tmp_path)
    assert ended.status == 0, ended.stderr


def test_the_installed_script_is_the_same_command(python: Python, tmp_path: Path):
    script = Path(sys.executable).with_name("brats-unet")
    if not script.exists():
        pytest.skip("the project is not installed beside this interpreter")
    assert python(script, "--help", cwd=tmp_path).stdout.split()[1:2] == ["brats-unet"]


# ---------------------------------------------------------------------------------------------------------------------
# Spelling


@pytest.mark.parametrize("option", ["--dataset_dir", "--dataset-dir", "--dataset_dir=", "--dataset-dir="])
def test_hyphens_and_underscores_are_the_same(option: str, command: Command, tmp_path: Path):
    missing = tmp_path / "missing"
    given = (f"{option}{missing}",) if option.endswith("=") else (option, missing)
    assert one_line(command("train", *given, "--out", tmp_path / "run", "--device", "cpu")) == (
        f"{missing}: no such folder."
    )


@pytest.mark.parametrize(
    "usage",
    [
        ("--split_file", "--max_epochs"),
        ("--split-file", "--max-epochs"),
        ("--split", "--max_epochs"),
    ],
)
def test_options_and_overrides_may_be_mixed(usage: tuple[str, str], command: Command, tiny_run: Run, tmp_path: Path):
    split, epochs = usage
    missing = tmp_path / "missing.json"
    ended = command("train", epochs, 1, "--dataset-dir", tiny_run.data, split, missing, "--out", tmp_path / "run")
    assert one_line(ended).startswith(f"{missing}: no such datalist")
    assert json.loads((tmp_path / "run" / "config.json").read_text())["max_epochs"] == 1


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [("--max_epoch", "max_epochs"), ("--learnin-rate", "learning_rate"), ("--network_deff#width", "network_def")],
)
def test_a_misspelt_override_names_the_nearest_and_does_nothing(
    misspelt: str, meant: str, command: Command, tiny_run: Run, tmp_path: Path
):
    ended = command("train", "--dataset-dir", tiny_run.data, "--out", tmp_path / "run", misspelt, 3)
    wrong = misspelt[2:].replace("-", "_").partition("#")[0]
    assert one_line(ended) == f"no setting is called '{wrong}'; did you mean {meant}?"
    assert list(tmp_path.iterdir()) == []


def test_a_misspelt_override_of_a_prediction_names_the_nearest(command: Command, tiny_run: Run, tmp_path: Path):
    ended = command(
        *("predict", tiny_run.data, "--out", tmp_path / "out", "--checkpoint", tiny_run.checkpoint),
        *("--slices_per_batc", 3),
    )
    assert one_line(ended) == "no setting is called 'slices_per_batc'; did you mean slices_per_batch?"
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_overlay_lists_those_there_are(command: Command, tiny_run: Run, tmp_path: Path):
    message = one_line(command("train", "--dataset-dir", tiny_run.data, "--config", "sead"))
    assert message == (
        "no overlay 'sead'; there are attention_unet, axial, basic_unet, deep_supervision, demo, dynunet, figures, "
        "flexible_unet, multi_gpu_evaluate, multi_gpu_train, packed_unet, quick, residual_unet, resume, seed, "
        "seed_dice, study_unet, unet2d, unet3d."
    )


# ---------------------------------------------------------------------------------------------------------------------
# What is wrong, and the status


@pytest.mark.parametrize(
    "arguments",
    [
        ("segment",),
        ("predict", "--out", "out"),
        ("predict", "folder"),
        ("predict", "folder", "--out", "out", "--et-label", "5"),
        ("phantom", "out", "--size", "huge"),
        ("audit", "folder", "--modalities", "flair,pet"),
        ("audit", "folder", "--slice-range", "135:60"),
        ("audit", "folder", "--unknown", "1"),
        ("pack",),
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_status_2(arguments: tuple[str, ...], command: Command):
    ended = command(*arguments)
    assert (ended.status, ended.stdout) == (2, "")
    assert "Usage:" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_missing_weights_say_how_to_name_or_train_some(command: Command, tiny_run: Run, tmp_path: Path):
    missing = tmp_path / "missing.pt"
    for ended in (
        command("predict", tiny_run.data, "--out", tmp_path / "out", "--checkpoint", missing),
        command("evaluate", "--out", tmp_path / "out", "--checkpoint", missing),
        command("pack", tmp_path / "bundle.zip", "--checkpoint", missing),
    ):
        message = one_line(ended)
        assert message.startswith(f"{missing}: no such weights; ")
        assert "--checkpoint FILE" in message
        assert "brats-unet train" in message
    assert list(tmp_path.iterdir()) == []


def test_weights_of_another_network_are_named_before_any_patient_is_read(
    command: Command, tiny_run: Run, tmp_path: Path
):
    alone = shutil.copy(tiny_run.checkpoint, tmp_path / "alone.pt")
    message = one_line(command("predict", tiny_run.data, "--out", tmp_path / "out", "--checkpoint", alone))
    assert message.startswith(
        f"{alone}: belongs to another network: network.conv_0.conv_0.conv.weight is (4, 8, 3, 3) in it and (32,"
    )


def test_a_file_that_holds_no_weights_is_named(command: Command, tiny_run: Run, tmp_path: Path):
    file = tmp_path / "model.pt"
    file.write_text("these are no weights")
    message = one_line(command("predict", tiny_run.data, "--out", tmp_path / "out", "--checkpoint", file))
    assert message.startswith(f"{file}: is no PyTorch checkpoint")


def test_a_folder_without_cases_is_one_line_of_the_program_itself(python: Python, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    message = one_line(python("-m", "workflows", "audit", "empty", cwd=tmp_path))
    assert message.startswith("empty: no case found here or below; looked for *_flair.nii")


def test_a_patient_without_t1ce_is_one_line(command: Command, tiny_run: Run, tmp_path: Path):
    (tmp_path / "P1").mkdir()
    shutil.copy(next(tiny_run.data.glob("*_001/*_flair.nii.gz")), tmp_path / "P1" / "P1_flair.nii.gz")
    ended = command("predict", tmp_path / "P1", "--out", tmp_path / "out", "--checkpoint", tiny_run.checkpoint)
    assert one_line(ended).startswith(f"P1: no T1CE image in {tmp_path / 'P1'}; looked for *_t1ce.nii")


def test_a_folder_that_holds_a_run_is_not_trained_into(command: Command, tiny_run: Run):
    before = tiny_run.checkpoint.read_bytes()
    message = one_line(command("train", "--dataset-dir", tiny_run.data, "--out", tiny_run.folder))
    assert message == (
        f"{tiny_run.folder}: holds an earlier run (model.pt, last.pt, training.log); "
        "name another folder, or continue it by --resume."
    )
    assert tiny_run.checkpoint.read_bytes() == before


def test_slices_that_the_network_cannot_take_are_refused_before_any_patient_is_read(
    command: Command, tiny_run: Run, tmp_path: Path
):
    ended = command("train", "--dataset-dir", tiny_run.data, "--out", tmp_path / "run", "--input#size_px", 40)
    assert "slices of 40×40 pixels; it takes multiples of 2 from 64 on" in one_line(ended)


# ---------------------------------------------------------------------------------------------------------------------
# Round trip


def test_generated_cases_are_sound_and_can_be_split(command: Command, tmp_path: Path):
    data, found, datalist = tmp_path / "data", tmp_path / "audit.json", tmp_path / "split.json"
    generated = command(
        *("phantom", data, "--cases", 3, "--size", "small", "--workers", 1, "--kaggle_quirks", "--seed", 5)
    )
    assert (generated.status, generated.stdout) == (0, f"3 generated (phantom) cases in {data}\n")
    audited = command("audit", data, "--out", found, "--workers", 1)
    assert audited.status == 0, audited.stdout
    assert len(json.loads(found.read_text())["cases"]) == 4
    made = command("split", data, "--out", datalist, "--seed", 3)
    assert (made.status, made.stdout) == (0, f"1 training, 1 validation, 1 testing cases in {datalist}\n")
    content = json.loads(datalist.read_text())
    cases = {entry["case"] for section in ("training", "validation", "testing") for entry in content[section]}
    assert cases == {"BraTS20_Training_001", "BraTS20_Training_002", "BraTS20_Training_355"}
    assert content["left_out"]["without_label"] == ["BraTS20_Validation_001"]


def test_an_audit_of_a_damaged_case_ends_with_status_1(command: Command, tiny_run: Run, tmp_path: Path):
    folder = shutil.copytree(tiny_run.data / "BraTS20_Training_001", tmp_path / "data" / "BraTS20_Training_001")
    assert command("audit", tmp_path / "data", "--workers", 1).status == 0
    flair = folder / "BraTS20_Training_001_flair.nii.gz"
    flair.write_bytes(flair.read_bytes()[:5000])
    ended = command("audit", tmp_path / "data", "--workers", 1)
    assert ended.status == 1
    assert "cut short" in " ".join(ended.stdout.split())


ASCII_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.parametrize(
    "environment", [{"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "cp1252"}, ASCII_LOCALE], ids=str
)
def test_a_terminal_of_another_encoding_shows_what_it_can(environment: dict[str, str], phantom_dir: Path):
    command = [sys.executable, "-m", "workflows", "audit", str(phantom_dir), "--workers", "1"]
    ended = subprocess.run(command, cwd=REPOSITORY, env={**os.environ, **environment}, capture_output=True)
    assert ended.returncode == 0, ended.stderr
    assert b"Traceback" not in ended.stderr and "BraTS20_Training_001" in ended.stdout.decode("cp1252")


def test_a_table_of_a_script_of_ones_own_fits_its_terminal(python: Python, tmp_path: Path):
    code = (
        "from workflows.messages.text_tables import TextTable\n"
        "TextTable('–', ['a'], [['\u8133']]).print()\n"
        "from workflows.machine.processes import in_own_process\n"
        "in_own_process(print, '\u8133')"
    )
    ended = python("-c", code, cwd=tmp_path, PYTHONPATH=str(REPOSITORY), PYTHONIOENCODING="ascii")
    assert ended.status == 0, ended.stderr
    assert ended.stdout.count("?") == 3 and " a " in ended.stdout.replace("|", " ")


def test_a_file_where_a_folder_is_read_is_called_a_file(tiny_run: Run, tmp_path: Path, command: Command):
    image, label_map = (next(tiny_run.data.glob(f"*_001/*_{kind}.nii.gz")) for kind in ("flair", "seg"))
    out = ("--out", tmp_path / "out")
    for asked in (
        ("audit", image),
        ("explore", image, *out),
        ("split", image, "--out", tmp_path / "split.json"),
        ("predict", image, *out),
        ("evaluate", "--predictions", label_map, "--references", label_map, *out),
        ("evaluate", "--checkpoint", tiny_run.checkpoint, "--dataset-dir", image, *out),
        ("report", image, "--out", tmp_path / "page.html"),
        ("curves", tiny_run.checkpoint),
        ("figures", tiny_run.checkpoint, *out),
    ):
        assert one_line(command(*asked)).endswith("is a file; name the folder that it lies in."), asked
    assert list(tmp_path.iterdir()) == []


def test_a_file_where_a_folder_is_written_is_called_a_file(tiny_run: Run, tmp_path: Path, command: Command):
    file = tmp_path / "file"
    file.write_text("mine")
    for asked in (
        ("phantom", file),
        ("audit", tiny_run.data, "--workers", 1, "--out", file / "audit.json"),
        ("explore", tiny_run.data, "--out", file),
        ("train", "--dataset-dir", tiny_run.data, "--out", file),
        ("train", "--dataset-dir", tiny_run.data, "--out", tmp_path / "run", "--cache-dir", file / "cache"),
        ("predict", tiny_run.data, "--out", file),
        ("evaluate", "--predictions", tiny_run.data, "--references", tiny_run.data, "--out", file / "scores"),
        ("compare-networks", "--dataset-dir", tiny_run.data, "--out", file),
        ("pack", file / "bundle.zip", "--checkpoint", tiny_run.checkpoint),
        ("demo", "--out", file),
    ):
        message = one_line(command(*asked))
        assert "is a file" in message or "in a file" in message or "a file is in the way" in message, (asked, message)
    assert file.read_text() == "mine"


def test_a_folder_where_a_file_is_wanted_is_called_a_folder(tiny_run: Run, tmp_path: Path, command: Command):
    (tmp_path / "page.html").mkdir()
    patient = next(tiny_run.data.glob("*_001"))
    for asked in (
        ("split", tiny_run.data, "--out", tmp_path / "page.html"),
        ("split", tiny_run.data, "--from", tmp_path, "--out", tmp_path / "split.json"),
        ("train", "--dataset-dir", tiny_run.data, "--split", tmp_path, "--out", tmp_path / "run"),
        ("report", patient, "--out", tmp_path / "page.html"),
        ("report", patient, "--prediction", tmp_path, "--out", tmp_path / "other.html"),
        ("pack", tmp_path / "bundle.zip", "--checkpoint", tmp_path),
    ):
        assert "is a folder" in one_line(command(*asked)), asked
