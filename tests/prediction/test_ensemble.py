"""Several checkpoints of the same input answer together: the mean of their class probabilities."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.networks.nets import BasicUNet

from networks.unet import UNet2D
from tests.support import Started, WritePatient
from transforms.inputs import AxialWindow
from workflows.data.reader import CaseReader
from workflows.messages.errors import ConfigurationError
from workflows.prediction.ensemble import MeanOfNetworks
from workflows.prediction.inferers import PlanesInferer
from workflows.settings.checkpoints import named_checkpoints, warn_of_trained_cases

UNET = {"_target_": "networks.unet.UNet2D", "in_channels": "$len(@modalities)", "out_channels": 4, "width": 4}
BASIC = {
    "_target_": "BasicUNet",
    "spatial_dims": 2,
    "in_channels": "$len(@modalities)",
    "out_channels": 4,
    "features": [4, 4, 8, 8, 8, 4],
}


def write_run(folder: Path, seed: int, **settings: Any) -> Path:
    """A run folder with the weights of an untrained network and the settings it reads its input with."""
    definition = {"network_def": UNET, **settings}["network_def"]
    torch.manual_seed(seed)
    arguments = {**definition, "in_channels": 2}
    network = {"networks.unet.UNet2D": UNet2D, "BasicUNet": BasicUNet}[arguments.pop("_target_")](**arguments)
    folder.mkdir(parents=True)
    torch.save(network.state_dict(), folder / "model.pt")
    (folder / "config.json").write_text(json.dumps({"size_px": 32, "network_def": UNET, **settings}))
    return folder / "model.pt"


@pytest.fixture
def patient(write_patient: WritePatient) -> Path:
    """The folder of a small patient."""
    return Path(write_patient()["label"]).parent


@pytest.fixture
def probabilities(
    patient: Path, tmp_path: Path, command: Callable[..., Started]
) -> Callable[..., tuple[np.ndarray, dict[str, Any]]]:
    """Predicts the patient with checkpoints; gives the class probabilities and the record."""

    def predicted(*checkpoints: Path, options: tuple[object, ...] = ()) -> tuple[np.ndarray, dict[str, Any]]:
        out = tmp_path / f"out{len(list(tmp_path.glob('out*')))}"
        named = [part for checkpoint in checkpoints for part in ("--checkpoint", checkpoint)]
        ended = command(
            *("predict", patient, "--out", out, *named, "--device", "cpu", "--no-report", "--save-probabilities"),
            *options,
        )
        assert ended.status == 0, ended.stderr
        record = json.loads((out / "P1" / "P1_seg.json").read_text())
        return np.asarray(nib.load(out / "P1" / "P1_probabilities.nii.gz").dataobj), record

    return predicted


def certain_of(index: int) -> torch.nn.Module:
    class Certain(torch.nn.Module):
        def forward(self, slices: torch.Tensor) -> torch.Tensor:
            scores = torch.zeros(len(slices), 2, *slices.shape[2:])
            scores[:, index, : slices.shape[2] // 2] = 100.0  # undecided in the other half
            return scores

    return Certain()


def test_the_mean_of_two_networks_is_that_of_their_probabilities_and_not_of_their_scores():
    one, other, third = certain_of(0), certain_of(1), certain_of(1)
    answer = MeanOfNetworks([one, other, third])(torch.zeros(1, 1, 4, 4)).softmax(1)
    torch.testing.assert_close(answer[0, 0, :2], torch.full((2, 4), 1 / 3))
    torch.testing.assert_close(answer[0, 0, 2:], torch.full((2, 4), 1 / 2))


def test_with_flips_three_networks_are_averaged_over_twelve_answers():
    one, other = certain_of(0), certain_of(1)
    answer = PlanesInferer(AxialWindow(), flips=True)(torch.zeros(1, 1, 4, 4, 2), MeanOfNetworks([one, one, other]))
    # A certain network is so in half of the slices: 3/4 after its flips; 1/4 for the other class.
    torch.testing.assert_close(answer.softmax(1)[:, 0], torch.full((1, 4, 4, 2), (0.75 + 0.75 + 0.25) / 3))


def test_the_prediction_of_two_checkpoints_is_the_mean_of_theirs_and_its_record_names_both(
    probabilities: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    first, second = (write_run(tmp_path / "folds" / name, seed) for seed, name in enumerate(("fold0", "fold1")))
    (first.parent / "post_processing.json").write_text('{"largest_component_only": true, "temperature": 2.0}')
    reads: list[Any] = []
    read = CaseReader.read
    monkeypatch.setattr(CaseReader, "read", lambda self, *files: reads.append(files) or read(self, *files))
    options = ("--runtime", "torch", "--largest_component_only", "False", "--temperature", 1.0)
    alone = [probabilities(checkpoint, options=options)[0] for checkpoint in (first, second)]
    before = len(reads)
    together, record = probabilities(first.parent.parent, options=options[:4])
    assert len(reads) - before == before / 2 > 0  # as often as for one network
    assert np.abs(alone[0] - alone[1]).max() > 0.1
    np.testing.assert_allclose(together, np.mean(alone, axis=0), atol=1e-5)
    assert record["checkpoint_sha256"] == hashlib.sha256(first.read_bytes()).hexdigest()
    sha256 = hashlib.sha256(second.read_bytes()).hexdigest()
    assert record["averaged_with"] == [{"checkpoint": "fold1/model.pt", "sha256": sha256}]
    # What was tuned for the first alone is not for both.
    assert (record["settings"]["temperature"], record["settings"]["largest_component_only"]) == (1.0, False)


def test_checkpoints_of_different_networks_are_averaged(probabilities: Callable[..., Any], tmp_path: Path):
    first, second = write_run(tmp_path / "unet", 0), write_run(tmp_path / "basic", 1, network_def=BASIC)
    in_torch = ("--runtime", "torch")
    alone = [probabilities(checkpoint, options=in_torch)[0] for checkpoint in (first, second)]
    together, record = probabilities(first, second, options=in_torch)
    np.testing.assert_allclose(together, np.mean(alone, axis=0), atol=1e-5)
    assert record["averaged_with"][0]["checkpoint"] == "basic/model.pt"


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"size_px": 48, "crop_to_brain": True}, "size_px is 48 in its run and 32 here"),
        ({"crop_to_brain": True}, "crop_to_brain is True in its run and False here"),
        ({"brain_only": False}, "brain_only is False in its run and True here"),
        ({"network_def": {**UNET, "width": "$print('run')"}}, "holds the code \"$print('run')\""),
    ],
)
def test_checkpoints_that_cannot_be_averaged_are_refused_in_one_line(
    other: dict[str, Any], said: str, patient: Path, tmp_path: Path, command: Callable[..., Started]
):
    first, second = write_run(tmp_path / "a", 0), write_run(tmp_path / "b", 1)
    configuration = json.loads((second.parent / "config.json").read_text())
    (second.parent / "config.json").write_text(json.dumps({**configuration, **other}))
    out = tmp_path / "out"
    ended = command("predict", patient, "--out", out, "--checkpoint", first, "--checkpoint", second, "--device", "cpu")
    assert ended.status == 1
    assert ended.last_line.startswith("error: ")
    assert said in ended.last_line
    assert "Traceback" not in ended.stderr
    assert not out.exists()


def test_another_window_of_slices_is_another_input_only_where_intensities_are_divided_by_its_maximum(
    probabilities: Callable[..., Any], tmp_path: Path
):
    first, second = write_run(tmp_path / "a", 0), write_run(tmp_path / "b", 1, slice_range=[0, 30], whole_brain=True)
    assert len(probabilities(first, second)[1]["averaged_with"]) == 1


def test_a_folder_stands_for_each_model_below_it_once(tmp_path: Path):
    for name in ("b", "a"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.pt").touch()
        (tmp_path / name / "last.pt").touch()
    (tmp_path / "none").mkdir()
    first, second = (str(tmp_path / name / "model.pt") for name in ("a", "b"))
    both = {"checkpoint": first, "more_checkpoints": [second]}
    assert named_checkpoints([tmp_path]) == both
    assert named_checkpoints([tmp_path / "a", tmp_path]) == both
    assert named_checkpoints([tmp_path / "b"]) == {"checkpoint": second}
    assert named_checkpoints([]) == {}
    with pytest.raises(ConfigurationError, match=r"no model\.pt in this folder"):
        named_checkpoints([tmp_path / "none"])


def test_cases_that_another_checkpoint_was_trained_on_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    for fold, (validation, training) in enumerate([("AB", "CD"), ("CD", "AB")]):
        (tmp_path / f"{fold}").mkdir()
        split = {"validation": [{"case": c} for c in validation], "training": [{"case": c} for c in training[:1]]}
        (tmp_path / f"{fold}" / "split.json").write_text(json.dumps(split))
    more = [tmp_path / "1" / "model.pt", tmp_path / "nowhere" / "model.pt"]
    with caplog.at_level(logging.WARNING):
        warn_of_trained_cases(tmp_path / "0" / "split.json", "validation", more)
    (message,) = caplog.messages
    assert "1/model.pt: was trained on 1 of the 2 validation cases" in message


def test_what_is_chosen_for_several_checkpoints_needs_a_folder_of_its_own(
    tmp_path: Path, command: Callable[..., Started]
):
    for seed in (0, 1):
        write_run(tmp_path / "folds" / str(seed), seed)
    ended = command("tune", "--checkpoint", tmp_path / "folds")
    assert (ended.status, ended.stderr) == (
        1,
        "error: the choice for several checkpoints has no folder of its own: name --out FOLDER.\n",
    )
