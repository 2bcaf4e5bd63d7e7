"""Run the experiments of overlays/, and tabulate what was measured.

    BRATS_REAL_DATA=DIR python -m experiments run NAME … [--folds 0 1 2 3] [--runs FOLDER]
        [--jobs N] [--unscored] [--results FOLDER]
    BRATS_REAL_DATA=DIR python -m experiments rescore [--runs FOLDER]
    BRATS_REAL_DATA=DIR python -m experiments split FOLD FILE
    python -m experiments table
    python -m experiments list

DIR holds the cases that folds.json names. An experiment is experiments/overlays/NAME.json. What is finished is
skipped: a fold whose figures stand in experiments/results/NAME.json, and the training of a fold whose weights are in
FOLDER. Where there is a GPU it is used, by N runs at a time; such figures belong into experiments/results/gpu
(`--results`).
`rescore` scores the label maps in FOLDER again, or for the first time where they came from a machine on which time is
short (`--unscored`). `split` writes the datalist of a fold, for other commands' --split.
`table` writes docs/experiments.md from all figures; `run` and `rescore` do so at their end.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from experiments.beside_nnunet import write_beside_nnunet
from experiments.final import write_final
from experiments.folds import fold_split, read_folds, real_data
from experiments.overlay import load_experiment, names
from experiments.page import write_page
from experiments.result_files import ON_GPU, RESULTS, read_results
from experiments.runs import ROOT, rescore, run_folds
from workflows.files.json_files import write_json
from workflows.messages.errors import BratsError


def main() -> None:
    """Do what the command line says."""
    arguments = options().parse_args()
    if arguments.task == "list":
        print("\n".join(f"{name}: {load_experiment(name).change}" for name in names()))
        return
    if arguments.task == "split":
        write_json(fold_split(arguments.fold, real_data()), arguments.file)
        return
    if arguments.task == "run":
        experiments = [load_experiment(name) for name in arguments.names]
        places = (real_data(), arguments.runs.resolve(), arguments.results)
        run_folds(experiments, arguments.folds, *places, arguments.jobs, not arguments.unscored)
        if arguments.unscored:
            return
    if arguments.task == "rescore":
        rescore(real_data(), arguments.runs.resolve(), arguments.results)
    write_tables()


def options() -> argparse.ArgumentParser:
    """The tasks of the command line and their options."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    tasks = parser.add_subparsers(dest="task", required=True)
    run = tasks.add_parser("run", help="train, predict and score what is not done yet")
    run.add_argument("names", nargs="+", metavar="NAME")
    run.add_argument("--folds", nargs="+", type=int, default=[0, 1, 2, 3])
    run.add_argument("--unscored", action="store_true", help="leave the scores to rescore")
    run.add_argument("--jobs", type=int, default=1, metavar="N", help="folds at a time; 1")
    again = tasks.add_parser("rescore", help="score the label maps of earlier runs again")
    for task in (run, again):
        task.add_argument("--runs", type=Path, default=ROOT / "runs" / "experiments", help="where weights go")
        task.add_argument("--results", type=Path, default=RESULTS, help="where figures go")
    split = tasks.add_parser("split", help="write the datalist of a fold")
    split.add_argument("fold", type=int, choices=range(4))
    split.add_argument("file", type=Path)
    tasks.add_parser("table", help="write docs/experiments.md")
    tasks.add_parser("list", help="name the experiments")
    return parser


def write_tables() -> None:
    """docs/experiments.md, and the sections *Final* and *Beside nnU-Net* of docs/results.md."""
    results, folds = read_results(RESULTS), len(read_folds())
    write_page()
    write_final(results, folds)
    write_beside_nnunet(read_results(ON_GPU), results, folds)


if __name__ == "__main__":
    try:
        main()
    except BratsError as error:
        sys.exit(f"error: {error}")
