"""What computes the network fastest on the CPU: torch, ONNX Runtime or OpenVINO, and what each takes to start.

    python benchmarks/runtimes.py [--checkpoint RUN/model.pt] [--slices N] [--size-px N] [--repeats N]

The default network (`networks.packed.PackedUNet`) on one patient's slices in batches of 16, in turns. Runtimes that are
not installed are left out. Writes the section *Runtimes* of docs/benchmarks.md.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from measuring import Cost, cost_of, in_turns, median, options, publish
from results_page import table

from networks.packed import PackedUNet
from workflows.prediction.runtimes import FASTEST_FIRST, TORCH, OnnxNetwork, Scores, described, obstacle_to
from workflows.settings.weights import read_weights

SLICES_PER_BATCH = 16


def main() -> None:
    """Time each runtime in turns, and print a table."""
    parser = options(__doc__, repeats=5)
    parser.add_argument("--checkpoint", type=Path, help="weights of the default network; random ones if not given")
    parser.add_argument("--slices", type=int, default=155)
    parser.add_argument("--size-px", type=int, default=128)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    channels = 4  # two modalities and their mirror images
    network = PackedUNet(channels).eval()
    slices = torch.randn(arguments.slices, channels, arguments.size_px, arguments.size_px)
    if arguments.checkpoint:
        network.load_state_dict(read_weights(arguments.checkpoint))
    cpu = torch.device("cpu")
    scores: dict[str, Scores] = {TORCH: network}
    starts, differing = {TORCH: Cost(0, 0)}, {TORCH: 0}
    for runtime in FASTEST_FIRST:
        if not obstacle_to(runtime):
            starts[runtime] = cost_of(partial(open_network, scores, network, slices, runtime), cpu)
            difference = passed(scores[runtime], slices).argmax(1) != passed(network, slices).argmax(1)
            differing[runtime] = int(difference.sum())
    costs = in_turns({name: lambda of=of: passed(of, slices) for name, of in scores.items()}, arguments.repeats, cpu)
    rows = []
    for name, start in starts.items():
        middle = median(costs[name])
        seconds = (start.wall_s, start.cpu_s, middle.wall_s, middle.cpu_s)
        rows.append([described(name), *(f"{value:.2f}" for value in seconds), str(differing[name])])
    publish(
        arguments,
        "Runtimes",
        "python benchmarks/runtimes.py",
        table(
            ["", "start, wall s", "start, CPU s", "patient, wall s", "patient, CPU s", "pixels of another class"], rows
        ),
        f"{arguments.slices} slices of {arguments.size_px}×{arguments.size_px} pixels of noise in batches of "
        f"{SLICES_PER_BATCH}. The start is once for all patients: importing the runtime, exporting the network, "
        "opening it and comparing its probabilities with those of torch.",
    )


def open_network(scores: dict[str, Scores], network: torch.nn.Module, slices: torch.Tensor, runtime: str) -> None:
    """Make the network of a runtime ready, and keep it in `scores`."""
    scores[runtime] = OnnxNetwork(network, slices, runtime)


@torch.inference_mode()
def passed(scores: Scores, slices: torch.Tensor) -> torch.Tensor:
    """The scores of all slices, computed in batches."""
    return torch.cat([scores(part) for part in slices.split(SLICES_PER_BATCH)])


if __name__ == "__main__":
    main()
