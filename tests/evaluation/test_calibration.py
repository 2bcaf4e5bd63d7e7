"""A temperature makes probabilities right on the whole, and entropy says where they are undecided."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.metrics import CalibrationErrorMetric

from networks.packed import PackedUNet
from networks.unet import UNet2D
from tests.support import Started, WritePatient
from transforms.uncertainty import entropy, with_temperature
from workflows.data.case import load_entry
from workflows.data.find_cases import find_cases
from workflows.evaluation.calibration import (
    BINS,
    BRAIN,
    PREDICTED_TUMOUR,
    VOXELS_PER_CASE,
    CalibrationVoxels,
    errors_in,
    expected_calibration_error,
    fit_temperature,
)


def random_logits(voxels: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(voxels, 4, generator=torch.Generator().manual_seed(seed)) * 2


def drawn_labels(probabilities: torch.Tensor) -> torch.Tensor:
    return torch.multinomial(probabilities, 1, generator=torch.Generator().manual_seed(1)).squeeze(1)


def test_two_logits_apart_by_two_are_apart_by_one_at_temperature_two():
    probabilities = torch.tensor([3.0, 1.0]).softmax(0)
    torch.testing.assert_close(with_temperature(probabilities, 2), torch.tensor([1.0, 0.0]).softmax(0))
    certain = torch.tensor([1.0, 0.0])
    torch.testing.assert_close(with_temperature(certain, 3), certain)


@pytest.mark.parametrize("true_temperature", [0.5, 1.0, 2.0])
def test_the_temperature_by_which_scores_were_exaggerated_is_found(true_temperature: float):
    logits = random_logits(20_000)
    labels = drawn_labels(logits.softmax(1))
    exaggerated = (logits * true_temperature).softmax(1)
    assert fit_temperature(exaggerated, labels) == pytest.approx(true_temperature, rel=0.05)


def test_the_fitted_temperature_lowers_both_errors_of_a_network_that_is_too_sure():
    logits = random_logits(20_000)
    labels = drawn_labels(logits.softmax(1))
    voxels = CalibrationVoxels()
    voxels.add(
        (3 * logits).softmax(1).T.reshape(4, 20, 100, 10), labels.reshape(1, 20, 100, 10), torch.ones(1, 20, 100, 10)
    )
    calibration = voxels.calibrate()
    assert calibration is not None
    for place in (BRAIN, PREDICTED_TUMOUR):
        before, after = calibration.before[place], calibration.after[place]
        assert before is not None and after is not None
        assert after.nll < before.nll
        assert after.ece < before.ece / 3


def test_ten_voxels_of_confidence_eight_tenths_of_which_six_are_right_are_wrong_by_two_tenths():
    confidence, correct = np.full(10, 0.8), np.arange(10) < 6
    assert expected_calibration_error(confidence, correct) == pytest.approx(0.2)
    # Ten more, in another bin, are as right as they say.
    both = np.concatenate([confidence, np.full(10, 0.5)]), np.concatenate([correct, np.arange(10) < 5])
    assert expected_calibration_error(*both) == pytest.approx(0.1)
    assert expected_calibration_error(np.array([1.0]), np.array([True])) == 0


def test_the_expected_error_of_a_thousand_voxels_is_monais():
    probabilities = random_logits(1000).softmax(1)
    confidence, chosen = probabilities.max(dim=1)
    correct = chosen == drawn_labels(probabilities)
    metric = CalibrationErrorMetric(num_bins=BINS, right=True, metric_reduction="mean")
    metric(confidence[None, None], correct[None, None].float())
    ours = expected_calibration_error(confidence.double().numpy(), correct.numpy())
    assert ours == pytest.approx(float(metric.aggregate()), abs=1e-6)


def test_only_the_brain_is_asked_and_never_more_of_it_than_needed():
    brain = torch.zeros(1, 100, 100, 30)
    brain[:, :, :, :25] = 1  # 250,000 voxels
    probabilities = torch.full((4, 100, 100, 30), 0.25)
    labels = torch.zeros(1, 100, 100, 30, dtype=torch.uint8)
    labels[..., 25:] = 3
    voxels = CalibrationVoxels()
    voxels.add(probabilities, labels, brain)
    voxels.add(probabilities[:, :2], labels[:, :2], brain[:, :2])
    assert [len(labels) for labels in voxels.labels] == [VOXELS_PER_CASE, 2 * 100 * 25]
    assert not torch.cat(voxels.labels).any()
    assert CalibrationVoxels().calibrate() is None


def test_without_predicted_tumour_there_are_no_errors_in_it():
    errors = errors_in(torch.tensor([[0.7, 0.1, 0.1, 0.1]]), torch.tensor([0]))
    assert errors[PREDICTED_TUMOUR] is None
    assert errors[BRAIN] is not None and errors[BRAIN].nll == pytest.approx(-np.log(0.7))


def test_entropy_is_nothing_when_certain_half_between_two_of_four_and_one_between_all():
    probabilities = torch.tensor([[1.0, 0, 0, 0], [0.5, 0.5, 0, 0], [0.25] * 4, [1 + 1e-7, -1e-7, 0, 0]]).T
    torch.testing.assert_close(entropy(probabilities), torch.tensor([[0, 0.5, 1, 0]]), atol=1e-6, rtol=0)


def test_temperature_and_uncertainty_change_no_label_and_say_what_the_probabilities_say(
    write_patient: WritePatient, tmp_path: Path, command: Callable[..., Started]
):
    patient = Path(write_patient()["label"]).parent
    torch.manual_seed(3)
    torch.save(PackedUNet(2, 4, width=4).state_dict(), tmp_path / "model.pt")
    settings = ("--device", "cpu", "--input#size_px", 64, "--network_def#width", 4, "--test_time_flips", "True")
    settings += ("--input#mirrored", "False")

    def predicted(*options: object, out: str) -> dict[str, nib.Nifti1Image]:
        arguments = ("--out", tmp_path / out, "--checkpoint", tmp_path / "model.pt", "--save-probabilities")
        ended = command("predict", patient, *arguments, *settings, *options)
        assert ended.status == 0, ended.stderr
        return {
            file.name.split("_")[1].split(".")[0]: nib.load(file) for file in (tmp_path / out / "P1").glob("*.nii.gz")
        }

    plain = predicted(out="plain")
    warm = predicted("--temperature", 2, "--save-uncertainty", out="warm")
    assert set(plain) == {"seg", "probabilities"} and set(warm) == {*plain, "uncertainty"}
    assert len(np.unique(plain["seg"].dataobj)) > 1
    assert np.array_equal(plain["seg"].dataobj, warm["seg"].dataobj)
    before, after = (torch.from_numpy(of["probabilities"].get_fdata(dtype=np.float32)) for of in (plain, warm))
    assert float((after - before).abs().max()) > 0.01
    torch.testing.assert_close(after, with_temperature(before, 2, class_dim=3), atol=1e-5, rtol=0)

    uncertainty, source = warm["uncertainty"], nib.load(patient / "P1_flair.nii.gz")
    assert uncertainty.get_data_dtype() == np.float32
    assert np.array_equal(uncertainty.affine, source.affine) and uncertainty.shape == source.shape
    expected = entropy(after.movedim(3, 0))[0].numpy()
    np.testing.assert_allclose(np.asarray(uncertainty.dataobj), expected, atol=1e-5)
    assert uncertainty.dataobj[0, 0, 0] == 0  # far outside the brain
    assert 'id="volume-uncertainty"' in (tmp_path / "warm" / "P1" / "P1_report.html").read_text()

    predicted(out="warm")  # again, without an uncertainty map: that of before belongs to another prediction
    assert json.loads((tmp_path / "warm" / "P1" / "P1_seg.json").read_text())["uncertainty_map"] is None
    assert 'id="volume-uncertainty"' not in (tmp_path / "warm" / "P1" / "P1_report.html").read_text()


def test_the_temperature_that_tune_fits_lies_beside_the_weights_and_is_used_with_them(
    write_patient: WritePatient, tmp_path: Path, command: Callable[..., Started]
):
    run, (patient, other) = (
        tmp_path.with_name("run"),
        (Path(write_patient(name)["label"]).parent for name in ("P1", "P2")),
    )
    run.mkdir()
    torch.manual_seed(3)
    torch.save(UNet2D(2, 4, width=4, norm="instance").state_dict(), run / "model.pt")
    definition = {"_target_": "networks.unet.UNet2D", "in_channels": 2, "out_channels": 4, "width": 4}
    settings = {"dataset_dir": str(tmp_path), "size_px": 32, "network_def": {**definition, "norm": "instance"}}
    (run / "config.json").write_text(json.dumps(settings))
    entry, known = ([load_entry(c, c.modalities, tmp_path) for c in find_cases(of).cases] for of in (patient, other))
    split = {"label_convention": "brats-to-2022", "training": known, "validation": entry, "testing": []}
    (run / "split.json").write_text(json.dumps(split))

    ended = command("tune", "--checkpoint", run, "--device", "cpu")
    assert ended.status == 0, ended.stderr
    calibration = json.loads((run / "calibration.json").read_text())
    before, after = calibration["before"][BRAIN], calibration["after"][BRAIN]
    assert after["nll"] < before["nll"]
    brain = np.asarray(nib.load(patient / "P1_flair.nii.gz").dataobj) != 0
    assert before["voxels"] == pytest.approx(np.count_nonzero(brain), rel=0.1)  # known on the network's grid only
    for errors in (before, after):
        assert f"{errors['ece']:.2%}" in ended.stdout

    ended = command(
        "predict", patient, "--checkpoint", run, "--out", tmp_path / "out", "--device", "cpu", "--no-report"
    )
    assert ended.status == 0, ended.stderr
    record = json.loads((tmp_path / "out" / "P1" / "P1_seg.json").read_text())
    assert record["settings"]["temperature"] == calibration["temperature"] != 1


@pytest.mark.parametrize("temperature", ["0", "-1", "warm"])
def test_a_temperature_that_is_no_number_above_zero_is_refused(
    temperature: str, write_patient: WritePatient, tmp_path: Path, command: Callable[..., Started]
):
    torch.save(UNet2D(2, 4, width=4).state_dict(), tmp_path / "model.pt")
    patient = Path(write_patient()["label"]).parent
    named = ("--out", tmp_path / "out", "--checkpoint", tmp_path / "model.pt", "--temperature", temperature)
    ended = command("predict", patient, *named)
    assert ended.status == 1
    assert ended.last_line.startswith("error: temperature is ")
    assert not (tmp_path / "out").exists()
