"""Training in bfloat16 on a processor: when, what of it, and what stays as it was."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser
from monai.inferers import SimpleInferer
from torch import Tensor, nn

from networks.packed import PackedUNet
from tests.support import TINY_SETTINGS, Run
from workflows.settings.bundle_files import config_files
from workflows.training import fast_paths
from workflows.training.cuda_graphs import ReplayingInferer
from workflows.training.fast_paths import Bfloat16Inferer, bfloat16_is_fast_on
from workflows.training.train import train

CPUINFO = Path("/proc/cpuinfo")


class Watched(nn.Module):
    """A network that notes what type its answers have."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.types = network, []

    def forward(self, slices: Tensor) -> Tensor:
        scores = self.network(slices)
        self.types.append(scores.dtype)
        return scores


def test_the_network_computes_in_bfloat16_and_the_loss_gets_float32():
    torch.manual_seed(0)
    network, slices = Watched(PackedUNet(2, width=4).eval()), torch.randn(2, 2, 64, 64)
    rounded, exact = Bfloat16Inferer()(slices, network), SimpleInferer()(slices, network)
    assert network.types == [torch.bfloat16, torch.float32]
    assert rounded.dtype is torch.float32 and not torch.equal(rounded, exact)
    torch.testing.assert_close(rounded, exact, atol=0.05 * exact.abs().max().item(), rtol=0)


def test_several_answers_of_a_network_are_all_given_in_float32():
    answers = Bfloat16Inferer()(torch.randn(2, 4), lambda x: [x @ x.T, (x @ x.T, x)])
    assert answers[0].dtype is answers[1][0].dtype is torch.float32


def test_weights_and_their_gradients_stay_in_float32():
    network = PackedUNet(2, width=4)
    Bfloat16Inferer()(torch.randn(2, 2, 64, 64), network).square().mean().backward()
    assert {weight.dtype for weight in network.parameters()} == {torch.float32}
    assert {weight.grad.dtype for weight in network.parameters()} == {torch.float32}


@pytest.mark.skipif(not CPUINFO.is_file(), reason="the kernel does not say what instructions the processor has")
def test_it_is_used_where_the_processor_says_it_has_the_instructions():
    flags = next((line for line in CPUINFO.read_text().splitlines() if line.startswith("flags")), "").split()
    assert bfloat16_is_fast_on("cpu") == ("avx512_bf16" in flags or "amx_bf16" in flags)


@pytest.mark.parametrize(("known", "fast"), [({}, False), ({"avx512_bf16": False}, False), ({"amx_bf16": True}, True)])
def test_other_processors(known: dict[str, bool], fast: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known, raising=False)
    assert bfloat16_is_fast_on("cpu") is fast


def test_an_older_torch_that_does_not_say_computes_in_float32(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert not bfloat16_is_fast_on("cpu")


@pytest.mark.parametrize(("device", "fast"), [("cuda:0", True), ("mps", False)])
def test_other_devices(device: str, fast: bool):
    assert bfloat16_is_fast_on(device) is fast


def computed(monkeypatch: pytest.MonkeyPatch, *overlays: str, device: str = "cpu") -> dict[str, object]:
    """What train.json makes of a device with instructions for bfloat16."""
    monkeypatch.setattr(fast_paths, "bfloat16_is_fast_on", lambda device: True)
    parser = ConfigParser()
    parser.read_config(config_files("train", overlays))
    parser["device"] = device
    parts = {"training": "train#inferer", "validation": "validate#inferer"}
    engines = {name: parser.get_parsed_content(f"{name}#amp") for name in ("train#trainer", "validate#evaluator")}
    return {part: type(parser.get_parsed_content(name)) for part, name in parts.items()} | engines


def test_training_uses_it_on_a_processor_and_validation_does_not(monkeypatch: pytest.MonkeyPatch):
    in_float32 = {"validation": SimpleInferer, "train#trainer": False, "validate#evaluator": False}
    assert computed(monkeypatch) == {"training": Bfloat16Inferer, **in_float32}


@pytest.mark.parametrize("overlay", ["seed", "seed_dice"])
def test_the_study_is_trained_in_float32_on_a_processor(overlay: str, monkeypatch: pytest.MonkeyPatch):
    in_float32 = {"validation": SimpleInferer, "train#trainer": False, "validate#evaluator": False}
    assert computed(monkeypatch, overlay) == {"training": SimpleInferer, **in_float32}


def test_on_a_gpu_the_engines_see_to_it(monkeypatch: pytest.MonkeyPatch):
    engines = {"train#trainer": True, "validate#evaluator": True}
    assert computed(monkeypatch, device="cuda:0") == {
        "training": ReplayingInferer,
        "validation": SimpleInferer,
        **engines,
    }


def test_a_training_in_bfloat16_learns_what_one_in_float32_does(tiny_run: Run, tmp_path: Path):
    losses = []
    for amp in (True, False):
        folder = tmp_path / str(amp)
        paths = {"dataset_dir": str(tiny_run.data), "split_file": str(tiny_run.folder / "split.json")}
        train([], {**TINY_SETTINGS, **paths, "run_dir": str(folder), "max_epochs": 1, "amp": amp})
        losses.append(float(next(csv.DictReader((folder / "training.log").open()))["loss"]))
    assert losses[0] != losses[1] and losses[0] == pytest.approx(losses[1], rel=0.01)
