"""How long scoring one case takes: everything in `workflows.scoring.score_case` against MONAI's plain metrics.

    [BRATS_EVALUATION_PAIRS=DIR] OMP_NUM_THREADS=1 python benchmarks/scoring.py [--repeats N] [--cases N]

DIR holds prediction/CASE.nii.gz and reference/CASE.nii.gz. Without it, generated cases of BraTS's shape are scored
against themselves moved by three voxels and sprinkled with false positives. Prints one table: medians of interleaved
runs in seconds of CPU on one thread, which other programs on the machine disturb least; files are already read.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.metrics import compute_dice, compute_hausdorff_distance
from results_page import processor

from transforms.labels import ENHANCING, ENHANCING_IN_FILES_TO_2022
from transforms.regions import labels_to_regions
from workflows.scoring.score_case import score_case

Pair = tuple[str, np.ndarray, np.ndarray, tuple[float, ...]]


def main() -> None:
    """Time both ways on real or generated cases, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cases", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folder = os.environ.get("BRATS_EVALUATION_PAIRS")
    pairs = list(real_pairs(Path(folder), arguments.cases) if folder else generated_pairs(arguments.cases))
    if not pairs:
        sys.exit(f"error: {folder}: no reference/*.nii.gz.")
    print_conditions("real pairs" if folder else "generated pairs", arguments.repeats)
    print("| case | ours: 3 regions, 3 classes, lesions (CPU s) | MONAI: Dice and HD95 of 3 regions (CPU s) |")
    print("| --- | ---: | ---: |")
    rows = [(name, *medians(arguments.repeats, case)) for name, *case in pairs]
    for name, ours, monai in rows:
        print(f"| {name} | {ours:.2f} | {monai:.2f} |")
    print(f"| **median** | **{middle(rows, 1):.2f}** | **{middle(rows, 2):.2f}** |")


def print_conditions(what: str, repeats: int) -> None:
    """The machine, the versions and the repeats, for the table's caption."""
    names = ("numpy", "scipy", "monai", "torch")
    print(
        f"{processor()}, 1 of {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; Python {platform.python_version()}"
    )
    print(", ".join(f"{name} {version(name)}" for name in names) + f"; {what}, {repeats} runs each, interleaved\n")


def medians(repeats: int, case: list[Any]) -> tuple[float, float]:
    """Seconds of either way, taken in turns so that both meet the same disturbances."""
    ways: tuple[Callable[..., object], ...] = (score_case, monai_scores)
    ways[0](*case)  # the table of surface areas is made once per process
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for way, taken in zip(ways, seconds, strict=True):
            started = time.process_time()
            way(*case)
            taken.append(time.process_time() - started)
    return statistics.median(seconds[0]), statistics.median(seconds[1])


def monai_scores(prediction: np.ndarray, reference: np.ndarray, spacing_mm: tuple[float, ...]) -> object:
    """What a MONAI user would call: no lesions, no rules for empty masks, whole volumes."""
    p, r = (labels_to_regions(torch.from_numpy(labels)[None])[None] for labels in (prediction, reference))
    dice = compute_dice(p, r, include_background=True, ignore_empty=False)
    distance = compute_hausdorff_distance(p, r, include_background=True, percentile=95, spacing=list(spacing_mm))
    return dice, distance


def middle(rows: list[tuple[str, float, float]], column: int) -> float:
    """Median of a column."""
    return statistics.median(float(row[column]) for row in rows)


def real_pairs(folder: Path, cases: int) -> Iterator[Pair]:
    """Name, prediction, reference and spacing of cases in BRATS_EVALUATION_PAIRS."""
    for file in sorted((folder / "reference").glob("*.nii.gz"))[:cases]:
        prediction, _ = read(folder / "prediction" / file.name)
        yield file.name.removesuffix(".nii.gz"), prediction, *read(file)


def generated_pairs(cases: int) -> Iterator[Pair]:
    """The same of generated cases, whose predictions are label maps with errors."""
    from workflows.phantom.phantom import generate_dataset

    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        for case in generate_dataset(Path(folder) / "set", cases=cases, workers=1):
            reference, spacing_mm = read(next(case.glob("*_seg.nii.gz")))
            prediction = np.roll(reference, 3, axis=0)
            prediction[rng.random(prediction.shape) < 2e-5] = ENHANCING
            yield case.name, prediction, reference, spacing_mm


def read(file: Path) -> tuple[np.ndarray, tuple[float, ...]]:
    """Class indices and spacing."""
    image: Any = nib.load(file)
    labels = np.asanyarray(image.dataobj).astype(np.uint8)
    labels[labels == ENHANCING_IN_FILES_TO_2022] = ENHANCING
    return labels, tuple(float(edge) for edge in image.header.get_zooms())


if __name__ == "__main__":
    main()
