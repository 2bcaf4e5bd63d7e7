"""What computes the scores at prediction: torch, or a runtime that is faster and gives the same probabilities."""

from __future__ import annotations

import ctypes
import logging
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from networks.slabs import SlabNetwork
from workflows.messages.errors import ConfigurationError

logger = logging.getLogger(__name__)

AUTO, TORCH, ONNX_RUNTIME, OPENVINO = "auto", "torch", "onnxruntime", "openvino"
OPENVINO_BFLOAT16 = "openvino-bfloat16"
IN_ANOTHER_ORDER = 1e-4
"""The largest difference of a probability from that of torch where sums are taken in another order."""
IN_BFLOAT16 = 0.05
"""The same where numbers have 8 bits instead of 24, as on a GPU: twice what four trained networks differed by."""
FEWEST_TOGETHER = 2
"""Slices that are computed at once, for a lone one is summed in another order."""
MOST_PARTS = 8
"""Into which a batch is divided; more threads share a part, of the 16 slices that are a batch by default two."""

Scores = Callable[[Tensor], Tensor]


class OnnxNetwork:
    """A network for slices as another runtime computes it on the CPU from its ONNX form.

    Args:
        network: in evaluation mode, on the CPU.
        slices: (B, C, H, W), some that it will see; the size of a batch may be another one later.
    Raises:
        ConfigurationError: if the runtime is not installed, cannot compute this network or on this processor, or
            disagrees with torch.
    """

    def __init__(self, network: nn.Module, slices: Tensor, runtime: str = ONNX_RUNTIME) -> None:
        kind = RUNTIMES[runtime]
        if obstacle := obstacle_to(runtime):
            raise ConfigurationError(obstacle)
        if slices.device.type != "cpu":
            raise ConfigurationError(f"runtime {runtime} computes on the CPU; add --device cpu, or use torch.")
        if sees_volumes(network):
            raise ConfigurationError(f"runtime {runtime} cannot compute this network (it is 3D); use --runtime torch.")
        checked = torch.cat([slices] * 3)[:3]  # one more than the network is traced with: their number must not matter
        threads = torch.get_num_threads()
        with one_thread_in_torch(), torch.no_grad():
            try:
                self.compute = kind.opened(_as_onnx(network, checked[:2]), threads)
            except Exception as error:  # each library has its own for what it does not know
                reason = " ".join(str(error).split())[:200]
                raise ConfigurationError(f"runtime {runtime} cannot compute this network ({reason}).") from error
            self.difference = float((self(checked).softmax(dim=1) - network(checked).softmax(dim=1)).abs().max())
        if not self.difference <= kind.agreement:
            raise ConfigurationError(
                f"runtime {runtime} differs from torch by {self.difference:.1e} in the probabilities, more than "
                f"{kind.agreement:g}; use --runtime torch."
            )

    def __call__(self, slices: Tensor) -> Tensor:
        """Logits (B, classes, H, W) of slices (B, C, H, W)."""
        return self.compute(slices)


def obstacle_to(runtime: str) -> str | None:
    """Why a runtime cannot be used on this machine, in one line; None if it can."""
    if missing := packages_missing_for(runtime):
        return (
            f"runtime {runtime} needs {' and '.join(missing)}, which is not installed; "
            f"run  pip install onnx {RUNTIMES[runtime].package}  or use --runtime torch."
        )
    if runtime == OPENVINO_BFLOAT16 and not computes_in_bfloat16():
        return f"runtime {runtime} needs a processor with instructions for bfloat16; use --runtime {OPENVINO}."
    return None


def packages_missing_for(runtime: str) -> list[str]:
    """The packages that a runtime needs and that are not installed."""
    return [name for name in ("onnx", RUNTIMES[runtime].package) if find_spec(name) is None]


def computes_in_bfloat16() -> bool:
    """Whether OpenVINO, which is installed, finds such instructions."""
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def in_runtime(runtime: str, network: nn.Module, slices: Tensor) -> tuple[str, Scores]:
    """What gives a network's logits, and in which of the runtimes.

    `AUTO` is the first of `FASTEST_FIRST` that is installed and agrees with torch; a line in the log says which.

    Raises:
        ConfigurationError: see `OnnxNetwork`; never with `AUTO`.
    """
    if runtime == TORCH:
        return TORCH, network
    return _fastest(network, slices) if runtime == AUTO else (runtime, OnnxNetwork(network, slices, runtime))


def _fastest(network: nn.Module, slices: Tensor) -> tuple[str, Scores]:
    refusals: list[str] = []
    missing: dict[str, None] = {}
    for runtime in FASTEST_FIRST if slices.device.type == "cpu" and not sees_volumes(network) else ():
        if packages := packages_missing_for(runtime):
            missing |= dict.fromkeys(packages)
            continue
        try:
            scores = OnnxNetwork(network, slices, runtime)
        except ConfigurationError as refusal:
            refusals.append(str(refusal).split("; ")[0])
            continue
        logger.info(f"computed by {described(runtime)}, within {scores.difference:.0e} of torch")
        return runtime, scores
    refusals += [f"faster ones are not installed ({', '.join(missing)})"] if missing else []
    logger.info(f"computed by {described(TORCH)}" + "".join(f"; {refusal}" for refusal in refusals))
    return TORCH, network


def described(runtime: str) -> str:
    """With its version, as a record names it."""
    package = TORCH if runtime == TORCH else RUNTIMES[runtime].package
    return f"{runtime} {import_module(package).__version__.partition('-')[0]}"


def sees_volumes(network: object) -> bool:
    """Whether a network, or one of several that answer together, is three-dimensional."""
    return isinstance(network, nn.Module) and any(isinstance(part, SlabNetwork) for part in network.modules())


@contextmanager
def one_thread_in_torch() -> Iterator[None]:
    """Layers of two or three slices take threads that wait for each other longer than one, up to thirty times."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class _SignalStack(ctypes.Structure):
    """Linux's `stack_t`."""

    _fields_: ClassVar = [("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("bytes", ctypes.c_size_t)]


@contextmanager
def same_signal_stack() -> Iterator[None]:
    """Leave this thread the memory in which it handles signals.

    OpenVINO gives it other memory together with a model, and frees that with the model. Two models freed in the order
    they came, or one freed by another thread, leave it none, and the next signal is a segmentation fault.
    """
    if sys.platform != "linux":
        yield
        return
    system, stack = ctypes.CDLL(None), _SignalStack()
    system.sigaltstack(None, ctypes.byref(stack))
    try:
        yield
    finally:
        system.sigaltstack(ctypes.byref(stack), None)


def _open_in_onnxruntime(model: bytes, threads: int) -> Scores:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def compute(slices: Tensor) -> Tensor:
        (scores,) = session.run(None, {"slices": slices.contiguous().numpy()})
        return torch.from_numpy(scores)

    return compute


def _open_in_openvino(model: bytes, threads: int, precision: str) -> Scores:
    import openvino

    core = openvino.Core()
    parts = min(threads, MOST_PARTS)
    settings = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": parts}
    with same_signal_stack():
        compiled = core.compile_model(core.read_model(model), "CPU", settings)
    requests = [compiled.create_infer_request() for _ in range(parts)]

    def compute(slices: Tensor) -> Tensor:
        # Side by side: on a busy machine one of two threads computed a whole batch almost alone.
        chunks = slices.tensor_split(max(1, min(parts, len(slices) // FEWEST_TOGETHER)))
        started = list(zip(requests, chunks, strict=False))
        for request, chunk in started:
            request.start_async({0: chunk.contiguous().numpy()})
        for request, _ in started:
            request.wait()
        # Joining copies what lies in memory that the next batch overwrites.
        return torch.cat([torch.from_numpy(request.get_output_tensor().data) for request, _ in started])

    return compute


@dataclass(frozen=True)
class Runtime:
    """What another runtime takes: a package besides onnx, the largest difference of a probability from torch's, and how
    a network is opened from its ONNX form and a number of threads.
    """

    package: str
    agreement: float
    opened: Callable[[bytes, int], Scores]


RUNTIMES = {
    OPENVINO_BFLOAT16: Runtime("openvino", IN_BFLOAT16, partial(_open_in_openvino, precision="bf16")),
    OPENVINO: Runtime("openvino", IN_ANOTHER_ORDER, partial(_open_in_openvino, precision="f32")),
    ONNX_RUNTIME: Runtime("onnxruntime", IN_ANOTHER_ORDER, _open_in_onnxruntime),
}
FASTEST_FIRST = tuple(RUNTIMES)
"""As `benchmarks/runtimes.py` measures them; torch comes last, and needs nothing installed."""


def _as_onnx(network: nn.Module, slices: Tensor) -> bytes:
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
            dynamic_axes={"slices": {0: "batch"}, "scores": {0: "batch"}},
        )
        return file.read_bytes()
