"""The `brats-unet` command: parses, calls, prints; nothing else. Heavy imports happen inside the subcommands."""

from __future__ import annotations

import sys
import warnings
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from workflows.errors import BratsError, root_cause
from workflows.stopping import exit_on_sigterm

HYPHENS_AND_UNDERSCORES = {"token_normalize_func": lambda name: name.replace("_", "-")}
WITH_OVERRIDES = {**HYPHENS_AND_UNDERSCORES, "allow_extra_args": True, "ignore_unknown_options": True}
OVERRIDES = "Every setting of the configuration can be overridden by name after the options, e.g. --max_epochs 6."

app = typer.Typer(
    help="Brain tumour segmentation on BraTS MRI with a 2D U-Net. Research use only, not a medical device.",
    no_args_is_help=True,
    add_completion=False,
    context_settings=HYPHENS_AND_UNDERSCORES,
    pretty_exceptions_enable=False,
)

Folder = Annotated[Path, typer.Argument(help="Data folder; cases are found wherever they are below it.")]
Modalities = Annotated[str, typer.Option(help="Modalities that every case must have, separated by commas.")]
Variants = Annotated[
    list[str] | None, typer.Option("--config", help="Overlay to merge, e.g. seed, basic_unet; may be repeated.")
]
DEFAULT_MODALITIES = "flair,t1ce"


class Size(StrEnum):
    """Of a generated volume: 240×240×155 at 1 mm, or 120×120×155 at 2×2×1 mm."""

    full = "full"
    small = "small"


@app.command(context_settings=HYPHENS_AND_UNDERSCORES)
def phantom(
    out: Annotated[Path, typer.Argument(help="Folder to generate into.")],
    cases: Annotated[int, typer.Option(help="Patients to generate.")] = 12,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 0,
    size: Annotated[Size, typer.Option(help="240×240×155 at 1 mm, or 120×120×155 at 2×2×1 mm.")] = Size.full,
    healthy: Annotated[int, typer.Option(help="How many of the patients have no tumour.")] = 0,
    kaggle_quirks: Annotated[bool, typer.Option(help="Add what the Kaggle copy has besides.")] = False,
    workers: Annotated[int | None, typer.Option(help="Processes; all cores if not given.")] = None,
) -> None:
    """Generate a data set (phantom) in the layout and geometry of BraTS 2020."""
    from workflows.phantom import generate_dataset

    folders = generate_dataset(out, cases, seed, size.value, healthy, kaggle_quirks, workers)
    typer.echo(f"{len(folders)} generated (phantom) cases in {out}")


@app.command(context_settings=HYPHENS_AND_UNDERSCORES)
def audit(
    folder: Folder,
    out: Annotated[Path | None, typer.Option(help="Write everything found as JSON.")] = None,
    modalities: Modalities = DEFAULT_MODALITIES,
    slice_range: Annotated[str, typer.Option(help="Window of axial slices of 1 mm, first:end.")] = "60:135",
    workers: Annotated[int | None, typer.Option(help="Processes; all cores if not given.")] = None,
) -> None:
    """Find the cases below a folder and check every file; status 1 if a case is unusable."""
    from workflows.audit import audit_dataset
    from workflows.audit_table import print_table

    found = audit_dataset(folder, _modalities(modalities), _slice_range(slice_range), workers)
    print_table(found)
    if out:
        found.write(out)
    if found.unusable or found.errors:
        raise typer.Exit(1)


@app.command(context_settings=HYPHENS_AND_UNDERSCORES)
def split(
    folder: Folder,
    out: Annotated[Path, typer.Option(help="Datalist to write.")],
    seed: Annotated[int, typer.Option(help="The same seed gives the same split.")] = 42,
    stratify: Annotated[bool, typer.Option(help="Keep the shares of grades from name_mapping.csv.")] = False,
    folds: Annotated[int | None, typer.Option(help="Number of cross-validation folds.")] = None,
    fold: Annotated[int, typer.Option(help="Which of them validates, from 0.")] = 0,
    test_ids: Annotated[str | None, typer.Option(help="Case ids to test on, separated by commas.")] = None,
    modalities: Modalities = DEFAULT_MODALITIES,
) -> None:
    """Split the labelled cases by patient into training, validation and testing."""
    from workflows.dataset import find_cases
    from workflows.split import SECTIONS, make_split, write_split

    names = _modalities(modalities)
    ids = _listed(test_ids) if test_ids else None
    made = make_split(
        find_cases(folder, names),
        seed=seed,
        test_ids=ids,
        stratify=stratify,
        folds=folds,
        fold=fold,
        modalities=names,
    )
    write_split(made, out)
    typer.echo(f"{', '.join(f'{len(made[section])} {section}' for section in SECTIONS)} cases in {out}")


@app.command(context_settings=WITH_OVERRIDES, epilog=OVERRIDES)
def train(
    context: typer.Context,
    dataset_dir: Annotated[Path | None, typer.Option(help="Data folder; a small phantom set if not given.")] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; a new one below runs/ if not given.")] = None,
    split_file: Annotated[
        Path | None, typer.Option("--split", "--split-file", help="Datalist; made by itself if not given.")
    ] = None,
    config: Variants = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out, or begin it.")] = False,
) -> None:
    """Train a network; RUN/model.pt holds the best weights."""
    from workflows.train import train as run_training

    if resume and out is None:
        raise typer.BadParameter("name the run to continue by --out RUN.", param_hint="--resume")
    named = {"dataset_dir": dataset_dir, "run_dir": out, "split_file": split_file}
    run_training(config or [], _overrides(named, context.args), resume)


@app.command(context_settings=WITH_OVERRIDES, epilog=OVERRIDES)
def predict(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="One patient's folder, or a folder of many.")],
    out: Annotated[Path, typer.Option(help="Writes OUT/CASE/CASE_seg.nii.gz and OUT/volumes.csv.")],
    checkpoint: Annotated[Path | None, typer.Option(help="Weights, e.g. RUN/model.pt.")] = None,
    et_label: Annotated[int, typer.Option(help="Label of enhancing tumour: 4, or 3 as from BraTS 2023 on.")] = 4,
    save_probabilities: Annotated[bool, typer.Option(help="Write the class probabilities too.")] = False,
    config: Variants = None,
) -> None:
    """Segment patients: NIfTI label maps in their own geometry."""
    from workflows.predict import predict as run_prediction

    if et_label not in (3, 4):
        raise typer.BadParameter(f"{et_label} is not a label of enhancing tumour; use 4 or 3.", param_hint="--et-label")
    named = {"patient_dir": folder, "output_dir": out, "checkpoint": checkpoint}
    fixed = {"et_label": et_label, "save_probabilities": save_probabilities}
    run_prediction(config or [], {**fixed, **_overrides(named, context.args)})


@app.command(context_settings=WITH_OVERRIDES, epilog=OVERRIDES)
def evaluate(
    context: typer.Context,
    checkpoint: Annotated[Path, typer.Option(help="Weights, e.g. RUN/model.pt.")],
    out: Annotated[Path, typer.Option(help="Folder for label maps and scores.")],
    section: Annotated[str, typer.Option(help="training, validation or testing.")] = "testing",
    dataset_dir: Annotated[Path | None, typer.Option(help="Data folder; the run's own if not given.")] = None,
    split_file: Annotated[
        Path | None, typer.Option("--split", "--split-file", help="Datalist; the run's own if not given.")
    ] = None,
    config: Variants = None,
) -> None:
    """Predict a section of the split and score it on the patients' own grids."""
    from workflows.evaluate import run_evaluation

    named = {"checkpoint": checkpoint, "output_dir": out, "dataset_dir": dataset_dir, "split_file": split_file}
    run_evaluation(config or [], {"section": section, **_overrides(named, context.args)})


@app.command(context_settings=HYPHENS_AND_UNDERSCORES)
def figure(
    folder: Annotated[Path, typer.Argument(help="One patient's folder.")],
    prediction: Annotated[Path, typer.Option(help="The patient's predicted label map.")],
    out: Annotated[Path, typer.Option(help="PNG to write.")],
    caption: Annotated[str, typer.Option(help="Words for the title.")] = "",
    modalities: Modalities = DEFAULT_MODALITIES,
) -> None:
    """Draw the slice with most tumour: modalities, prediction, and the patient's own segmentation if there is one."""
    from workflows.figures import draw_prediction

    typer.echo(draw_prediction(folder, prediction, out, _modalities(modalities), caption))


@app.command(context_settings=HYPHENS_AND_UNDERSCORES)
def pack(
    out: Annotated[Path, typer.Argument(help="Zip file to write.")],
    checkpoint: Annotated[Path, typer.Option(help="Weights to pack, e.g. RUN/model.pt.")],
) -> None:
    """Pack configurations, code and weights into a self-contained MONAI Bundle."""
    from workflows.pack import pack_bundle

    typer.echo(pack_bundle(out, checkpoint))


@app.command(context_settings=HYPHENS_AND_UNDERSCORES)
def demo(
    out: Annotated[
        Path, typer.Option(help="Folder for data, run and results; what is there is not done again.")
    ] = Path("demo"),
) -> None:
    """Generate data, train, evaluate, predict one patient, and say where to look (phantom, minutes)."""
    from workflows.demo import run_demo

    run_demo(out)


def main() -> None:
    """Run the command; what a person can mend ends with one line on stderr and status 1."""
    warnings.filterwarnings("ignore", message="parsing config_file")  # the files are this project's own
    exit_on_sigterm()
    try:
        app()
    except Exception as error:
        ours: BratsError | None = root_cause(error)
        if ours is None:
            raise
        print(f"error: {ours}", file=sys.stderr)
        sys.exit(1)


def _overrides(named: dict[str, Path | None], extra: list[str]) -> dict[str, object]:
    from workflows.configuration import parse_overrides

    return {**{name: str(value) for name, value in named.items() if value is not None}, **parse_overrides(extra)}


def _listed(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _modalities(text: str) -> list[str]:
    from transforms.labels import MODALITIES

    names = _listed(text.lower())
    if not names or set(names) - set(MODALITIES):
        raise typer.BadParameter(f"{text!r}: choose from {', '.join(MODALITIES)}.", param_hint="--modalities")
    return names


def _slice_range(text: str) -> tuple[int, int]:
    first, colon, end = text.partition(":")
    if not (colon and first.isdigit() and end.isdigit() and int(first) < int(end)):
        raise typer.BadParameter(f"{text!r}: write it as FIRST:END, e.g. 60:135.", param_hint="--slice-range")
    return int(first), int(end)
