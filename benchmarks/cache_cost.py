"""What it costs to fill the cache of training slices: ours, or plain MONAI's, in a process of its own."""

from __future__ import annotations

import gzip
import multiprocessing
import resource
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from results_page import generate_phantoms

from transforms.inputs import AxialWindow
from transforms.labels import STUDY_MODALITIES
from transforms.pipelines import training_preprocessing
from transforms.windows import STUDY_WINDOW
from workflows.data.find_cases import find_cases
from workflows.data.label_conventions import LABEL_CONVENTIONS
from workflows.data.reader import CaseReader
from workflows.training_data.slice_dataset import SliceDataset

WAYS = ("ours", "plain MONAI")
IMPORTED_BEFORE = ["torch", "monai.data", "monai.transforms", "monai.engines", "ignite.engine"]
"""By the process from which the measured ones are forked; their memory is that of any training."""
LABEL_CONVENTION = "brats-to-2022"


@dataclass(frozen=True)
class CacheCost:
    """Of one process that cached so many patients and did nothing else.

    Attributes:
        before_mb: resident memory with everything imported.
        peak_mb: the most that was resident at any time.
    """

    patients: int
    wall_s: float
    cpu_s: float
    cached_bytes: int
    before_mb: float
    peak_mb: float


def fill_alone(way: str, cases: Sequence[dict[str, Any]], size_px: int) -> CacheCost:
    """`fill` in a new process, so that its peak is its own."""
    context = multiprocessing.get_context("forkserver" if sys.platform != "win32" else "spawn")
    if sys.platform != "win32":
        context.set_forkserver_preload(IMPORTED_BEFORE)
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(fill, way, list(cases), size_px).result()


def fill(way: str, cases: Sequence[dict[str, Any]], size_px: int) -> CacheCost:
    """Cache the cases' slices of the study's window.

    Args:
        way: one of `WAYS`.
    """
    build, size_of = FILLING[way]
    before = psutil.Process().memory_info().rss / 1e6
    wall, cpu = time.perf_counter(), time.process_time()
    cached = build(cases, size_px)
    wall_s, cpu_s = time.perf_counter() - wall, time.process_time() - cpu
    return CacheCost(len(cases), wall_s, cpu_s, size_of(cached), before, peak_mb())


def peak_mb() -> float:
    """The most memory that this process has held so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)  # bytes there, kB elsewhere


def fill_by_folder(way: str, cases: Sequence[dict[str, Any]], size_px: int, folder: Path) -> None:
    """Have the same patients in memory from a cache on disk, which is filled where it is empty.

    Args:
        way: one of `WAYS`.
    """
    if way == "ours":
        our_cache(cases, size_px, folder)
    else:
        from plain_monai import plain_from_folder

        plain_from_folder(cases, size_px, STUDY_WINDOW, folder)


def our_cache(cases: Sequence[dict[str, Any]], size_px: int, folder: Path | None = None) -> SliceDataset:
    """A data set of this project with all cases in memory."""
    values = dict(LABEL_CONVENTIONS[LABEL_CONVENTION].classes)
    chain = training_preprocessing(AxialWindow(size_px=size_px), values, reader=CaseReader())
    return SliceDataset(cases, chain, cache_dir=folder)


def our_bytes(dataset: SliceDataset) -> int:
    """What the cases in our cache take."""
    cached = (dataset.case(index) for index in range(len(dataset.names)))
    return sum(case[key].nbytes for case in cached for key in ("image", "label"))


def plain_cache(cases: Sequence[dict[str, Any]], size_px: int) -> Any:
    """A data set of plain MONAI with all cases in memory."""
    from plain_monai import plain_dataset

    return plain_dataset(cases, size_px, STUDY_WINDOW)


def plain_bytes(dataset: Any) -> int:
    """What the cases in MONAI's cache take."""
    from plain_monai import cached_bytes

    return cached_bytes(dataset)


FILLING: dict[str, tuple[Callable[..., Any], Callable[[Any], int]]] = {
    "ours": (our_cache, our_bytes),
    "plain MONAI": (plain_cache, plain_bytes),
}


def generated_cases(folder: Path, number: int, size: str = "small") -> list[dict[str, Any]]:
    """Phantoms as training takes them."""
    return cases_in(generate_phantoms(folder, number, size))


def unpacked(folder: Path, copy: Path) -> list[dict[str, Any]]:
    """The same patients as .nii instead of .nii.gz."""
    for file in sorted(folder.rglob("*.nii.gz")):
        plain = copy / file.relative_to(folder).with_suffix("")
        plain.parent.mkdir(parents=True, exist_ok=True)
        with gzip.open(file) as content, plain.open("wb") as target:
            shutil.copyfileobj(content, target)
    return cases_in(copy)


def cases_in(folder: Path) -> list[dict[str, Any]]:
    """The cases in a folder, as training takes them."""
    return [
        {
            "case": case.id,
            "image": [str(case.source(modality)) for modality in STUDY_MODALITIES],
            "label": str(case.segmentation),
        }
        for case in find_cases(folder).cases
    ]


def many(cases: Sequence[dict[str, Any]], number: int) -> list[dict[str, Any]]:
    """So many patients, the same few files read again and again and cached each time."""
    return [{**cases[index % len(cases)], "case": f"P{index + 1:03d}"} for index in range(number)]


@dataclass(frozen=True)
class Line:
    """The least-squares line through measured points.

    Attributes:
        off: the largest distance of a point from it, as a share of the largest value.
    """

    slope: float
    at_zero: float
    off: float


def line_through(x: Sequence[float], y: Sequence[float]) -> Line:
    """The line of least squares, and how far off it the points are."""
    slope, at_zero = np.polyfit(x, y, 1)
    off = np.abs(np.polyval([slope, at_zero], x) - np.asarray(y)).max() / max(np.abs(y).max(), 1e-12)
    return Line(float(slope), float(at_zero), float(off))
