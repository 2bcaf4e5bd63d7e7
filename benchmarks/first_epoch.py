"""How long it takes until a training can begin: filling the cache from .nii.gz and from .nii.

    python benchmarks/first_epoch.py [--cases 8] [--size small|full] [--size-px 128] [--repeats N]

In turns in this process, after one run of each that is not counted: the files are in the system's cache, as they are
in any second run. Writes the section *First epoch* of docs/benchmarks.md.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

from cache_cost import WAYS, fill, generated_cases, unpacked
from measuring import in_turns, median, median_ratio, options, publish, table


def main() -> None:
    parser = options(__doc__, repeats=3)
    parser.add_argument("--cases", type=int, default=6)
    parser.add_argument("--size", choices=("small", "full"), default="full", help="of the generated volumes")
    parser.add_argument("--size-px", type=int, default=128)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        packed = generated_cases(Path(folder) / "packed", arguments.cases, arguments.size)
        cases = {".nii.gz": packed, ".nii": unpacked(Path(folder) / "packed", Path(folder) / "plain")}
        work = {f"{end} {way}": partial(fill, way, cases[end], arguments.size_px) for end in cases for way in WAYS}
        costs = in_turns(work, arguments.repeats, arguments.device)
    rows = []
    for ending in cases:
        ours, plain = (costs[f"{ending} {way}"] for way in WAYS)
        ratio = median_ratio(ours, plain)
        for name, part in (("wall", "wall_s"), ("CPU", "cpu_s")):
            seconds = [f"{getattr(median(of), part) / arguments.cases:.2f}" for of in (ours, plain)]
            rows.append([f"{ending}: seconds of {name} per patient", *seconds, f"{getattr(ratio, part):.2f}"])
    rows.append(["from a preprocessed cache on disk", "there is none yet", "–", "–"])
    shape = {"small": "120×120×155", "full": "240×240×155"}[arguments.size]
    publish(
        arguments,
        "First epoch",
        "python benchmarks/first_epoch.py",
        table(["", "ours", "plain MONAI", "ours / plain"], rows),
        f"{arguments.cases} generated patients of {shape} voxels, read and brought to 75 slices of "
        f"{arguments.size_px}×{arguments.size_px} pixels; ours with two threads, the baseline with the one of "
        "CacheDataset's default.",
    )


if __name__ == "__main__":
    main()
