"""The full report on the real test cases, for docs/results.md's *Scores*: the post-processing is chosen on validation.

    python -m experiments.real_scores RUN

RUN is the folder that `python -m experiments.baseline` trained into. Takes about three minutes on two cores. It is
an experiment, since its answer is a score.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.results_page import brats_unet, machine, paragraph, replace_section


def main() -> None:
    """Tune a run, evaluate it on its test cases, and write the section of the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    run = parser.parse_args().run.resolve()
    brats_unet("tune", "--checkpoint", str(run / "model.pt"))
    brats_unet("evaluate", "--checkpoint", str(run / "model.pt"), "--out", str(run / "scores"))
    about = (
        "*Real* cases: the network and the 4 test cases of *Baseline*; the post-processing was chosen by "
        f"`brats-unet tune` on its 2 validation cases. ({machine()}.) Command: "
        "`python -m experiments.real_scores RUN`, which shows what `brats-unet evaluate` writes into `scores.md`:"
    )
    replace_section(
        "Scores", "\n".join([paragraph(about), "", as_part_of_a_page((run / "scores" / "scores.md").read_text())])
    )


def as_part_of_a_page(scores: str) -> str:
    """`scores.md` without its own title, its pictures and the names of folders; its headings one level lower."""
    lines = [
        line.replace("## ", "### ", 1) if line.startswith("## ") else line
        for line in scores.splitlines()
        if not line.startswith(("# ", "![", "Checkpoint:", "Dataset dir:"))
    ]
    return "\n".join(lines).strip()


if __name__ == "__main__":
    main()
