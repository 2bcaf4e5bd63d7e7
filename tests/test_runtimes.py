"""ONNX Runtime computes what torch does, or says in one line why not."""

from __future__ import annotations

import builtins
from typing import Any

import pytest
import torch
from monai.networks.nets import BasicUNet
from torch import Tensor, nn

from networks.unet import UNet2D
from workflows.errors import ConfigurationError
from workflows.inferers import AxialInferer
from workflows.runtimes import AGREEMENT, OnnxNetwork
from workflows.setting_checks import CHOICES


def slices(number: int, size_px: int = 32) -> Tensor:
    return torch.randn(number, 2, size_px, size_px, generator=torch.Generator().manual_seed(number))


@pytest.mark.parametrize(
    "network",
    [UNet2D(width=4, norm="instance"), BasicUNet(spatial_dims=2, in_channels=2, out_channels=4, features=[4] * 6)],
    ids=["UNet2D", "BasicUNet"],
)
def test_onnx_runtime_gives_the_probabilities_of_torch_for_batches_of_any_size(network: nn.Module):
    network.eval()
    same = OnnxNetwork(network, slices(2))
    with torch.no_grad():
        for number in (1, 2, 5):
            difference = same(slices(number)).softmax(1) - network(slices(number)).softmax(1)
            assert difference.abs().max() <= AGREEMENT


def test_a_volume_has_the_scores_of_torch_with_flips_and_without_empty_slices_too():
    network = UNet2D(width=4, norm="instance").eval()
    volume = slices(7).permute(1, 2, 3, 0)[None].contiguous()
    volume[..., :2] = 0
    for options in ({}, {"flips": True}, {"brain_only": True}):
        settings: dict[str, Any] = {"roi_size": [32, 32], "sw_batch_size": 3, **options}
        with torch.no_grad():
            expected = AxialInferer(**settings)(volume, network)
            found = AxialInferer(**settings, runtime="onnxruntime")(volume, network)
        assert found.shape == expected.shape
        assert (found.softmax(1) - expected.softmax(1)).abs().max() <= AGREEMENT


def test_the_network_is_built_once_for_many_volumes(monkeypatch: pytest.MonkeyPatch):
    built: list[nn.Module] = []
    monkeypatch.setattr("workflows.inferers.in_runtime", lambda runtime, network, _: built.append(network) or network)
    network = UNet2D(width=4).eval()
    inferer = AxialInferer(roi_size=[32, 32], sw_batch_size=3, runtime="onnxruntime")
    with torch.no_grad():
        for _ in range(3):
            inferer(slices(4).permute(1, 2, 3, 0)[None], network)
    assert built == [network]


class Undecided(nn.Module):
    """Answers anew at random, as a network in training mode does."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.rand_like(x) * 10


def test_a_network_that_answers_otherwise_than_in_torch_is_refused():
    with pytest.raises(ConfigurationError, match=r"differs from torch by .* use --runtime torch"):
        OnnxNetwork(Undecided(), slices(2))


def test_without_onnx_runtime_the_line_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch):
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "onnxruntime":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigurationError, match="pip install onnx onnxruntime"):
        OnnxNetwork(UNet2D(width=4).eval(), slices(2))


def test_the_runtimes_that_a_setting_may_name_are_those_there_are():
    from workflows import runtimes

    assert CHOICES["runtime"] == (runtimes.TORCH, runtimes.ONNX_RUNTIME)
