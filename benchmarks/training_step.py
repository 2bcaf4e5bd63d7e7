"""How fast a training step is, and how long the network waits for its data: ours against plain MONAI.

    python benchmarks/training_step.py [--device cuda:0] [--cases N] [--size-px N] [--repeats N]

The trainer of train.json, with all that it does in every step, and the one in plain_monai.py run epochs in turns on
the same patients, network, loss, optimiser and augmentation, ours in bfloat16 where the processor has instructions for
it, which MONAI's trainers use on GPUs alone; beside them the network's forward and backward pass alone and a matrix
product, which says what this machine can do. Writes the section *Training step* of docs/benchmarks.md.
"""

from __future__ import annotations

import copy
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from measuring import as_glibc_does, cost_of, options, publish, wait_for
from monai.bundle import ConfigWorkflow
from plain_monai import plain_dataset, plain_trainer
from results_page import generate_phantoms, table
from torch import nn
from torch.autograd import DeviceType
from torch.autograd.profiler_util import EventList
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from workflows.machine.allocation import keep_freed_memory
from workflows.settings.bundle_files import config_files

EVERY_STEP = (
    *("LrScheduleHandler", "TensorBoardStatsHandler"),
    *("workflows.training.handlers.NoScalingOfBfloat16", "workflows.training.handlers.ClipGradients"),
)
"""The handlers of train.json that work in every step; the others do so once in an epoch."""
MATRIX_EDGE = {"cpu": 1024, "cuda": 8192}
"""Of the square matrices whose product is timed."""

ON_GPU = (
    "Ours replays the passes of the network and the loss as CUDA graphs (`cuda_graphs`); the passes alone and those of "
    "the baseline, whose steps are larger, are started one by one. Where slices per second and per second of CPU are "
    "the same, one core is busy throughout with starting operations, and the rate is its rate."
)

SELF_TIME = {"cpu": "self_cpu_time_total", "cuda": "self_device_time_total"}
"""The profiler's name for the time of an operator on the device, without that of what it calls."""


class StepTimes:
    """Seconds of wall clock and of CPU in which a trainer waited for a batch, and those of its work on it."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.turns: list[dict[str, float]] = []

    def attach(self, engine: Engine) -> None:
        """To the trainer."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.GET_BATCH_STARTED, self._ask)
        engine.add_event_handler(Events.GET_BATCH_COMPLETED, self._got)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._done)

    def _start(self) -> None:
        self.turns.append({"waited": 0.0, "worked": 0.0, "cpu": 0.0, "slices": 0})

    def _ask(self) -> None:
        self.asked, self.asked_cpu = time.perf_counter(), time.process_time()

    def _got(self) -> None:
        self.got = time.perf_counter()

    def _done(self, engine: Engine) -> None:
        wait_for(self.device)
        turn = self.turns[-1]
        turn["waited"] += self.got - self.asked
        turn["worked"] += time.perf_counter() - self.got
        turn["cpu"] += time.process_time() - self.asked_cpu
        turn["slices"] += len(engine.state.output["pred"])  # type: ignore[index, call-overload]

    def median(self, figure: Callable[[dict[str, float]], float]) -> float:
        """Over the turns, the first left out since it warms up."""
        return statistics.median(map(figure, self.turns[1:]))


def main() -> None:
    """Measure, and write the section."""
    parser = options(__doc__, repeats=5)
    parser.add_argument("--cases", type=int, default=8, help="generated patients, of which some 5 are trained on")
    parser.add_argument("--size-px", type=int, default=128)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        generate_phantoms(work / "data", arguments.cases)
        publish(arguments, "Training step", "python benchmarks/training_step.py", *measure(arguments, work))


def measure(arguments: Any, work: Path) -> tuple[str, ...]:
    """The table, and what to say of it."""
    keep_freed_memory()  # as the command does
    device = arguments.device
    workflow = our_workflow(work, arguments.size_px, device)
    ours = workflow.parser.get_parsed_content("train#trainer")
    ema = workflow.parser.get_parsed_content("ema")
    ema.attach(ours)
    network = copy.deepcopy(workflow.parser.get_parsed_content("network_def"))
    cases, window = (
        workflow.parser.get_parsed_content("datalist")["training"],
        workflow.parser.get_parsed_content("input").slice_range,
    )
    slices_per_step = workflow.parser.get_parsed_content("slices_per_step")
    dataset = plain_dataset(cases, arguments.size_px, window, augment=True)
    plain, plain_kept = (plain_trainer(dataset, copy.deepcopy(network), device) for _ in range(2))

    times = {"ours": StepTimes(device), "plain": StepTimes(device), "plain, kept": StepTimes(device)}
    for trainer, of_steps in zip((ours, plain, plain_kept), times.values(), strict=True):
        of_steps.attach(trainer)
    dtype = torch.bfloat16 if workflow.parser.get_parsed_content("amp") else torch.float32
    alone = NetworkAlone(network.to(device), slices_per_step, arguments.size_px, dtype)
    last = NetworkAlone(copy.deepcopy(network), slices_per_step, arguments.size_px, dtype, torch.channels_last)
    edge = MATRIX_EDGE[device.type]
    of_plain = torch.bfloat16 if device.type == "cuda" else torch.float32
    matrices = {each: torch.randn(edge, edge, device=device, dtype=each) for each in (dtype, of_plain)}
    product_s: dict[torch.dtype, list[float]] = {each: [] for each in matrices}
    alone_s, last_s = [], []
    for _ in range(arguments.repeats + 1):
        ours.run()
        with as_glibc_does():
            plain.run()
        plain_kept.run()
        alone_s.append(cost_of(alone, device).wall_s)
        last_s.append(cost_of(last, device).wall_s)
        for each, matrix in matrices.items():
            product_s[each].append(cost_of(partial(torch.matmul, matrix, matrix), device).wall_s)
    rates = {each: 2 * edge**3 / statistics.median(seconds[1:]) for each, seconds in product_s.items()}
    product_rate = rates[dtype]
    alone_rate = alone.flops() / statistics.median(alone_s[1:])
    channels_last = statistics.median(b / a for a, b in zip(alone_s[1:], last_s[1:], strict=True))
    convolutions = convolution_share(alone)
    rows = rows_of(times, alone.flops() / slices_per_step, (rates[dtype], rates[of_plain], rates[of_plain]))
    remarks = (
        f"{len(cases)} generated patients, slices of {arguments.size_px}×{arguments.size_px} pixels, network "
        f"{type(network).__name__} of {sum(p.numel() for p in network.parameters()) / 1e6:.2f} M parameters; "
        f"{slices_per_step} slices per step, the baseline {window[1] - window[0]} of one patient. Operations are "
        "counted by torch's FlopCounterMode.",
        f"A matrix product of {edge}×{edge} reaches {in_words(rates)} here; ours computes in {name_of(dtype)}, plain "
        f"in {name_of(of_plain)}. In {name_of(dtype)} the network's forward and backward pass alone, without loss, "
        f"optimiser and data, reaches {alone_rate / 1e9:.1f} GFLOP/s, {alone_rate / product_rate:.0%} of the matrix "
        f"product's. By torch's profiler {convolutions:.0%} of that time goes into convolutions, which do all counted "
        f"operations: they reach {alone_rate / convolutions / product_rate:.0%} of its rate. With weights "
        f"and slices stored channels last the passes take {channels_last:.2f} times as long.",
        *([ON_GPU] if device.type == "cuda" else []),
    )
    return rows, *remarks


def our_workflow(work: Path, size_px: int, device: torch.device) -> ConfigWorkflow:
    """train.json on axial slices, which the baseline reads too, for one epoch, without the handlers that do not work in
    every step, validation among them.
    """
    files = config_files("train", ["axial"])
    handlers = json.loads(Path(files[0]).read_text())["train"]["handlers"]
    kept = [handler for handler in handlers if handler["_target_"] in EVERY_STEP]
    (work / "run").mkdir()
    settings = {"dataset_dir": str(work / "data"), "run_dir": str(work / "run"), "input#size_px": size_px}
    settings |= {"device": str(device), "max_epochs": 1, "lr_scheduler#total_steps": 1_000_000}
    workflow = ConfigWorkflow(files, workflow_type="train", **settings, **{"train#handlers": kept})
    workflow.initialize()
    return workflow


class NetworkAlone:
    """Forward and backward pass on slices of noise, in float32 or, as far as autocast does so, in bfloat16."""

    def __init__(
        self,
        network: nn.Module,
        slices: int,
        size_px: int,
        dtype: torch.dtype = torch.float32,
        layout: torch.memory_format = torch.contiguous_format,
    ) -> None:
        self.network = network.train().to(memory_format=layout)
        device = next(network.parameters()).device
        self.slices = torch.randn(slices, 2, size_px, size_px, device=device).to(memory_format=layout)
        self.autocast = torch.autocast(device.type, torch.bfloat16, enabled=dtype is torch.bfloat16)

    def __call__(self) -> None:
        """One training step on random slices."""
        self.network.zero_grad()
        with self.autocast:
            scores = self.network(self.slices)
        scores.float().sum().backward()

    def flops(self) -> int:
        """Floating-point operations of one step."""
        with FlopCounterMode(display=False) as counter:
            self()
        return int(counter.get_total_flops())


def convolution_share(alone: NetworkAlone) -> float:
    """Of the time that the operators of a pass take, theirs without what they call, the share of convolutions."""
    device = alone.slices.device
    taken = operator_times(profiled(lambda: [alone() for _ in range(3)], device), device)
    return sum(time for name, time in taken.items() if "convolution" in name) / sum(taken.values())


def profiled(work: Callable[[], object], device: torch.device) -> EventList:
    """What torch's profiler says of one call."""
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    with profile(activities=activities) as profiler:
        work()
        wait_for(device)
    return profiler.key_averages()


def operator_times(averages: EventList, device: torch.device) -> dict[str, float]:
    """Microseconds on the device by operator, without those of what it calls; a GPU's kernels, which stand beside the
    operators once more, are left out.
    """
    kind = SELF_TIME[device.type]
    return {event.key: getattr(event, kind) for event in averages if event.device_type == DeviceType.CPU}


def name_of(dtype: torch.dtype) -> str:
    """As people write it: float32."""
    return str(dtype).removeprefix("torch.")


def in_words(rates: dict[torch.dtype, float]) -> str:
    """The rates of the matrix product by type."""
    return " and ".join(f"{rate / 1e9:.1f} GFLOP/s in {name_of(dtype)}" for dtype, rate in rates.items())


def rows_of(times: dict[str, StepTimes], flops_per_slice: float, product_rates: Sequence[float]) -> str:
    """
    Args:
        product_rates: of the matrix product in the type that each of the ways computes in.
    """

    def row(
        name: str, figure: Callable[[dict[str, float]], float], form: str, units: Sequence[float] = (1, 1, 1)
    ) -> list[str]:
        ours, plain, kept = (times[way].median(figure) / unit for way, unit in zip(times, units, strict=True))
        pairs = zip(times["ours"].turns[1:], times["plain"].turns[1:], strict=True)
        ratio = statistics.median(figure(a) / units[0] / max(figure(b) / units[1], 1e-9) for a, b in pairs)
        return [name, form.format(ours), form.format(plain), f"{ratio:.2f}", form.format(kept)]

    def per_second(turn: dict[str, float]) -> float:
        return turn["slices"] / (turn["waited"] + turn["worked"])

    def waiting(turn: dict[str, float]) -> float:
        return turn["waited"] / (turn["waited"] + turn["worked"])

    def flop_rate(turn: dict[str, float]) -> float:
        return flops_per_slice * turn["slices"] / turn["worked"]

    return table(
        ["", "ours", "plain MONAI", "ours / plain", "plain, keeping freed memory as ours does"],
        [
            row("slices per second", per_second, "{:.1f}"),
            row("slices per second of CPU", lambda t: t["slices"] / max(t["cpu"], 1e-9), "{:.1f}"),
            row("share of a step spent waiting for data", waiting, "{:.1%}"),
            row("GFLOP/s while not waiting", lambda t: flop_rate(t) / 1e9, "{:.1f}"),
            row("the same, of the matrix product's in the same type", flop_rate, "{:.0%}", product_rates),
        ],
    )


if __name__ == "__main__":
    main()
