"""A network for slices sees on a volume what it saw in training, and the mean of its answers to flipped slices."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from ignite.engine import Engine
from monai.bundle import ConfigWorkflow

from tests.support import WritePatient
from transforms.inputs import AxialWindow
from transforms.pipelines import preprocessing, training_preprocessing
from transforms.regions import BackgroundOutsideBraind
from transforms.slices import own_channels, with_neighbours
from workflows.data.reader import CaseReader
from workflows.prediction.inferers import PlanesInferer, flip_averaged
from workflows.settings.bundle_files import config_files
from workflows.training.handlers import CaseScores
from workflows.training_data.slice_dataset import SliceDataset

BRATS_VALUES = {0: 0, 1: 1, 2: 2, 4: 3}


def test_a_slice_goes_with_the_one_below_and_the_one_above_and_zeros_lie_beyond():
    volume = torch.arange(1.0, 4).expand(1, 2, 1, 1, 3) * torch.tensor([1.0, 10]).reshape(1, 2, 1, 1, 1)
    stacked = with_neighbours(volume, 1)
    assert stacked.shape == (1, 6, 1, 1, 3)
    assert stacked[0, :, 0, 0, 0].tolist() == [0, 0, 1, 10, 2, 20]
    assert stacked[0, :, 0, 0, 2].tolist() == [2, 20, 3, 30, 0, 0]


def test_the_own_channels_among_those_of_two_neighbours_on_either_side_are_the_slice():
    volume = torch.rand(3, 2, 4, 4, 6, generator=torch.Generator().manual_seed(0))
    assert torch.equal(own_channels(with_neighbours(volume, 2), 2), volume)
    assert torch.equal(own_channels(volume, 0), volume)


def test_training_figures_know_the_brain_by_the_slice_itself_and_not_by_its_neighbours():
    target = torch.zeros(1, 4, 1, 2)
    target[:, 0] = 1  # no tumour
    image = torch.zeros(1, 3, 1, 2)  # one modality: below, own, above
    image[:, 0] = 1  # brain in the slice below only
    tumour = torch.zeros(1, 4, 1, 2)
    tumour[:, 3] = 9  # the network calls both pixels enhancing tumour
    dice = {}
    for neighbours in (0, 1):
        scores = CaseScores(brain_only=True, input=AxialWindow(neighbours=neighbours))
        engine = Engine(lambda engine, batch: {"pred": tumour, "label": target, "image": image})
        engine.state.metric_details = {}
        scores.attach(engine, "mean_region_dice")
        engine.run([{"case": torch.tensor([0])}], max_epochs=1)
        dice[neighbours] = engine.state.metrics["et_dice"]
    assert dice == {0: 0.0, 1: 1.0}


@pytest.mark.parametrize("window", [(5, 35), (0, 40), None], ids=["window", "all", "brain"])
@pytest.mark.parametrize("neighbours", [0, 1, 2])
def test_the_network_is_given_the_same_channels_in_training_and_on_the_volume(
    write_patient: WritePatient, window: tuple[int, int] | None, neighbours: int
):
    patient = write_patient()
    input = AxialWindow(slice_range=window or (5, 35), size_px=32, neighbours=neighbours, whole_brain=window is None)
    dataset = SliceDataset([patient], training_preprocessing(input, BRATS_VALUES, reader=CaseReader()), input)
    first, end = window or (1, 38)  # the brain of conftest's head: a ball of radius 18 around slice 19
    assert len(dataset) == end - first
    batch = dataset.__getitems__(range(len(dataset)))["image"]

    seen: list[torch.Tensor] = []

    def network(slices: torch.Tensor) -> torch.Tensor:
        seen.append(slices.clone())
        return slices[:, :1]

    volume = preprocessing(AxialWindow(slice_range=(5, 35), size_px=32), CaseReader())(patient)["image"].as_tensor()[
        None
    ]
    PlanesInferer(AxialWindow(neighbours=neighbours), slices_per_batch=7)(volume, network)
    on_volume = torch.cat(seen)
    assert on_volume.shape == (40, 2 * (2 * neighbours + 1), 32, 32)
    assert torch.equal(on_volume[first:end].half().float(), batch)


def test_a_network_that_sees_no_difference_in_flips_answers_as_without_them():
    logits = torch.randn(1, 4, 8, 8, 5, generator=torch.Generator().manual_seed(0))
    plain = PlanesInferer(AxialWindow())(logits, lambda x: x).softmax(1)
    flipped = PlanesInferer(AxialWindow(), flips=True)(logits, lambda x: x).softmax(1)
    torch.testing.assert_close(flipped, plain)


def test_flips_average_probabilities_and_not_logits():
    def left_is_tumour(slices: torch.Tensor) -> torch.Tensor:
        answer = torch.zeros(slices.shape[0], 2, *slices.shape[2:])
        answer[:, 1, :2] = 100.0  # certain of tumour in the upper half, undecided in the lower
        return answer

    probabilities = flip_averaged(left_is_tumour)(torch.zeros(1, 1, 4, 4)).softmax(1)
    torch.testing.assert_close(probabilities[0, 1], torch.full((4, 4), 0.75))


def test_four_flips_cost_four_calls_per_batch():
    calls: list[Any] = []

    def network(slices: torch.Tensor) -> torch.Tensor:
        calls.append(slices.shape)
        return slices

    PlanesInferer(AxialWindow(), slices_per_batch=3, flips=True)(torch.zeros(1, 2, 4, 4, 6), network)
    assert len(calls) == 8


def test_slices_below_and_above_the_brain_are_not_computed_and_the_others_answer_as_ever():
    volume = torch.rand(1, 2, 8, 8, 10, generator=torch.Generator().manual_seed(0)) + 1
    volume[..., :3], volume[..., 5], volume[..., 9:] = 0, 0, 0  # one empty slice within the brain
    seen: list[int] = []

    def network(slices: torch.Tensor) -> torch.Tensor:
        seen.append(len(slices))
        return slices[:, :1] + slices[:, -1:]

    for neighbours in (0, 1):
        options = {"input": AxialWindow(neighbours=neighbours), "slices_per_batch": 4}
        everything = PlanesInferer(**options)(volume, network)
        seen.clear()
        brain = PlanesInferer(**options, brain_only=True)(volume, network)
        assert sum(seen) == 6  # slices 3 to 8
        assert brain.shape == everything.shape
        assert torch.equal(brain[..., 3:9], everything[..., 3:9])
        assert not brain[..., :3].any() and not brain[..., 9:].any()


@pytest.mark.parametrize("brain_only", [True, False])
def test_the_inferer_leaves_slices_out_only_where_post_processing_calls_them_background(
    tiny_settings: dict[str, Any], brain_only: bool
):
    settings = {**tiny_settings, "patient_dir": "nowhere", "brain_only": brain_only}
    workflow = ConfigWorkflow(config_files("inference"), workflow_type="infer", **settings)
    workflow.initialize()
    inferer = workflow.parser.get_parsed_content("inferer")
    assert (inferer.brain_only, inferer.look_again_from) == (brain_only, 0.2)
    steps = workflow.parser.get_parsed_content("postprocessing").flatten().transforms
    assert any(isinstance(step, BackgroundOutsideBraind) for step in steps) == brain_only
