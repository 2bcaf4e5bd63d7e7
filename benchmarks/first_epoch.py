"""How long it takes until a training can begin: filling memory from .nii.gz, from .nii, and from preprocessed cases.

    python benchmarks/first_epoch.py [--cases 8] [--size small|full] [--size-px 128] [--repeats N]

In turns in this process, after one run of each that is not counted: the files are in the system's cache, as they are
in any second run. Writes the section *First epoch* of docs/benchmarks.md.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path

from cache_cost import WAYS, fill, fill_by_folder, generated_cases, unpacked
from measuring import in_turns, median, median_ratio, options, publish
from results_page import table

WRITTEN, READ = ".nii.gz, keeping the preprocessed cases", "preprocessed cases"


def main() -> None:
    """Time each way, and print a table."""
    parser = options(__doc__, repeats=3)
    parser.add_argument("--cases", type=int, default=6)
    parser.add_argument("--size", choices=("small", "full"), default="full", help="of the generated volumes")
    parser.add_argument("--size-px", type=int, default=128)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        packed = generated_cases(Path(folder) / "packed", arguments.cases, arguments.size)
        cases = {".nii.gz": packed, ".nii": unpacked(Path(folder) / "packed", Path(folder) / "plain")}
        work: dict[str, Callable[[], object]] = {}
        for way in WAYS:
            filling = partial(fill_by_folder, way, packed, arguments.size_px)
            work |= {f"{end} {way}": partial(fill, way, cases[end], arguments.size_px) for end in cases}
            work[f"{WRITTEN} {way}"] = partial(into_empty, filling, Path(folder) / way)
            work[f"{READ} {way}"] = partial(filling, Path(folder) / way / "filled")  # by the run that is not counted
        costs = in_turns(work, arguments.repeats, arguments.device)
    rows = []
    for source in (*cases, WRITTEN, READ):
        ours, plain = (costs[f"{source} {way}"] for way in WAYS)
        ratio = median_ratio(ours, plain)
        for name, part in (("wall", "wall_s"), ("CPU", "cpu_s")):
            seconds = [f"{getattr(median(of), part) / arguments.cases:.3f}" for of in (ours, plain)]
            rows.append([f"{source}: seconds of {name} per patient", *seconds, f"{getattr(ratio, part):.2f}"])
    shape = {"small": "120×120×155", "full": "240×240×155"}[arguments.size]
    publish(
        arguments,
        "First epoch",
        "python benchmarks/first_epoch.py",
        table(["", "ours", "plain MONAI", "ours / plain"], rows),
        f"{arguments.cases} generated patients of {shape} voxels, read and brought to 75 slices of "
        f"{arguments.size_px}×{arguments.size_px} pixels; ours with two threads, the baseline with the one of "
        "CacheDataset's default. Preprocessed cases: ours in `cache_dir`, the baseline's in a PersistentDataset, "
        "written to an empty folder and read from a full one.",
    )


def into_empty(filling: Callable[[Path], object], folder: Path) -> None:
    """Call `filling` with a folder that is empty and is removed again."""
    filling(next(new for number in count() if not (new := folder / str(number)).exists()))


if __name__ == "__main__":
    main()
