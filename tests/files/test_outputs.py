"""No command writes into a folder that it reads from, and none replaces a file that it did not write."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from tests.support import Run, Started, listing
from workflows.files.outputs import check_outputs, is_ours
from workflows.messages.errors import ConfigurationError, root_cause
from workflows.prediction.predict import predict

Command = Callable[..., Started]
NEVER = "lies in the data folder, which is never written to"
NOT_OURS = "brats-unet did not write this file, or it was changed since"


@pytest.fixture
def data(phantom_dir: Path, tmp_path: Path) -> Path:
    """The phantoms in a folder that a mistake may spoil."""
    return Path(shutil.copytree(phantom_dir, tmp_path / "data"))


@pytest.fixture
def predicted(tiny_run: Run, data: Path, tmp_path: Path) -> dict[str, Any]:
    """The settings of a prediction of one patient, done once."""
    settings = {
        "patient_dir": str(data / "BraTS20_Training_001"),
        "output_dir": str(tmp_path / "out"),
        "checkpoint": str(tiny_run.checkpoint),
        "device": "cpu",
        "report": False,
        "runtime": "torch",
    }
    predict([], settings)
    return settings


def label_map(out: Path) -> Path:
    return out / "BraTS20_Training_001" / "BraTS20_Training_001_seg.nii.gz"


COMMANDS = {
    "predict": ("predict", "DATA", "--out", "OUT", "--no-report"),
    "evaluate": ("evaluate", "--checkpoint", "RUN/model.pt", "--dataset-dir", "DATA", "--out", "OUT"),
    "figures": ("figures", "RUN", "--dataset-dir", "DATA", "--out", "OUT"),
    "train": ("train", "--dataset-dir", "DATA", "--out", "OUT"),
    "train's cache": ("train", "--dataset-dir", "DATA", "--out", "elsewhere", "--cache-dir", "OUT"),
    "explore": ("explore", "DATA", "--out", "OUT"),
    "audit": ("audit", "DATA", "--out", "OUT/audit.json"),
    "split": ("split", "DATA", "--out", "OUT/split.json"),
    "report": ("report", "DATA/BraTS20_Training_001", "--out", "OUT/BraTS20_Training_001/page.html"),
    "scores of label maps": ("evaluate", "--predictions", "DATA", "--references", "DATA", "--out", "OUT"),
    "compare-networks": ("compare-networks", "--dataset-dir", "DATA", "--out", "OUT"),
}


@pytest.mark.parametrize("place", ["data", "data/new", "link", "data/../data"])
@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_writes_below_the_folder_it_reads_from(
    name: str, place: str, data: Path, tiny_run: Run, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
):
    if name == "report" and place == "data/new":
        place = "data/BraTS20_Training_001/.."
    (tmp_path / "link").symlink_to(data)
    monkeypatch.chdir(tmp_path)
    before, words = listing(data), {"DATA": str(data), "OUT": place, "RUN": str(tiny_run.folder)}
    arguments = COMMANDS[name]
    for word, meant in words.items():
        arguments = tuple(argument.replace(word, meant) for argument in arguments)
    ended = command(*arguments)
    assert ended.status == 1
    assert NEVER in ended.last_line and "Traceback" not in ended.stderr
    assert listing(data) == before
    assert {path.name for path in tmp_path.iterdir()} == {"data", "link"}


def test_a_link_in_the_data_folder_leads_to_another_that_is_not_written_to(data: Path, tmp_path: Path):
    store = tmp_path / "store"
    (data / "BraTS20_Training_001").rename(store)
    (data / "BraTS20_Training_001").symlink_to(store)
    for folder in (store, store / "below"):
        with pytest.raises(ConfigurationError, match=NEVER):
            check_outputs([folder / "label_map.nii.gz"], [data])
    check_outputs([tmp_path / "label_map.nii.gz"], [data])


def test_a_linked_file_protects_the_folder_it_lies_in(data: Path, tmp_path: Path):
    store = tmp_path / "store"
    store.mkdir()
    file = next(data.glob("*/*_flair.nii.gz"))
    file.rename(store / file.name)
    file.symlink_to(store / file.name)
    with pytest.raises(ConfigurationError, match=NEVER):
        check_outputs([store / "label_map.nii.gz"], [data])


def test_a_link_of_the_output_folder_into_the_data_is_followed(data: Path, tmp_path: Path, tiny_run: Run):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "BraTS20_Training_001").symlink_to(data / "BraTS20_Training_001")
    before = listing(data)
    with pytest.raises(RuntimeError) as failure:
        predict([], {"patient_dir": str(data), "output_dir": str(tmp_path / "out"), "checkpoint": tiny_run.checkpoint})
    assert NEVER in str(root_cause(failure.value))
    assert listing(data) == before


# ---------------------------------------------------------------------------------------------------------------------
# Whose file it is


def test_what_a_prediction_wrote_it_may_write_again(predicted: dict[str, Any], tmp_path: Path):
    written = label_map(tmp_path / "out").read_bytes()
    predict([], {**predicted, "overwrite": True})
    assert label_map(tmp_path / "out").read_bytes() == written


def test_a_label_map_that_was_corrected_by_hand_is_kept(predicted: dict[str, Any], tmp_path: Path):
    file = label_map(tmp_path / "out")
    image = nib.load(file)
    voxels = np.asarray(image.dataobj).copy()
    voxels[60, 60, 70] = 1 - voxels[60, 60, 70].clip(0, 1)
    file.unlink()
    nib.save(nib.Nifti1Image(voxels, image.affine, image.header), file)  # keeps our description in its header
    corrected = file.read_bytes()
    for overwrite in (False, True):
        with pytest.raises(RuntimeError) as failure:
            predict([], {**predicted, "overwrite": overwrite})
        assert NOT_OURS in str(root_cause(failure.value)) and file.name in str(root_cause(failure.value))
    assert file.read_bytes() == corrected


def test_a_label_map_is_known_without_its_record_and_in_another_folder(predicted: dict[str, Any], tmp_path: Path):
    file = label_map(tmp_path / "out")
    file.with_name("BraTS20_Training_001_seg.json").unlink()  # as after a kill between the two
    assert is_ours(file)
    assert is_ours(Path(shutil.copy(file, tmp_path / "copy.nii.gz")))
    file.write_bytes(file.read_bytes()[:-40])
    assert not is_ours(file)


def test_a_label_map_of_an_older_version_is_known_by_its_record(tmp_path: Path):
    import hashlib

    file = tmp_path / "P1_seg.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4)), file)
    assert not is_ours(file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    (tmp_path / "P1_seg.json").write_text(json.dumps({"label_map_sha256": digest}))
    assert is_ours(file)


def test_a_prediction_does_not_replace_the_experts_label_map_in_its_output_folder(
    data: Path, tmp_path: Path, tiny_run: Run, command: Command
):
    expert = label_map(tmp_path / "out")
    expert.parent.mkdir(parents=True)
    shutil.copy(label_map(data), expert)
    before = listing(tmp_path / "out")
    ended = command("predict", data, "--out", tmp_path / "out", "--checkpoint", tiny_run.checkpoint, "--no-report")
    assert ended.status == 1 and NOT_OURS in ended.last_line and str(expert) in ended.last_line
    assert listing(tmp_path / "out") == before


@pytest.mark.parametrize("name", ["volumes.csv", "index.html", "colours_itk_snap.label"])
def test_a_table_of_somebody_else_is_kept(name: str, data: Path, tmp_path: Path, tiny_run: Run, command: Command):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("case;ml\nP1;7\n")
    ended = command("predict", data, "--out", tmp_path / "out", "--checkpoint", tiny_run.checkpoint, "--no-report")
    assert ended.status == 1 and NOT_OURS in ended.last_line and name in ended.last_line
    assert (tmp_path / "out" / name).read_text() == "case;ml\nP1;7\n"


def test_single_files_are_replaced_only_where_they_are_ours(data: Path, tmp_path: Path, command: Command):
    notes = "my own notes"
    asked = {
        "audit.json": ("audit", data, "--out"),
        "split.json": ("split", data, "--out"),
        "page.html": ("report", data / "BraTS20_Training_001", "--out"),
    }
    for name, arguments in asked.items():
        file = tmp_path / name
        file.write_text(notes)
        ended = command(*arguments, file)
        assert (ended.status, file.read_text()) == (1, notes) and NOT_OURS in ended.last_line
        file.unlink()
        for _ in range(2):  # what it wrote it may write again
            assert command(*arguments, file).status == 0


def test_scores_and_their_comparison_are_written_again_and_never_over_others(
    data: Path, tmp_path: Path, command: Command
):
    scores, table = tmp_path / "scores", tmp_path / "comparison.md"
    shutil.copytree(data, tmp_path / "predictions")
    score = ("evaluate", "--predictions", tmp_path / "predictions", "--references", data, "--out", scores)
    for _ in range(2):
        assert command(*score).status == 0
        assert command("compare", scores, scores, "--out", table).status == 0
    for file in (*scores.iterdir(), table):
        assert is_ours(file)
        file.write_bytes(b"somebody else's")
        assert NOT_OURS in command(*(score if file != table else ("compare", scores, scores, "--out", table))).last_line
        assert file.read_bytes() == b"somebody else's"
        file.unlink()


def test_a_run_does_not_begin_over_a_configuration_of_another_program(data: Path, tmp_path: Path, command: Command):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text('{"api_key": 1}')
    ended = command("train", "--dataset-dir", data, "--out", tmp_path / "run")
    assert ended.status == 1 and NOT_OURS in ended.last_line
    assert (tmp_path / "run" / "config.json").read_text() == '{"api_key": 1}'


def test_an_exploration_draws_again_over_its_own_pictures_only(data: Path, tmp_path: Path, command: Command):
    out = tmp_path / "pictures"
    explore = ("explore", data, "--case", "001", "--out", out)
    assert [command(*explore).status for _ in range(2)] == [0, 0]
    (out / "index.html").unlink()
    assert "did not write what is there" in command(*explore).last_line
