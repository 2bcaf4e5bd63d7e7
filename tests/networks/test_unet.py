"""The study's network: its size, its start, its options, and that exported copies compute the same."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

from networks.unet import DecoderLevel, UNet2D


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.fixture(scope="module")
def study_network() -> UNet2D:
    torch.manual_seed(0)
    return UNet2D().eval()


def small(**options: object) -> UNet2D:
    torch.manual_seed(0)
    return UNet2D(**{"width": 4, "depth": 2, **options}).eval()


def test_the_studys_network_has_7759908_parameters(study_network: UNet2D):
    assert parameters(study_network) == 7_759_908
    assert all(p.requires_grad for p in study_network.parameters())


def test_two_modalities_become_four_class_scores_on_the_same_grid(study_network: UNet2D):
    with torch.no_grad():
        assert study_network(torch.zeros(3, 2, 64, 32)).shape == (3, 4, 64, 32)


def test_scores_are_logits_not_probabilities():
    scores = small()(torch.randn(1, 2, 8, 8))
    assert not torch.allclose(scores.sum(1), torch.ones(1, 8, 8), atol=0.1)


def test_a_size_that_does_not_divide_by_16_is_refused_with_the_nearest_that_do(study_network: UNet2D):
    message = "slices of 120×155 pixels do not divide by 16: use 112×144 or 128×160."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        study_network(torch.zeros(1, 2, 120, 155))


def test_a_size_below_16_is_not_told_to_use_zero_pixels(study_network: UNet2D):
    with pytest.raises(ValueError, match=r"slices of 8×40 pixels do not divide by 16: use 16×48\.$"):
        study_network(torch.zeros(1, 2, 8, 40))


def test_depth_decides_which_sizes_fit():
    assert small(depth=2)(torch.zeros(1, 2, 12, 20)).shape == (1, 4, 12, 20)
    with pytest.raises(ValueError, match="divide by 8"):
        small(depth=3)(torch.zeros(1, 2, 12, 20))


def test_channels_double_from_width_at_every_level():
    network = UNet2D(in_channels=4, out_channels=3, width=8, depth=3)
    assert [level[-2].out_channels for level in network.encoder] == [8, 16, 32]
    assert network.bottleneck[-2].out_channels == 64
    assert network.encoder[0][0].in_channels == 4
    assert network(torch.zeros(1, 4, 8, 8)).shape == (1, 3, 8, 8)


def test_half_the_width_has_about_a_quarter_of_the_parameters():
    assert parameters(UNet2D(width=16)) / 7_759_908 == pytest.approx(0.25, rel=0.01)


@pytest.mark.parametrize(("norm", "kind"), [("instance", nn.InstanceNorm2d), ("batch", nn.BatchNorm2d)])
def test_a_norm_adds_two_affine_layers_per_level(norm: str, kind: type[nn.Module]):
    layers = [module for module in small(norm=norm).modules() if isinstance(module, kind)]
    assert len(layers) == 10  # two encoder levels, the bottleneck, two decoder levels
    assert all(layer.weight is not None and layer.weight.shape[0] == layer.num_features for layer in layers)
    assert not any(isinstance(module, kind) for module in small().modules())


def test_instance_norm_makes_the_scores_independent_of_the_images_gain():
    network, image = small(norm="instance"), torch.randn(1, 2, 16, 16)
    torch.testing.assert_close(network(image), network(image * 3), rtol=1e-3, atol=1e-3)
    assert not torch.allclose(small()(image), small()(image * 3), rtol=1e-2)


def test_dropout_zeroes_half_of_the_bottleneck_in_training_and_nothing_in_evaluation():
    network, seen = small(dropout=0.5, width=64), {}
    network.dropout.register_forward_hook(lambda _, given, output: seen.update(given=given[0], kept=output))
    image = torch.randn(4, 2, 16, 16)
    network(image)
    assert torch.equal(seen["given"], seen["kept"])
    network.train()(image)
    alive = seen["given"] > 0
    assert (seen["kept"][alive] == 0).float().mean().item() == pytest.approx(0.5, abs=0.03)


def test_weights_are_he_normal_and_biases_zero(study_network: UNet2D):
    for name, layer in study_network.named_modules():
        if not isinstance(layer, nn.Conv2d):
            continue
        fan_in = layer.in_channels * layer.kernel_size[0] * layer.kernel_size[1]
        weights = layer.weight.detach()
        error = 4 / (2 * weights.numel()) ** 0.5  # four standard errors of a standard deviation
        assert weights.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=error), name
        assert abs(weights.mean().item()) < 4 * (2 / fan_in) ** 0.5 / weights.numel() ** 0.5, name
        assert not layer.bias.any(), name
    within = (study_network.bottleneck[2].weight.abs() < (2 / 4608) ** 0.5).float().mean().item()
    assert within == pytest.approx(0.6827, abs=0.003)  # normal, not uniform


def test_upsampling_pads_below_and_to_the_right_as_keras_does():
    level = DecoderLevel(2, None)
    nn.init.zeros_(level.halve.weight)
    nn.init.zeros_(level.halve.bias)
    level.halve.weight.data[0, 0, 1, 1] = 1.0  # looks one pixel down and right
    seen = {}
    level.merge.register_forward_pre_hook(lambda _, given: seen.update(merged=given[0]))
    level(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[0.0, 0.0], [0.0, 0.0]]]]), torch.zeros(1, 1, 4, 4))
    assert seen["merged"][0, 1].tolist() == [[1, 2, 2, 0], [3, 4, 4, 0], [3, 4, 4, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize("norm", [None, "instance"])
def test_a_scripted_network_gives_the_eager_scores_and_refuses_the_same_sizes(norm: str | None):
    network, image = small(norm=norm), torch.randn(2, 2, 16, 24)
    scripted = torch.jit.script(network)
    torch.testing.assert_close(scripted(image), network(image), rtol=0, atol=0)
    with pytest.raises(torch.jit.Error, match="use 12×16 or 16×20"):
        scripted(torch.zeros(1, 2, 15, 17))


@pytest.mark.filterwarnings("ignore")
def test_a_traced_network_gives_the_eager_scores():
    network, image = small(norm="instance"), torch.randn(2, 2, 16, 24)
    traced = torch.jit.trace(network, torch.zeros(1, 2, 16, 24))
    torch.testing.assert_close(traced(image), network(image), rtol=0, atol=0)


@pytest.mark.filterwarnings("ignore")
def test_onnx_runtime_gives_the_eager_scores_for_any_number_of_slices(tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    network, image, file = small(norm="instance"), torch.randn(3, 2, 16, 24), str(tmp_path / "network.onnx")
    axes = {"slices": {0: "batch"}, "scores": {0: "batch"}}
    options = {"input_names": ["slices"], "output_names": ["scores"], "dynamic_axes": axes, "dynamo": False}
    torch.onnx.export(network, (torch.zeros(1, 2, 16, 24),), file, **options)
    (scores,) = runtime.InferenceSession(file).run(None, {"slices": image.numpy()})
    torch.testing.assert_close(torch.from_numpy(scores), network(image).detach(), rtol=1e-4, atol=1e-5)
