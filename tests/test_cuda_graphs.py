"""Recorded passes where there is no GPU to record them on; test_gpu.py has the rest."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import Run
from monai.bundle import ConfigWorkflow
from monai.inferers import SimpleInferer
from torch import nn

from workflows.configuration import config_files
from workflows.cuda_graphs import Replayed, ReplayingInferer


def test_on_a_processor_a_module_is_called_as_it_is():
    module = nn.Conv2d(2, 4, 3)
    replayed, slices = Replayed(module), torch.randn(3, 2, 8, 8)
    assert torch.equal(replayed(slices), module(slices)) and replayed.replay is None


def test_the_inferer_calls_the_network_that_it_is_given():
    slices, inferer = torch.randn(3, 2, 8, 8), ReplayingInferer()
    for network in (nn.Conv2d(2, 4, 3), nn.Conv2d(2, 4, 3)):
        assert torch.equal(inferer(slices, network), network(slices))


@pytest.mark.parametrize(
    ("overlays", "given", "replays"),
    [
        ([], {"on_gpu": True}, True),
        (["seed"], {"on_gpu": True}, True),
        ([], {"on_gpu": False}, False),
        ([], {"on_gpu": True, "cuda_graphs": False}, False),
        (["multi_gpu_train"], {"on_gpu": True}, False),
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
    assert workflow.parser.get_parsed_content("cuda_graphs") is replays
