"""The weights that come with a clone."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import torch
from conftest import Started

from workflows.configuration import SETTINGS_OF_A_NETWORK, bundle_root, config_files
from workflows.predict import MODEL_CARD, default_checkpoint

MODELS = Path(bundle_root()) / "models"


def test_they_are_tensors_of_at_most_16_mb_and_the_cards_licence_is_that_of_the_scans():
    assert Path(default_checkpoint()).stat().st_size <= 16e6
    assert all(
        isinstance(value, torch.Tensor) for value in torch.load(default_checkpoint(), weights_only=True).values()
    )
    assert "CC BY-NC-SA 3.0" in (MODELS / MODEL_CARD).read_text()


def test_their_settings_are_those_of_the_bundles_inference_and_name_no_place():
    own, defaults = (
        json.loads(Path(file).read_text()) for file in (MODELS / "config.json", *config_files("inference"))
    )
    assert set(own) <= set(SETTINGS_OF_A_NETWORK)
    assert own == {name: defaults[name] for name in own}


def test_the_card_scores_eight_patients_and_none_that_they_were_trained_on():
    scored = re.findall(r"^\| (BraTS\w+) \|", (MODELS / MODEL_CARD).read_text(), re.MULTILINE)
    assert len(set(scored)) == 8
    assert not {f"BraTS20_Training_{number}" for number in range(130, 136)} & set(scored)


def test_predict_uses_them_unless_told_otherwise_and_says_so(
    phantom_dir: Path, tmp_path: Path, command: Callable[..., Started]
):
    patient = phantom_dir / "BraTS20_Training_001"
    ended = command("predict", patient, "--out", tmp_path, "--device", "cpu", "--no-report")
    assert ended.status == 0, ended.stderr
    assert f"starter weights, made from few patients: see {MODELS / MODEL_CARD}; name your own" in ended.stdout
    record = json.loads((tmp_path / patient.name / f"{patient.name}_seg.json").read_text())
    assert record["volumes_ml"]["WT"] > 0
