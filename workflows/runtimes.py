"""What computes the scores at prediction: torch, or ONNX Runtime where it gives the same probabilities."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from workflows.errors import ConfigurationError

TORCH, ONNX_RUNTIME = "torch", "onnxruntime"
AGREEMENT = 1e-4
"""Probabilities of any pixel may differ by so much from those of torch; sums are taken in another order."""

Scores = Callable[[Tensor], Tensor]


class OnnxNetwork:
    """A network for slices as ONNX Runtime computes it on the CPU.

    Args:
        network: in evaluation mode, on the CPU.
        slices: (B, C, H, W), some that it will see; the size of a batch may be another one later.
    Raises:
        ConfigurationError: if ONNX Runtime is not installed, cannot compute this network, or disagrees with torch.
    """

    def __init__(self, network: nn.Module, slices: Tensor) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise ConfigurationError(
                "runtime onnxruntime is not installed; run  pip install onnx onnxruntime  or use --runtime torch."
            ) from error
        if slices.device.type != "cpu":
            raise ConfigurationError("runtime onnxruntime computes on the CPU; add --device cpu, or use torch.")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        providers = ["CPUExecutionProvider"]
        try:
            self.session = onnxruntime.InferenceSession(_as_onnx(network, slices), options, providers=providers)
        except Exception as error:  # each library has its own for what it does not know
            reason = " ".join(str(error).split())[:200]
            raise ConfigurationError(f"runtime onnxruntime cannot compute this network ({reason}).") from error
        with torch.no_grad():
            difference = float((self(slices).softmax(dim=1) - network(slices).softmax(dim=1)).abs().max())
        if not difference <= AGREEMENT:
            raise ConfigurationError(
                f"runtime onnxruntime differs from torch by {difference:.1e} in the probabilities, more than "
                f"{AGREEMENT:g}; use --runtime torch."
            )

    def __call__(self, slices: Tensor) -> Tensor:
        """Logits (B, classes, H, W) of slices (B, C, H, W)."""
        (scores,) = self.session.run(None, {"slices": slices.contiguous().numpy()})
        return torch.from_numpy(scores)


def in_runtime(runtime: str, network: nn.Module, slices: Tensor) -> Scores:
    """What gives a network's logits in one of the runtimes.

    Args:
        runtime: `TORCH` or `ONNX_RUNTIME`.
        slices: (B, C, H, W), some that it will see.
    Raises:
        ConfigurationError: see `OnnxNetwork`.
    """
    return OnnxNetwork(network, slices) if runtime == ONNX_RUNTIME else network


def _as_onnx(network: nn.Module, slices: Tensor) -> bytes:
    any_batch = {0: "batch"}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # They say that this exporter is the older one (the newer needs another package) and that sizes are fixed.
        warnings.simplefilter("ignore")
        file = Path(folder) / "network.onnx"
        torch.onnx.export(
            network,
            (slices,),
            file,
            dynamo=False,
            input_names=["slices"],
            output_names=["scores"],
            dynamic_axes={"slices": any_batch, "scores": any_batch},
        )
        return file.read_bytes()
