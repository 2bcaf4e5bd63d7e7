"""How much memory a training's cache takes: bytes per patient, peak of the process, and what 369 patients will take.

    python benchmarks/memory.py [--patients 4 14 64] [--size-px 128]

Each figure is that of a process of its own that fills the cache from generated patients and ends. Writes the section
*Memory* of docs/benchmarks.md.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from cache_cost import WAYS, CacheCost, fill_alone, generated_cases, line_through, many
from measuring import options, publish
from results_page import table

BRATS_2020_CASES = 369
ALLOWED_MB_PER_PATIENT, ALLOWED_GB = 6.2, 2.6


def main() -> None:
    """Measure every number of patients, and print a table."""
    parser = options(__doc__, repeats=1)
    parser.add_argument("--patients", type=int, nargs="+", default=[4, 14, 64])
    parser.add_argument("--cases", type=int, default=4, help="generated patients, which stand for all others")
    parser.add_argument("--size-px", type=int, default=128)
    arguments = parser.parse_args()
    costs: dict[tuple[str, int], list[CacheCost]] = {}
    with tempfile.TemporaryDirectory() as folder:
        cases = generated_cases(Path(folder) / "data", arguments.cases)
        for _ in range(arguments.repeats):
            for number in arguments.patients:
                for way in WAYS:
                    measured = fill_alone(way, many(cases, number), arguments.size_px)
                    costs.setdefault((way, number), []).append(measured)
    publish(
        arguments,
        "Memory",
        "python benchmarks/memory.py",
        rows_of(costs, arguments.patients),
        *remarks(arguments.cases, arguments.size_px),
    )


def rows_of(costs: Mapping[tuple[str, int], Sequence[CacheCost]], patients: Sequence[int]) -> str:
    """The table in Markdown."""

    def figure(way: str, number: int, name: str) -> float:
        return statistics.median(getattr(cost, name) for cost in costs[way, number])

    def row(name: str, values: Mapping[str, float], form: str) -> list[str]:
        ours, plain = (values[way] for way in WAYS)
        return [name, form.format(ours), form.format(plain), f"{ours / plain:.2f}"]

    most = max(patients)
    per_patient = {way: figure(way, most, "cached_bytes") / most for way in WAYS}
    rows = [row("cached per patient, MB", {way: value / 1e6 for way, value in per_patient.items()}, "{:.2f}")]
    rows += [row(f"peak of the process, {number} patients, MB", peaks(costs, number), "{:.0f}") for number in patients]
    if len(patients) > 1:
        lines = {way: line_through(patients, [peaks(costs, n)[way] for n in patients]) for way in WAYS}
        rows.append(row("growth of the peak per patient, MB", {way: lines[way].slope for way in WAYS}, "{:.2f}"))
        rows.append(["largest distance from that line", *(f"{lines[way].off:.1%}" for way in WAYS), ""])
    everyone = {way: value * BRATS_2020_CASES / 1e9 for way, value in per_patient.items()}
    return table(
        ["", "ours", "plain MONAI", "ours / plain"],
        [*rows, row(f"cached for {BRATS_2020_CASES} patients, GB (predicted)", everyone, "{:.2f}")],
    )


def peaks(costs: Mapping[tuple[str, int], Sequence[CacheCost]], number: int) -> dict[str, float]:
    """Median peak of the process in MB, by the way of caching."""
    return {way: statistics.median(cost.peak_mb for cost in costs[way, number]) for way in WAYS}


def remarks(cases: int, size_px: int) -> tuple[str, ...]:
    """What a reader has to know about the measurement."""
    return (
        f"{cases} generated patients of 120×120×155 voxels stand for all; what is cached depends on "
        f"the slices' size alone: 75 of {size_px}×{size_px} pixels and two "
        "modalities, in ours as float16 with a label map of one byte, in the baseline as float32 with one-hot labels. "
        f"The aim was at most {ALLOWED_MB_PER_PATIENT} MB per patient and {ALLOWED_GB} GB in all.",
    )


if __name__ == "__main__":
    main()
