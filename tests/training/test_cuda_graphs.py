"""Recorded passes where there is no GPU to record them on; test_gpu.py has the rest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigWorkflow
from monai.inferers import SimpleInferer
from torch import Tensor, nn

from tests.support import Run
from workflows.settings.bundle_files import config_files
from workflows.training.cuda_graphs import Replayed, ReplayingInferer


def test_on_a_processor_a_module_is_called_as_it_is():
    module = nn.Conv2d(2, 4, 3)
    replayed, slices = Replayed(module), torch.randn(3, 2, 8, 8)
    assert torch.equal(replayed(slices), module(slices)) and replayed.recorded is None


def test_the_inferer_calls_the_network_that_it_is_given():
    slices, inferer = torch.randn(3, 2, 8, 8), ReplayingInferer()
    for network in (nn.Conv2d(2, 4, 3), nn.Conv2d(2, 4, 3)):
        assert torch.equal(inferer(slices, network), network(slices))


class Rehearsed(Replayed):
    """Records and replays on a processor: what is replayed counts itself and answers as the module does."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__(module)
        self.recordings, self.replays = 0, 0

    def _on_gpu(self, inputs: tuple[Tensor, ...]) -> bool:
        return True

    def _record(self, inputs: tuple[Tensor, ...]) -> Callable[..., Tensor]:
        self.recordings += 1

        def replay(*again: Tensor) -> Tensor:
            self.replays += 1
            return self.module(*again)

        return replay


def slices(number: int) -> Tensor:
    return torch.randn(number, 2, 8, 8)


def test_the_first_call_is_recorded_and_those_of_another_form_reach_the_module():
    rehearsed = Rehearsed(nn.Conv2d(2, 4, 3))
    replays = []
    for number in (4, 4, 3, 4):
        rehearsed(slices(number))
        replays.append(rehearsed.replays)
    assert replays == [1, 2, 2, 3] and rehearsed.recordings == 1


def test_nothing_is_replayed_in_evaluation_or_without_gradients():
    rehearsed = Rehearsed(nn.Sequential(nn.Conv2d(2, 4, 3), nn.Dropout()))
    for _ in range(3):
        rehearsed(slices(4))
    assert rehearsed.replays == 3
    with torch.no_grad():
        rehearsed(slices(4))
    rehearsed.eval()
    rehearsed(slices(4))
    assert rehearsed.replays == 3 and rehearsed.recordings == 1


def test_gradients_that_add_up_over_steps_are_not_overwritten_by_a_replay():
    rehearsed = Rehearsed(nn.Conv2d(2, 4, 3))
    for _ in range(3):
        rehearsed.zero_grad()
        for _ in range(2):
            rehearsed(slices(4)).sum().backward()
    assert (rehearsed.recordings, rehearsed.replays) == (1, 3)  # the first of each pair


def test_a_network_that_averages_gradients_with_other_processes_is_never_replayed(tmp_path: Path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'meeting'}", rank=0, world_size=1)
    try:
        rehearsed = Rehearsed(nn.parallel.DistributedDataParallel(nn.Conv2d(2, 4, 3)))
        for _ in range(3):
            rehearsed(slices(4))
    finally:
        torch.distributed.destroy_process_group()
    assert rehearsed.recordings == 0


@pytest.mark.parametrize(
    ("overlays", "given", "replays"),
    [
        ([], {"on_gpu": True}, True),
        (["seed"], {"on_gpu": True}, True),
        ([], {"on_gpu": False}, False),
        ([], {"on_gpu": True, "cuda_graphs": False}, False),
        (["multi_gpu_train"], {"on_gpu": True}, False),
        (["deep_supervision"], {"on_gpu": True}, False),
        ([], {"on_gpu": False, "cuda_graphs": True}, False),
    ],
)
def test_training_replays_on_one_gpu_unless_told_otherwise(
    overlays: list[str], given: dict[str, bool], replays: bool, tiny_run: Run, tmp_path: Path
):
    named = {"dataset_dir": str(tiny_run.data), "run_dir": str(tmp_path), "device": "cpu", "amp": False}
    workflow = ConfigWorkflow(config_files("train", overlays), workflow_type="train", **named, **given)
    workflow.parser.parse()
    inferer = workflow.parser.get_parsed_content("train#inferer")
    assert type(inferer) is (ReplayingInferer if replays else SimpleInferer)
