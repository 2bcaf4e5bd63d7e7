"""The same run twice, and the same patient however the work is cut into pieces."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Events
from monai.bundle import ConfigWorkflow
from monai.data import DataLoader

from tests.support import TINY_SETTINGS, Run
from transforms.pipelines import augmentation
from workflows.machine.seeds import draw_seed
from workflows.settings.bundle_files import config_files
from workflows.training.train import train
from workflows.training_data.slice_batches import SliceBatches
from workflows.training_data.slice_dataset import SliceDataset, keep_batch


def weights_of(run_dir: Path) -> dict[str, torch.Tensor]:
    return torch.load(run_dir / "model.pt", weights_only=True)


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture
def trained(tiny_run: Run, tiny_settings: dict[str, Any], tmp_path: Path) -> Callable[..., dict[str, torch.Tensor]]:
    """The weights after `tiny_run`'s two epochs, trained again with other settings."""

    def run(name: str, **changes: Any) -> dict[str, torch.Tensor]:
        named = {"dataset_dir": str(tiny_run.data), "run_dir": str(tmp_path / name), "max_epochs": 2}
        train(["axial"], {**named, **tiny_settings, **changes})
        return weights_of(tmp_path / name)

    return run


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(
    trained: Callable[..., dict[str, torch.Tensor]], tiny_run: Run
):
    torch.rand(7)  # what was drawn before a run makes no difference
    again = trained("again")
    assert equal(again, weights_of(tiny_run.folder))
    assert not equal(trained("other", seed=1), again)


def test_two_loading_processes_give_the_weights_of_none(trained: Callable[..., dict[str, torch.Tensor]], tiny_run: Run):
    assert equal(trained("loaded", **{"train#dataloader#num_workers": 2}), weights_of(tiny_run.folder))


class Stack:
    """A patient of five slices, as preprocessing would give it."""

    def __call__(self, case: dict[str, Any]) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(case["number"])
        image = torch.rand(5, 2, 16, 16, generator=generator).half()
        return {"image": image, "label": (image[:, :1] > 0.5).to(torch.uint8)}


def batches(epochs: int, skipped: tuple[int, int] = (0, 0), workers: int = 0) -> list[list[dict[str, torch.Tensor]]]:
    cases = [{"case": f"P{number}", "number": number} for number in range(3)]
    dataset = SliceDataset(cases, Stack(), augmentation=augmentation())
    sampler = SliceBatches(dataset, slices_per_batch=4, shuffle=True, seed=5)
    sampler.continue_from(*skipped)
    loader = DataLoader(dataset, batch_sampler=sampler, collate_fn=keep_batch, num_workers=workers)
    return [list(loader) for _ in range(epochs)]


def equal_batches(one: list[dict[str, torch.Tensor]], other: list[dict[str, torch.Tensor]]) -> bool:
    return len(one) == len(other) and all(equal(a, b) for a, b in zip(one, other, strict=True))


def test_batches_and_their_augmentation_are_those_of_the_seed_in_however_many_processes():
    first, second = batches(epochs=2)
    assert len(first) == len(second) == 4
    assert not equal_batches(first, second)
    for epoch, same in zip((first, second), batches(epochs=2, workers=2), strict=True):
        assert equal_batches(epoch, same)


def test_an_epoch_continued_after_two_batches_has_the_last_two_of_the_whole_epoch():
    whole = batches(epochs=3)
    continued = batches(epochs=2, skipped=(1, 2))
    assert equal_batches(continued[0], whole[1][2:])
    assert equal_batches(continued[1], whole[2])


def test_seeds_of_neighbouring_steps_have_no_more_bits_in_common_than_chance():
    differing = [(draw_seed(0, step) ^ draw_seed(0, step + 1)).bit_count() for step in range(1000)]
    assert sum(differing) / len(differing) == pytest.approx(16, abs=0.5)
    assert min(draw_seed(0, step) for step in range(1000)) >= 0 and max(draw_seed(3), draw_seed(4)) < 2**32


# ---------------------------------------------------------------------------------------------------------------------
# Prediction


@pytest.fixture(scope="module")
def predicted(tiny_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, Any]]:
    """Probabilities (classes, H, W, D) and label map of every patient, by id."""

    def predict(reverse: bool = False, **settings: Any) -> dict[str, Any]:
        folder = tmp_path_factory.mktemp("prediction")
        named = {"patient_dir": str(tiny_run.data), "output_dir": str(folder), "checkpoint": str(tiny_run.checkpoint)}
        workflow = ConfigWorkflow(config_files("inference"), **named, **TINY_SETTINGS, **settings)
        workflow.initialize()
        if reverse:
            workflow.parser["dataset#data"] = workflow.parser.get_parsed_content("data")[::-1]
        evaluator, seen = workflow.parser.get_parsed_content("evaluator"), {}

        def keep(engine: Any) -> None:
            for batch, output in zip(engine.state.batch, engine.state.output, strict=True):
                seen[batch["case"]] = (output["pred"].clone(), output["label_map"].clone())

        evaluator.add_event_handler(Events.ITERATION_COMPLETED, keep)
        evaluator.run()
        return seen

    return predict


def assert_same_prediction(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    for case, (probabilities, label_map) in one.items():
        assert (probabilities - other[case][0]).abs().max() < 1e-5, case
        assert torch.equal(label_map, other[case][1]), case


@pytest.mark.slow
def test_the_prediction_of_a_patient_depends_neither_on_batch_size_nor_on_processes_nor_on_the_order_of_patients(
    predicted: Callable[..., dict[str, Any]],
):
    first = predicted()
    assert len(first) == 3
    assert len({int(label_map.sum()) for _, label_map in first.values()}) == 3  # three different patients
    assert_same_prediction(first, predicted(slices_per_batch=1))
    assert_same_prediction(first, predicted(slices_per_batch=7))
    reversed_order = predicted(reverse=True, **{"dataloader#num_workers": 2})
    assert list(reversed_order) == list(first)[::-1]
    assert_same_prediction(first, reversed_order)
