"""Whether it keeps working: the memory of a long prediction, and a long training that is killed again and again.

    python benchmarks/soak.py predict [--patients N] [--report] [--checkpoint FILE] [--work DIR]
    python benchmarks/soak.py resume [--minutes M | --epochs N] [--kill-every SECONDS] [--seed N] [--work DIR]

Both start the real command on generated (phantom) cases, each process on one thread, print a table in Markdown, and end
with status 1 where what they test does not hold. `--work` keeps the data, the runs and the output of every process.
`docs/faults.md` holds results.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from results_page import machine
from soak_predict import soak_predict
from soak_resume import soak_resume


def main() -> None:
    """Run the test that the command line names, and print what it found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="what", required=True)
    predict = commands.add_parser("predict")
    predict.add_argument("--patients", type=int, default=200)
    predict.add_argument("--report", action="store_true", help="write the pages too")
    predict.add_argument("--checkpoint", type=Path, help="weights; made by a short training if not given")
    resume = commands.add_parser("resume")
    resume.add_argument("--minutes", type=float, default=30, help="of the training that nothing interrupts, about")
    resume.add_argument("--epochs", type=int, help="instead of the number that a short training calibrates")
    resume.add_argument("--kill-every", type=float, default=90, help="seconds between two kills, on average")
    resume.add_argument("--seed", type=int, default=0, help="of the moments and the signals")
    for command in (predict, resume):
        command.add_argument("--work", type=Path, help="folder for all files; a temporary one if not given")
    arguments = parser.parse_args()
    with work_folder(arguments.work) as folder:
        if arguments.what == "predict":
            fault = soak_predict(folder, arguments.patients, arguments.report, arguments.checkpoint)
        else:
            fault = soak_resume(folder, arguments.minutes, arguments.epochs, arguments.kill_every, arguments.seed)
    print(f"\n{machine()}, load {os.getloadavg()[0]:.1f}")
    if fault:
        sys.exit(f"error: {fault}")


@contextmanager
def work_folder(named: Path | None) -> Iterator[Path]:
    """The folder of that name, or a temporary one."""
    if named:
        named.mkdir(parents=True, exist_ok=True)
        yield named
    else:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)


if __name__ == "__main__":
    main()
