"""The weights that come with a clone: small, licensed, of the default network, and used where none are named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import torch
from monai.bundle import ConfigParser

from tests.support import REPOSITORY, Run, Started
from workflows.settings.bundle_files import config_files
from workflows.settings.checkpoints import default_checkpoint, settings_beside
from workflows.settings.weights import read_weights

MODELS = REPOSITORY / "bundle" / "models"


def test_they_take_less_than_16_mb_and_have_a_card_with_licence_and_scores():
    assert Path(default_checkpoint()) == MODELS / "model.pt"
    assert (MODELS / "model.pt").stat().st_size < 16_000_000
    card = (MODELS / "README.md").read_text()
    assert "CC BY-NC-SA 3.0" in card and "mean of 8" in card


def test_they_fit_the_bundles_own_inference():
    parser = ConfigParser(ConfigParser.load_config_files(config_files("inference")))
    network = parser.get_parsed_content("network_def")
    network.load_state_dict(read_weights(default_checkpoint()))
    assert all(bool(torch.isfinite(value).all()) for value in network.state_dict().values())
    beside = settings_beside(default_checkpoint())
    own = json.loads(Path(config_files("inference")[0]).read_text())
    assert beside == {name: own[name] for name in beside}


def test_a_patient_is_predicted_with_them_where_none_are_named_and_it_is_said(
    tiny_run: Run, tmp_path: Path, command: Callable[..., Started]
):
    patient = tiny_run.data / "BraTS20_Training_002"
    ended = command("predict", patient, "--out", tmp_path, "--device", "cpu", "--no-report")
    assert ended.status == 0, ended.stderr
    assert "starter weights, made from few patients" in ended.stdout + ended.stderr
    (label_map,) = tmp_path.glob("*/*_seg.nii.gz")
    assert nib.load(label_map).shape == (120, 120, 155)
