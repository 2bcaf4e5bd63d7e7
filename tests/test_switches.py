"""Every switch of the input, set at once: what a run is trained with, its predictions and scores use unasked."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
from conftest import TINY_SETTINGS, Run, Started

SWITCHES = {
    "crop_to_brain": True,
    "whole_brain": True,
    "neighbours": 1,
    "tumour_free_share": 0.2,
    "loss": {"_target_": "workflows.losses.RegionDiceCELoss"},
    "augmentation": "$pipelines.augmentation(modalities=@modalities, artefact_probability=0.15)",
}


def test_prediction_takes_crop_slices_and_neighbours_from_the_run(
    tiny_run: Run, tmp_path: Path, command: Callable[..., Started]
):
    overlay, run, scores = tmp_path / "switches.json", tmp_path / "run", tmp_path / "scores"
    overlay.write_text(json.dumps({**SWITCHES, **TINY_SETTINGS, "max_epochs": 1}))
    split = tiny_run.folder / "split.json"
    ended = command("train", "--dataset-dir", tiny_run.data, "--split", split, "--out", run, "--config", overlay)
    assert ended.status == 0, ended.stderr
    assert len(list(csv.DictReader((run / "training.log").open()))) == 1

    ended = command("evaluate", "--checkpoint", run / "model.pt", "--out", scores, "--test_time_flips", "True")
    assert ended.status == 0, ended.stderr
    record_file = next(scores.glob("*/*_seg.json"))
    settings = json.loads(record_file.read_text())["settings"]
    assert (settings["crop_to_brain"], settings["neighbours"], settings["whole_brain"]) == (True, 1, True)
    assert settings["test_time_flips"] is True
    label_map = nib.load(record_file.with_name(record_file.name.replace(".json", ".nii.gz")))
    assert label_map.shape == (120, 120, 155)


def test_a_network_for_single_slices_is_refused_where_neighbours_are_asked_for(
    tiny_run: Run, tmp_path: Path, command: Callable[..., Started]
):
    settings = ["--neighbours", 1, "--network_def#in_channels", 2, *(f"--{n}={v}" for n, v in TINY_SETTINGS.items())]
    ended = command("train", "--dataset-dir", tiny_run.data, "--out", tmp_path / "run", *settings)
    assert ended.status == 1
    assert "does not fit size_px 64 and 6 input channels" in ended.last_line
