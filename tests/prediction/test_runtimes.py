"""Other runtimes compute what torch does, or say in one line why not."""

from __future__ import annotations

import logging
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.networks.nets import BasicUNet
from torch import Tensor, nn

from networks.packed import PackedUNet
from networks.slabs import SlabNetwork
from networks.unet import UNet2D
from tests.support import REPOSITORY, Started
from transforms.inputs import AxialWindow
from workflows.messages.errors import ConfigurationError
from workflows.prediction import runtimes
from workflows.prediction.inferers import PlanesInferer
from workflows.prediction.runtimes import (
    AUTO,
    FASTEST_FIRST,
    IN_ANOTHER_ORDER,
    ONNX_RUNTIME,
    OPENVINO,
    OPENVINO_BFLOAT16,
    RUNTIMES,
    TORCH,
    OnnxNetwork,
    in_runtime,
    obstacle_to,
)
from workflows.settings.setting_checks import CHOICES


def slices(number: int, size_px: int = 32) -> Tensor:
    return torch.randn(number, 2, size_px, size_px, generator=torch.Generator().manual_seed(number))


@pytest.fixture(params=FASTEST_FIRST)
def runtime(request: pytest.FixtureRequest) -> str:
    """Each that this machine has; asked when a test runs, since asking imports the runtime."""
    if request.param != AUTO and (obstacle := obstacle_to(request.param)):
        pytest.skip(obstacle)
    return str(request.param)


NETWORKS = {
    "UNet2D": lambda: UNet2D(width=4, norm="instance"),
    "BasicUNet": lambda: BasicUNet(spatial_dims=2, in_channels=2, out_channels=4, features=[4] * 6),
    "PackedUNet": lambda: PackedUNet(width=4),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_another_runtime_gives_the_probabilities_of_torch_for_batches_of_any_size(name: str, runtime: str):
    network = NETWORKS[name]().eval()
    if (name, runtime) == ("UNet2D", OPENVINO_BFLOAT16):
        pytest.skip("untrained it makes so much of the last digits that it is refused")
    same = OnnxNetwork(network, slices(2, 64), runtime)
    with torch.no_grad():
        answers = [(same(slices(number, 64)), network(slices(number, 64))) for number in (1, 2, 5)]
    for found, expected in answers:  # kept until here: a runtime must not write into what it has handed out
        assert (found.softmax(1) - expected.softmax(1)).abs().max() <= RUNTIMES[runtime].agreement


def test_bfloat16_differs_from_torch_and_float32_hardly(runtime: str):
    difference = OnnxNetwork(NETWORKS["PackedUNet"]().eval(), slices(3, 64), runtime).difference
    assert (difference > IN_ANOTHER_ORDER) == (runtime == OPENVINO_BFLOAT16)


@pytest.mark.parametrize("runtime", [*FASTEST_FIRST, AUTO], indirect=True)
def test_a_volume_has_the_scores_of_torch_with_flips_and_without_empty_slices_too(runtime: str):
    network = NETWORKS["PackedUNet"]().eval()
    volume = slices(7, 64).permute(1, 2, 3, 0)[None].contiguous()
    for options in ({}, {"flips": True}, {"brain_only": True}):
        if "brain_only" in options:  # elsewhere normalising slices without any signal makes much of the last digits
            volume[..., :2] = 0
        settings: dict[str, Any] = {"slices_per_batch": 3, **options}
        with torch.no_grad():
            expected = PlanesInferer(AxialWindow(), **settings)(volume, network)
            found = PlanesInferer(AxialWindow(), **settings, runtime=runtime)(volume, network)
        assert found.shape == expected.shape
        used = next((name for name in FASTEST_FIRST if not obstacle_to(name)), OPENVINO) if runtime == AUTO else runtime
        assert (found.softmax(1) - expected.softmax(1)).abs().max() <= RUNTIMES[used].agreement


def test_the_network_is_built_once_for_many_volumes(monkeypatch: pytest.MonkeyPatch):
    built: list[nn.Module] = []
    monkeypatch.setattr(
        "workflows.prediction.inferers.in_runtime",
        lambda runtime, network, _: built.append(network) or (runtime, network),
    )
    network = UNet2D(width=4).eval()
    inferer = PlanesInferer(AxialWindow(), slices_per_batch=3, runtime="onnxruntime")
    with torch.no_grad():
        for _ in range(3):
            inferer(slices(4).permute(1, 2, 3, 0)[None], network)
    assert built == [network]


class Undecided(nn.Module):
    """Answers anew at random, as a network in training mode does."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.rand_like(x) * 10


def test_a_network_that_answers_otherwise_than_in_torch_is_refused(runtime: str):
    with pytest.raises(ConfigurationError, match=rf"{runtime} differs from torch by .* use --runtime torch"):
        OnnxNetwork(Undecided(), slices(2), runtime)


def test_a_network_for_volumes_is_refused_since_its_answer_depends_on_the_whole_stack(runtime: str):
    with pytest.raises(ConfigurationError, match=f"runtime {runtime} cannot compute this network"):
        OnnxNetwork(SlabNetwork(nn.Conv3d(2, 4, 1), slab=4).eval(), slices(2), runtime)


def without(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    monkeypatch.setattr(runtimes, "find_spec", lambda name: None if name in packages else find_spec(name))


PACKAGES = {OPENVINO_BFLOAT16: "openvino", OPENVINO: "openvino", ONNX_RUNTIME: "onnxruntime"}


@pytest.mark.parametrize("name", FASTEST_FIRST)
def test_without_the_package_the_line_says_how_to_install_it(name: str, monkeypatch: pytest.MonkeyPatch):
    package = PACKAGES[name]
    without(monkeypatch, package)
    with pytest.raises(ConfigurationError, match=f"{name} needs {package}.*pip install onnx {package} "):
        OnnxNetwork(UNet2D(width=4).eval(), slices(2), name)


def test_a_processor_without_bfloat16_is_named_and_auto_goes_on_in_float32(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("openvino")
    pytest.importorskip("onnx")
    monkeypatch.setattr(runtimes, "computes_in_bfloat16", lambda: False)
    with pytest.raises(ConfigurationError, match=r"needs a processor with instructions .* use --runtime openvino\.$"):
        OnnxNetwork(UNet2D(width=4).eval(), slices(2), OPENVINO_BFLOAT16)
    chosen, _ = in_runtime(AUTO, UNet2D(width=4).eval(), slices(2))
    assert chosen == OPENVINO


def test_auto_takes_the_fastest_that_is_installed_and_says_so(
    runtime: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    faster = FASTEST_FIRST[: FASTEST_FIRST.index(runtime)]
    without(monkeypatch, *{PACKAGES[name] for name in faster} - {PACKAGES[runtime]})
    if OPENVINO_BFLOAT16 in faster:
        monkeypatch.setattr(runtimes, "computes_in_bfloat16", lambda: False)
    with caplog.at_level(logging.INFO, "workflows"):
        chosen, scores = in_runtime(AUTO, UNet2D(width=4).eval(), slices(2))
    assert chosen == runtime
    assert isinstance(scores, OnnxNetwork)
    (line,) = caplog.messages
    assert line.startswith(f"computed by {runtime} ")


def test_auto_is_torch_where_nothing_else_is_installed_agrees_or_sees_volumes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    undecided, for_volumes = Undecided(), SlabNetwork(nn.Conv3d(2, 4, 1), slab=4).eval()
    with caplog.at_level(logging.INFO, "workflows"):
        assert in_runtime(AUTO, undecided, slices(2)) == (TORCH, undecided)
        assert in_runtime(AUTO, for_volumes, slices(2)) == (TORCH, for_volumes)
        without(monkeypatch, *PACKAGES.values())
        network = UNet2D(width=4).eval()
        assert in_runtime(AUTO, network, slices(2)) == (TORCH, network)
    assert len(caplog.messages) == 3
    assert all(line.startswith("computed by torch ") for line in caplog.messages)
    assert caplog.messages[2].endswith("; faster ones are not installed (openvino, onnxruntime)")


def test_the_runtimes_that_a_setting_may_name_are_those_there_are():
    assert set(CHOICES["runtime"]) == {AUTO, TORCH, *FASTEST_FIRST}


TWO_MODELS_AND_A_SIGNAL = """
import faulthandler, signal, sys
sys.path[:0] = sys.argv[2:]
from tests.prediction.test_runtimes import NETWORKS, OnnxNetwork, slices
faulthandler.enable()  # which has signals handled on memory of its own
first, second = (OnnxNetwork(NETWORKS["PackedUNet"]().eval(), slices(3, 64), sys.argv[1]) for _ in range(2))
del first
del second
signal.signal(signal.SIGINT, lambda *_: print("handled"))
signal.raise_signal(signal.SIGINT)
"""


def test_a_signal_is_handled_after_two_networks_were_given_up(
    python: Callable[..., Started], runtime: str, tmp_path: Path
):
    ended = python("-c", TWO_MODELS_AND_A_SIGNAL, runtime, REPOSITORY, REPOSITORY / "tests", cwd=tmp_path)
    assert (ended.status, ended.stdout) == (0, "handled\n"), ended.stderr
