"""Whether time and memory grow along straight lines with patients and with the slices' area.

    python benchmarks/growth.py [--patients 4 16 64] [--sizes-px 64 96 128 192]

Filling the cache of generated patients, each time in a process of its own, and the forward and backward pass of the
default network. Writes the section *Growth* of docs/benchmarks.md.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from cache_cost import CacheCost, Line, fill_alone, generated_cases, line_through, many
from measuring import in_turns, median, options, publish
from results_page import table
from training_step import NetworkAlone

from networks.packed import PackedUNet

STRAIGHT = 0.1
"""A line is called straight if no point is further from it than this share of the largest value."""


def main() -> None:
    """Measure every number of patients and every size, and print a table."""
    parser = options(__doc__, repeats=1)
    parser.add_argument("--patients", type=int, nargs="+", default=[4, 16, 64])
    parser.add_argument("--sizes-px", type=int, nargs="+", default=[64, 96, 128, 192], help="divisible by 16")
    parser.add_argument("--cases", type=int, default=4, help="generated patients, which stand for all others")
    parser.add_argument("--slices", type=int, default=16, help="in a batch of the network")
    arguments = parser.parse_args()
    sizes, patients = arguments.sizes_px, arguments.patients
    areas = [size**2 / 1000 for size in sizes]
    with tempfile.TemporaryDirectory() as folder:
        cases = generated_cases(Path(folder) / "data", arguments.cases)
        turns = range(arguments.repeats)
        by_number = [[fill_alone("ours", many(cases, number), 128) for number in patients] for _ in turns]
        by_size = [[fill_alone("ours", cases, size) for size in sizes] for _ in turns]
    network = PackedUNet().to(arguments.device)
    passes = {f"{size}": NetworkAlone(network, arguments.slices, size) for size in sizes}
    steps = in_turns(passes, arguments.repeats, arguments.device)
    slice_ms = [1e3 * median(steps[f"{size}"]).wall_s / arguments.slices for size in sizes]
    rows = [
        row("filling the cache, CPU s", "patient", patients, middle(by_number, lambda c: c.cpu_s)),
        row("filling the cache, wall s", "patient", patients, middle(by_number, lambda c: c.wall_s)),
        row("cached, MB", "patient", patients, middle(by_number, lambda c: c.cached_bytes / 1e6)),
        row("peak of the process, MB", "patient", patients, middle(by_number, lambda c: c.peak_mb)),
        row("cached per patient, MB", "1000 px", areas, middle(by_size, lambda c: c.cached_bytes / c.patients / 1e6)),
        row("filling the cache, CPU s per patient", "1000 px", areas, middle(by_size, lambda c: c.cpu_s / c.patients)),
        row("network, wall ms per slice", "1000 px", areas, slice_ms),
    ]
    publish(
        arguments,
        "Growth",
        "python benchmarks/growth.py",
        table(["", "against", "measured", "per unit", "at zero", "off the line by"], rows),
        f"Patients: {listed(patients)} (128×128 pixels). Slices of {listed(sizes)} pixels a side ({len(cases)} "
        "patients). Filling the cache reads whole files whatever the slices' size: that is its value at zero. The "
        f"verdict stands where a point is more than {STRAIGHT:.0%} of the largest value off the line.",
    )


def middle(turns: Sequence[Sequence[CacheCost]], figure: Callable[[CacheCost], float]) -> list[float]:
    """The median over the turns, for every point."""
    return [statistics.median(map(figure, point)) for point in zip(*turns, strict=True)]


def row(name: str, unit: str, x: Sequence[float], y: Sequence[float]) -> list[str]:
    """A figure's row in the table: its values, the line through them, and whether they lie on it."""
    line: Line = line_through(x, y)
    verdict = f"{line.off:.1%}{'' if line.off <= STRAIGHT else ' (not straight)'}"
    return [name, unit, listed([f"{value:.4g}" for value in y]), f"{line.slope:.3g}", f"{line.at_zero:.3g}", verdict]


def listed(values: Sequence[object]) -> str:
    """Values with commas between them."""
    return ", ".join(map(str, values))


if __name__ == "__main__":
    main()
