"""Every switch of the input, set at once: what a run is trained with, its predictions and scores use unasked."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import pytest

from tests.support import TINY_SETTINGS, TINY_WINDOW, Run, Started

CUBE = "transforms.inputs.BrainCube"
SWITCHES = {
    "input": {**TINY_WINDOW, "crop_to_brain": True, "whole_brain": True, "neighbours": 1},
    "tumour_free_share": 0.2,
    "loss": {"_target_": "workflows.training.losses.RegionDiceCELoss"},
    "augmentation": "$pipelines.augmentation(modalities=@modalities, artefact_probability=0.15)",
}


def test_prediction_takes_crop_slices_and_neighbours_from_the_run(
    tiny_run: Run, tmp_path: Path, command: Callable[..., Started]
):
    overlay, run, scores = tmp_path / "switches.json", tmp_path / "run", tmp_path / "scores"
    overlay.write_text(json.dumps({**TINY_SETTINGS, **SWITCHES, "max_epochs": 1}))
    split = tiny_run.folder / "split.json"
    ended = command("train", "--dataset-dir", tiny_run.data, "--split", split, "--out", run, "--config", overlay)
    assert ended.status == 0, ended.stderr
    assert len(list(csv.DictReader((run / "training.log").open()))) == 1

    ended = command("evaluate", "--checkpoint", run / "model.pt", "--out", scores, "--test_time_flips", "True")
    assert ended.status == 0, ended.stderr
    record_file = next(scores.glob("*/*_seg.json"))
    settings = json.loads(record_file.read_text())["settings"]
    shown = settings["input"]
    assert (shown["crop_to_brain"], shown["neighbours"], shown["whole_brain"]) == (True, 1, True)
    assert settings["test_time_flips"] is True
    label_map = nib.load(record_file.with_name(record_file.name.replace(".json", ".nii.gz")))
    assert label_map.shape == (120, 120, 155)


def test_a_network_for_single_slices_is_refused_where_neighbours_are_asked_for(
    tiny_run: Run, tmp_path: Path, command: Callable[..., Started]
):
    settings = [
        *(f"--{n}={v}" for n, v in TINY_SETTINGS.items()),
        "--input#neighbours",
        1,
        "--network_def#in_channels",
        2,
    ]
    ended = command("train", "--dataset-dir", tiny_run.data, "--out", tmp_path / "run", *settings)
    assert ended.status == 1
    assert "does not fit size_px 64 and 6 input channels" in ended.last_line


def test_a_run_along_three_planes_of_a_cube_predicts_and_scores_along_them(
    tiny_run: Run, tmp_path: Path, command: Callable[..., Started]
):
    overlay, run, scores = tmp_path / "cube.json", tmp_path / "run", tmp_path / "scores"
    cube = {"edge_mm": 192, "planes": ["axial", "coronal", "sagittal"], "mirrored": True}
    definition = {"_target_": "transforms.inputs.BrainCube", "size_px": 64, **cube}
    overlay.write_text(json.dumps({**TINY_SETTINGS, "input": definition, "tumour_free_share": 0, "max_epochs": 1}))
    split = tiny_run.folder / "split.json"
    ended = command("train", "--dataset-dir", tiny_run.data, "--split", split, "--out", run, "--config", overlay)
    assert ended.status == 0, ended.stderr
    assert len(list(csv.DictReader((run / "training.log").open()))) == 1

    ended = command("evaluate", "--checkpoint", run / "model.pt", "--out", scores)
    assert ended.status == 0, ended.stderr
    record_file = next(scores.glob("*/*_seg.json"))
    settings = json.loads(record_file.read_text())["settings"]
    assert {name: settings["input"][name] for name in cube} == cube
    label_map = nib.load(record_file.with_name(record_file.name.replace(".json", ".nii.gz")))
    assert label_map.shape == (120, 120, 155)
    summary = json.loads((scores / "summary.json").read_text())
    assert summary["study"]["cases"] == len(list(scores.glob("*/*_seg.json")))
    accuracy = next(row for row in summary["study"]["figures"] if row["figure"] == "accuracy")
    assert 0.2 < accuracy["value"] <= 1  # of the study's window, most of which is background


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({**TINY_WINDOW, "planes": ["axial", "coronal"]}, "planes other than axial need a BrainCube"),
        ({"_target_": CUBE, "planes": ["oblique"]}, "choose from axial, coronal, sagittal"),
        ({**TINY_WINDOW, "mirrored": True}, "known in a BrainCube only"),
        ({"_target_": CUBE, "neighbours": 1}, "BrainCube has no argument 'neighbours'"),
        ({"_target_": CUBE, "normalisation": "window_maximum"}, "BrainCube has no argument 'normalisation'"),
        ({"_target_": CUBE, "edge_mm": 0}, "edge_mm is 0; it must be greater than 0"),
    ],
)
def test_settings_that_do_not_go_together_are_refused_before_any_work(
    tiny_run: Run, tmp_path: Path, command: Callable[..., Started], settings: dict[str, Any], says: str
):
    given = [f"--{name}={value}" for name, value in {**TINY_SETTINGS, "input": settings}.items()]
    ended = command("train", "--dataset-dir", tiny_run.data, "--out", tmp_path / "run", *given)
    assert ended.status == 1
    assert says in ended.last_line
    assert not (tmp_path / "run").exists()


def test_a_probability_above_1_is_refused_before_any_work(
    tiny_run: Run, tmp_path: Path, command: Callable[..., Started]
):
    named = ("--checkpoint", tiny_run.folder / "model.pt", "--out", tmp_path / "out")
    ended = command("predict", tiny_run.data, *named, "--look_again_from", 1.5)
    assert ended.status == 1
    assert ended.last_line == "error: look_again_from is 1.5; it must be within 0 and 1."
    assert not (tmp_path / "out").exists()


def test_a_deeply_supervised_run_learns_from_three_answers_and_predicts_by_one(
    tiny_run: Run, tmp_path: Path, command: Callable[..., Started]
):
    run, scores = tmp_path / "run", tmp_path / "scores"
    split = tiny_run.folder / "split.json"
    settings = ["--input#size_px", 64, "--network_def#filters=[4,4,8,8,16]", "--max_epochs", 1]
    variants = ["--config", "axial", "--config", "deep_supervision"]
    ended = command("train", "--dataset-dir", tiny_run.data, "--split", split, "--out", run, *variants, *settings)
    assert ended.status == 0, ended.stderr
    (row,) = csv.DictReader((run / "training.log").open())
    # A network that knows nothing yet: Dice and cross-entropy of one answer, once, and in training 1.75 times.
    assert float(row["loss"]) > 1.4 * float(row["val_loss"])
    ended = command("evaluate", "--checkpoint", run / "model.pt", "--out", scores)
    assert ended.status == 0, ended.stderr
    assert (scores / "per_case.csv").is_file()


@pytest.mark.parametrize(
    ("old", "says"),
    [
        (("--cube_mm", 192), "cube_mm is now called input#edge_mm; for axial slices use the overlay axial."),
        (("--size_px", 64), "size_px is now called input#size_px."),
        (("--modalities", "['flair']"), "modalities is now called input#modalities."),
    ],
)
def test_a_switch_by_its_old_name_is_refused_with_the_new_one(
    tiny_run: Run, tmp_path: Path, command: Callable[..., Started], old: tuple[Any, ...], says: str
):
    ended = command("train", "--dataset-dir", tiny_run.data, "--out", tmp_path / "run", *old)
    assert (ended.status, ended.last_line) == (1, f"error: {says}")
    overlay = tmp_path / "old.json"
    overlay.write_text(json.dumps({old[0][2:]: 64}))
    ended = command("train", "--dataset-dir", tiny_run.data, "--out", tmp_path / "run", "--config", overlay)
    assert (ended.status, ended.last_line) == (1, f"error: {says}")
    assert not (tmp_path / "run").exists()
