"""How long it takes before the first slice is computed, against the imports that cannot be avoided.

    python benchmarks/startup.py [--repeats N]

Each figure is that of a new process, in turns: `import torch, monai, ignite` alone, the same and an optimiser of torch,
`brats-unet predict` of one generated patient and `brats-unet train` of four until the network is called for the first
time, and a whole prediction. Writes the section *Start-up* of docs/benchmarks.md.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measuring import options, publish
from results_page import ROOT, generate_phantoms, table

IMPORTS, PREDICT, TRAIN, WHOLE = "import torch, monai, ignite", "predict", "train", "the whole prediction"
OPTIMISER = "and an optimiser of torch"
STAGES = {
    "imports": "torch, monai, ignite",
    "configured": "everything else imported, options and configuration read",
    "reading": "network, weights and the rest built, patients found",
    "first slice": "patients read and preprocessed until the network is called",
}
ALLOWED_RATIO, ALLOWED_SECONDS = 1.3, 4.0

Marks = dict[str, tuple[float, float]]
"""Seconds of wall clock and of CPU since the process was started, by what had been reached."""


def main() -> None:
    """Time each command in turns, and print a table."""
    parser = options(__doc__, repeats=3)
    parser.add_argument("--size", choices=("small", "full"), default="small", help="of the generated volumes")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        patient = sorted(generate_phantoms(work / "data", 4, arguments.size).glob("BraTS*"))[0]
        checkpoint = work / "model.pt"
        subprocess.run([sys.executable, "-c", RANDOM_WEIGHTS, str(checkpoint)], check=True, cwd=ROOT)
        predict = ["predict", str(patient), "--out", str(work / "out"), "--checkpoint", str(checkpoint), "--no-report"]
        predict += ["--runtime", "torch", "--overwrite"]  # whose first call is seen; others are in runtimes.py
        train = ["train", "--dataset-dir", str(work / "data"), "--out", str(work / "run"), "--max_epochs", "1"]
        turns = [
            {
                IMPORTS: marks_of(),
                OPTIMISER: marks_of("optimiser"),
                PREDICT: marks_of(*predict),
                TRAIN: marks_of(*train),
                WHOLE: marks_of(*predict, to_the_end=True),
            }
            for _ in range(arguments.repeats + 1)
        ][1:]  # the first reads everything from the disk
    shape = "120×120×155" if arguments.size == "small" else "240×240×155"
    publish(
        arguments,
        "Start-up",
        "python benchmarks/startup.py",
        rows_of(turns),
        f"Generated patients of {shape} voxels; every process imports torch, MONAI and Ignite first, and torch "
        "computes the slices. With the first optimiser of a process torch imports its compiler, whether it is used or "
        f"not: no training starts without that. The aim was {ALLOWED_RATIO} times the import line before the "
        f"first slice, and {ALLOWED_SECONDS:.0f} s more than it for a whole prediction.",
    )


RANDOM_WEIGHTS = """
import sys, torch
from networks.packed import PackedUNet
torch.save(PackedUNet(4).state_dict(), sys.argv[1])  # two modalities and their mirror images
"""


def marks_of(*command: str, to_the_end: bool = False) -> Marks:
    """Start a process, and read what it reached when; without a command it imports and ends."""
    program = [sys.executable, str(Path(__file__).with_name("startup_marks.py"))]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    started = time.time()
    ended = subprocess.run(
        [*program, json.dumps({"started": started, "command": command, "to_the_end": to_the_end})],
        env=environment,
        capture_output=True,
        text=True,
    )
    if ended.returncode or not ended.stdout.strip():
        sys.exit(f"error: {' '.join(command)}: status {ended.returncode}: {ended.stderr[-2000:]}")
    return {name: (wall, cpu) for name, (wall, cpu) in json.loads(ended.stdout.strip().splitlines()[-1]).items()}


def rows_of(turns: list[dict[str, Marks]]) -> str:
    """The table in Markdown."""

    def middle(command: str, mark: str, part: int) -> float:
        return statistics.median(turn[command][mark][part] for turn in turns)

    def row(name: str, command: str, mark: str, since: str | None = None) -> list[str]:
        seconds = [
            statistics.median(
                turn[command][mark][part] - (turn[command][since][part] if since else 0) for turn in turns
            )
            for part in (0, 1)
        ]
        ratios = [
            statistics.median(turn[command][mark][part] / turn[IMPORTS]["imports"][part] for turn in turns)
            for part in (0, 1)
        ]
        shown = [f"{ratio:.2f}" for ratio in ratios] if since is None else ["", ""]
        return [name, *(f"{value:.2f}" for value in seconds), *shown]

    rows = [row(f"`{IMPORTS}`", IMPORTS, "imports"), row(f"– {OPTIMISER}", OPTIMISER, "end")]
    for command in (PREDICT, TRAIN):
        rows.append(row(f"`{command}` until the first slice", command, "first slice"))
        before = None
        for mark, name in STAGES.items():
            if before:
                rows.append(row(f"– {name}", command, mark, since=before))
            before = mark
    rows.append(row(WHOLE, WHOLE, "end"))
    return table(["", "wall s", "CPU s", "wall: times the imports", "CPU: times the imports"], rows)


if __name__ == "__main__":
    main()
