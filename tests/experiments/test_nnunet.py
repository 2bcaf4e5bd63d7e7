"""The yardstick's own part: what nnU-Net is given, what is made of its label maps, and how its processes end."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from experiments import nnunet
from experiments.result_files import read_experiment
from tests.support import REPOSITORY
from workflows.messages.errors import ConfigurationError

CASES = [f"BraTS20_Training_00{number}" for number in (1, 2, 3)]


@pytest.fixture(autouse=True)
def two_folds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of the generated patients."""
    folds = tmp_path / "folds.json"
    folds.write_text(json.dumps({"seed": 0, "folds": [CASES[:1], CASES[1:]]}))
    monkeypatch.setattr("experiments.folds.FOLDS", folds)


def labels_in(file: Path) -> np.ndarray:
    image = nib.load(file)
    assert isinstance(image, nib.Nifti1Image)
    return np.asanyarray(image.dataobj)


def test_nnu_net_receives_flair_and_t1ce_where_they_are_and_labels_without_a_gap(phantom_dir: Path, tmp_path: Path):
    nnunet.write_dataset(tmp_path, phantom_dir)
    raw = tmp_path / "nnUNet_raw" / "Dataset001_BraTS"
    described = json.loads((raw / "dataset.json").read_text())
    assert described["channel_names"] == {"0": "FLAIR", "1": "T1ce"}
    assert [Path(image).name for image in described["dataset"][CASES[0]]["images"]] == [
        f"{CASES[0]}_{name}.nii.gz" for name in ("flair", "t1ce")
    ]
    source = labels_in(phantom_dir / CASES[0] / f"{CASES[0]}_seg.nii.gz")
    label_map = labels_in(Path(described["dataset"][CASES[0]]["label"]))
    assert np.array_equal(label_map, np.where(source == 4, 3, source))
    assert label_map.dtype == np.uint8


def test_regions_painted_from_the_largest_to_the_smallest_give_each_class_its_number():
    described = nnunet.description({})
    regions = [set(classes) for name, classes in described["labels"].items() if name != "background"]
    for number in (1, 2, 3):
        painted = 0
        for region, colour in zip(regions, described["regions_class_order"], strict=True):
            painted = colour if number in region else painted
        assert painted == number


def test_the_folds_are_ours(phantom_dir: Path, tmp_path: Path):
    nnunet.write_dataset(tmp_path, phantom_dir)
    splits = json.loads((tmp_path / "nnUNet_preprocessed" / "Dataset001_BraTS" / "splits_final.json").read_text())
    assert splits == [{"train": CASES[1:], "val": CASES[:1]}, {"train": CASES[:1], "val": CASES[1:]}]


def test_a_perfect_prediction_is_scored_as_one_and_its_cost_kept(phantom_dir: Path, tmp_path: Path):
    nnunet.write_dataset(tmp_path, phantom_dir)
    predictions, results = tmp_path / "predictions", tmp_path / "results"
    (predictions / "nnunet-fold1").mkdir(parents=True)
    for case in CASES[1:]:
        label_map = tmp_path / "nnUNet_raw" / "Dataset001_BraTS" / "labelsTr" / f"{case}.nii.gz"
        label_map.rename(predictions / "nnunet-fold1" / label_map.name)
    (predictions / "nnunet-fold1.json").write_text(json.dumps({"fold": 1, "epochs": 3.2, "device": "NVIDIA"}))
    results.mkdir()
    nnunet.score(tmp_path, phantom_dir, results)
    row = read_experiment("nnunet", results)[1]
    assert sorted(row["cases"]) == CASES[1:]
    assert {row["cases"][case][region]["dice"] for case in CASES[1:] for region in ("WT", "TC", "ET")} == {1.0}
    assert (row["experiment"], row["epochs"], row["device"]) == ("nnunet", 3.2, "NVIDIA")


def test_without_nnu_net_one_line_says_how_to_get_it(phantom_dir: Path, tmp_path: Path):
    if importlib.util.find_spec("nnunetv2"):
        pytest.skip("nnU-Net is installed")
    command = [sys.executable, "-m", "experiments.nnunet", "run", str(tmp_path)]
    environment = {"BRATS_REAL_DATA": str(phantom_dir), "PATH": ""}
    ended = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, env=environment)
    assert (ended.returncode, ended.stderr) == (1, "error: nnU-Net is not installed; run: pip install nnunetv2\n")


def test_two_runs_are_not_mixed_in_one_folder(phantom_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(nnunet.importlib.util, "find_spec", lambda name: name)
    with pytest.raises(
        ConfigurationError, match=r": is not empty; name a new folder, so that no two runs are mixed\.$"
    ):
        nnunet.run(tmp_path, phantom_dir, Namespace(limit=1.0))


def test_what_fails_or_is_late_is_named_with_its_last_lines_and_ended(tmp_path: Path):
    steps = {"good": "pass", "bad": "print('why'); raise SystemExit(3)", "late": "import time; time.sleep(600)"}
    processes = {}
    for name, code in steps.items():
        with (tmp_path / f"{name}.log").open("wb") as log:
            command = [sys.executable, "-c", code]
            processes[name] = subprocess.Popen(command, stdout=log, process_group=0)
    with pytest.raises(ConfigurationError) as raised:
        nnunet.wait_for(processes, time.monotonic() + 5, tmp_path)
    assert str(raised.value) == "bad ended with 3:\n  why\nlate ended with too late:"
    assert processes["late"].poll() is not None
