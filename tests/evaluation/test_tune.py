"""Post-processing is chosen on validation cases, never on test cases, and prediction then uses it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy import ndimage

from tests.support import Run, Started
from transforms.labels import ENHANCING, NECROTIC_CORE, OEDEMA
from workflows.evaluation.evaluate_checkpoint import cut_to_tumour
from workflows.evaluation.tune import CANDIDATES, choose, choose_growth


def volume(**voxels: int) -> MetaTensor:
    """(1, 40, 40, 4) at 1×5×10 mm, 50 mm³ a voxel: rows of so many voxels of a class, each row apart from others."""
    classes = {"oedema": OEDEMA, "far_oedema": OEDEMA, "necrosis": NECROTIC_CORE, "enhancing": ENHANCING}
    array = torch.zeros(1, 40, 40, 4, dtype=torch.uint8)
    for row, (name, index) in enumerate(classes.items()):
        array[0, : voxels.get(name, 0), 10 * row, 0] = index
    return MetaTensor(array, affine=torch.diag(torch.tensor([1.0, 5.0, 10.0, 1.0])))


def test_where_no_step_helps_none_is_chosen():
    label_map = volume(oedema=30, far_oedema=4, enhancing=3)
    chosen, _ = choose([label_map], [label_map])
    assert chosen == {name: values[0] for name, values in CANDIDATES.items()}


def test_the_smallest_threshold_that_removes_an_invention_is_chosen():
    # 4 voxels, 200 mm³, are invented: of 0, 50, 100 and 250 mm³ the last removes them.
    chosen, trials = choose([volume(oedema=30, far_oedema=4)], [volume(oedema=30)])
    assert chosen == {"smallest_component_mm3": 250, "largest_component_only": False, "smallest_enhancing_mm3": 0}
    scores = {
        trial["value"]: trial["mean_region_dice"] for trial in trials if trial["setting"] == "smallest_component_mm3"
    }
    assert scores[100] == pytest.approx((2 * 30 / 64 + 1 + 1) / 3)  # WT; TC and ET are empty in both
    assert scores[250] == 1


def test_an_invention_larger_than_every_threshold_leaves_the_largest_component():
    invented, true = volume(oedema=35, far_oedema=30), volume(oedema=35)
    small = [volume(oedema=2), volume(oedema=2)]  # which no threshold above 100 mm³ leaves
    chosen, _ = choose([invented, small[0]], [true, small[1]])
    assert chosen["largest_component_only"] is True
    assert chosen["smallest_component_mm3"] <= 100


def test_a_little_false_enhancing_tumour_becomes_necrosis():
    predicted = volume(oedema=30)
    predicted[0, 30:33, 0, 0] = ENHANCING  # 150 mm³ at the end of the oedema
    reference = volume(oedema=30)
    reference[0, 30:33, 0, 0] = NECROTIC_CORE
    assert choose([predicted], [reference])[0]["smallest_enhancing_mm3"] == 200


@pytest.mark.parametrize(("true_voxels", "grows"), [(30, False), (33, True)])
def test_a_tumour_is_to_grow_where_that_agrees_more_with_the_references(true_voxels: int, grows: bool):
    reference, far = volume(oedema=true_voxels), volume(oedema=30, far_oedema=4)
    probabilities = torch.zeros(4, 40, 40, 4)
    probabilities[OEDEMA][far[0] > 0] = 0.9
    probabilities[OEDEMA, 30:33, 0, 0] = 0.49
    probabilities[0] = 1 - probabilities[1:].sum(0)
    steps = {"largest_component_only": True}
    chosen, trials = choose_growth(steps, [far], [reference], [probabilities.half()])
    assert chosen is grows
    scores = {trial["value"]: trial["mean_region_dice"] for trial in trials}
    exact = {value: 2 * min(size, true_voxels) / (size + true_voxels) for value, size in ((True, 33), (False, 30))}
    assert scores == pytest.approx({value: (dice + 2) / 3 for value, dice in exact.items()})
    assert int((far > 0).sum()) == 34  # nothing is changed in place


def test_the_box_around_both_tumours_loses_nothing_and_copies():
    label_map, reference = volume(oedema=5), volume(enhancing=7)
    own, true, box = cut_to_tumour(label_map, reference)
    assert own.shape == true.shape == (1, 7, 31, 1)
    assert torch.equal(label_map[(slice(None), *box)].as_tensor(), own.as_tensor())
    own[:] = 0
    assert int((label_map == OEDEMA).sum()) == 5
    assert cut_to_tumour(volume(), volume())[0].shape == (1, 1, 1, 1)


def test_the_command_writes_settings_that_prediction_uses(
    tiny_run: Run, tmp_path: Path, command: Callable[..., Started]
):
    run = tmp_path / "run"
    shutil.copytree(tiny_run.folder, run)
    ended = command("tune", "--checkpoint", run / "model.pt", "--device", "cpu")
    assert ended.status == 0, ended.stderr
    chosen = json.loads((run / "post_processing.json").read_text())
    assert set(chosen) == {*CANDIDATES, "expected_dice", "temperature"}
    calibration = json.loads((run / "calibration.json").read_text())
    assert calibration["temperature"] == chosen["temperature"]
    assert calibration["after"]["brain"]["nll"] <= calibration["before"]["brain"]["nll"]
    assert calibration["settings"]["test_time_flips"] is False
    for figures in (calibration["before"]["brain"], calibration["after"]["brain"]):
        assert f"{figures['ece']:.2%}" in ended.stdout
    trials = json.loads((run / "post_processing_trials.json").read_text())
    assert len(trials) == sum(map(len, CANDIDATES.values())) + 2
    assert not list(run.glob("*/*_seg.nii.gz"))

    (run / "post_processing.json").write_text(json.dumps({"largest_component_only": True}))
    patient = sorted(tiny_run.data.glob("BraTS20_Training_*"))[0]
    assert (
        command(
            "predict", patient, "--out", tmp_path / "out", "--checkpoint", run / "model.pt", "--device", "cpu"
        ).status
        == 0
    )
    written = np.asarray(nib.load(tmp_path / "out" / patient.name / f"{patient.name}_seg.nii.gz").dataobj)
    assert ndimage.label(written, np.ones((3, 3, 3)))[1] == 1


def test_test_cases_are_refused(tiny_run: Run, tmp_path: Path, command: Callable[..., Started]):
    ended = command("tune", "--checkpoint", tiny_run.checkpoint, "--section", "testing", "--out", tmp_path / "out")
    assert ended.status == 1
    assert ended.stderr == ("error: thresholds are never chosen on test cases; use --section validation or training.\n")
    assert not (tmp_path / "out").exists()
