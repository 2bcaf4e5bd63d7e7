"""What the benchmarks of speed share: ways measured in turns, the machine they ran on, one table and its section."""

from __future__ import annotations

import argparse
import gc
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from results_page import ROOT, paragraph, processor, replace_section

from workflows.machine.allocation import give_freed_memory_back, keep_freed_memory

PAGE = ROOT / "docs" / "benchmarks.md"
ON_ONE_GPU = " on one GPU"
PACKAGES = ("torch", "monai", "pytorch-ignite", "numpy", "nibabel")


@dataclass(frozen=True)
class Cost:
    """Of one run: seconds of wall clock, and seconds of CPU of all its threads, which a busy machine disturbs less."""

    wall_s: float
    cpu_s: float


def options(description: str | None, repeats: int) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    best = "cuda:0" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", default=best, type=torch.device, help=f"{best} if not given")
    parser.add_argument("--repeats", type=int, default=repeats, help=f"runs of each way, in turns; {repeats}")
    parser.add_argument("--page", type=Path, default=PAGE, help="file whose section the table replaces")
    parser.add_argument("--print-only", action="store_true", help="leave the page as it is")
    return parser


def cost_of(work: Callable[[], object], device: torch.device) -> Cost:
    """What one call costs, what it left on the device to do included."""
    gc.collect()
    wait_for(device)
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    wait_for(device)
    return Cost(time.perf_counter() - wall, time.process_time() - cpu)


def wait_for(device: torch.device) -> None:
    """Wait until a GPU has done what it was given; a CPU always has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def as_glibc_does() -> Iterator[None]:
    """Freed memory is given back, as where `keep_freed_memory` was never called; kept again afterwards."""
    give_freed_memory_back()
    try:
        yield
    finally:
        keep_freed_memory()


def in_turns(
    ways: Mapping[str, Callable[[], object]], repeats: int, device: torch.device, warm_up: bool = True
) -> dict[str, list[Cost]]:
    """Each way once, then each way again, and so on, so that all meet the same disturbances.

    Args:
        warm_up: call each way once before, without measuring it.
    """
    if warm_up:
        for work in ways.values():
            work()
    costs: dict[str, list[Cost]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, work in ways.items():
            costs[name].append(cost_of(work, device))
    return costs


def median(costs: Sequence[Cost]) -> Cost:
    """The median of each figure."""
    return Cost(statistics.median(c.wall_s for c in costs), statistics.median(c.cpu_s for c in costs))


def median_ratio(costs: Sequence[Cost], others: Sequence[Cost]) -> Cost:
    """How many times as much `costs` are as `others`: the median over the turns, each compared with its own."""
    pairs = list(zip(costs, others, strict=True))
    return median([Cost(a.wall_s / b.wall_s, a.cpu_s / max(b.cpu_s, 1e-9)) for a, b in pairs])


def conditions(device: torch.device, repeats: int) -> str:
    """Hardware, load, versions and date, for the top of a table."""
    card = f"{torch.cuda.get_device_name(device)}, " if device.type == "cuda" else "no GPU in use, "
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return (
        f"{card}{processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads in torch, {memory_gb:.0f} GB; "
        f"load at the end {os.getloadavg()[0]:.1f}; Python {platform.python_version()}, "
        + ", ".join(f"{name} {version(name)}" for name in PACKAGES)
        + f"; {time.strftime('%Y-%m-%d')}; medians of {repeats} runs in turns."
    )


def publish(arguments: argparse.Namespace, title: str, command: str, rows: str, *remarks: str) -> None:
    """Print the section and put it into the page: what was measured on a GPU into one of its own.

    Args:
        command: that writes it.
        rows: the table.
        remarks: paragraphs below it.
    """
    if arguments.device.type == "cuda" and not title.endswith(ON_ONE_GPU):
        title += ON_ONE_GPU
    top = f"{conditions(arguments.device, arguments.repeats)} Command: `{command}`."
    section = "\n\n".join([paragraph(top), rows, *map(paragraph, remarks)])
    print(f"## {title}\n\n{section}", flush=True)
    if not arguments.print_only:
        replace_section(title, section, arguments.page)
