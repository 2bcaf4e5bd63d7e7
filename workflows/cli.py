"""The `brats-unet` command: parses, calls, prints; nothing else. Heavy imports happen inside the subcommands."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from workflows.machine.stopping import exit_on_sigterm
from workflows.messages.errors import BratsError, printable, root_cause
from workflows.settings.overrides import parse_overrides, send_no_usage_data

if TYPE_CHECKING:
    from workflows.scoring.score_case import Rules
    from workflows.scoring.surface_distances import Definition

HYPHENS_AND_UNDERSCORES = {"token_normalize_func": lambda name: name.replace("_", "-")}
WITH_OVERRIDES = {**HYPHENS_AND_UNDERSCORES, "allow_extra_args": True, "ignore_unknown_options": True}
OVERRIDES = "After the options, any setting of the configuration can be given by its name, e.g. --max_epochs 6."

app = typer.Typer(
    help="Segment brain tumours on BraTS MRI with a 2D U-Net. Research use only, not a medical device.",
    no_args_is_help=True,
    add_completion=False,
    context_settings=HYPHENS_AND_UNDERSCORES,
    pretty_exceptions_enable=False,
)

DATA, TRAINING, PREDICTION, SCORES, LOOKING = "Data", "Training", "Prediction", "Scores", "Looking"
"""The groups of commands in `--help`, in which the documentation lists them too."""

Folder = Annotated[Path, typer.Argument(help="Data folder; cases may lie anywhere below it.")]
Modalities = Annotated[str, typer.Option(help="Modalities that every case must have, separated by commas.")]
Variants = Annotated[
    list[str] | None,
    typer.Option("--config", help="Overlay: a name such as seed or residual_unet, or a file; may be repeated."),
]
Workers = Annotated[int | None, typer.Option(help="Number of processes; all cores if not given.")]
SplitFile = Annotated[
    Path | None, typer.Option("--split", "--split-file", help="Datalist; the run's own if not given.")
]
RunData = Annotated[Path | None, typer.Option(help="Data folder; the run's own if not given.")]
Caption = Annotated[str, typer.Option(help="Words to add to the titles.")]
DEFAULT_MODALITIES = "flair,t1ce"
SEVERAL = "Several, or a folder of runs, are averaged, and each costs one prediction"


class Size(StrEnum):
    """Of a generated volume: 240×240×155 at 1 mm, or 120×120×155 at 2×2×1 mm."""

    full = "full"
    small = "small"


class RulesOf(StrEnum):
    """Year of BraTS whose rules score empty masks: an HD95 of 373.13 mm in 2020, of 374 mm in 2023."""

    of_2020 = "2020"
    of_2023 = "2023"


class HD95(StrEnum):
    """Whose 95 % Hausdorff distance: the organisers' weighs surfaces by area, MONAI's counts voxels."""

    brats = "brats"
    monai = "monai"


class PlaneName(StrEnum):
    """An anatomical plane."""

    axial = "axial"
    coronal = "coronal"
    sagittal = "sagittal"


@app.command(context_settings=HYPHENS_AND_UNDERSCORES, rich_help_panel=DATA)
def phantom(
    out: Annotated[Path, typer.Argument(help="Folder to generate into.")],
    cases: Annotated[int, typer.Option(help="Number of patients.")] = 12,
    seed: Annotated[int, typer.Option(help="The same seed gives the same files, byte by byte.")] = 0,
    size: Annotated[Size, typer.Option(help="240×240×155 at 1 mm, or 120×120×155 at 2×2×1 mm.")] = Size.full,
    healthy: Annotated[int, typer.Option(help="Number of patients without tumour.")] = 0,
    kaggle_quirks: Annotated[bool, typer.Option(help="Add the oddities of the copy on Kaggle.")] = False,
    workers: Workers = None,
) -> None:
    """Generate patients (phantoms) in the layout and geometry of BraTS 2020."""
    from workflows.phantom.phantom import generate_dataset

    folders = generate_dataset(out, cases, seed, size.value, healthy, kaggle_quirks, workers)
    typer.echo(f"{len(folders)} generated (phantom) cases in {out}")


@app.command(context_settings=HYPHENS_AND_UNDERSCORES, rich_help_panel=DATA)
def audit(
    folder: Folder,
    out: Annotated[Path | None, typer.Option(help="JSON file for everything found.")] = None,
    modalities: Modalities = DEFAULT_MODALITIES,
    slice_range: Annotated[str, typer.Option(help="Window of axial slices of 1 mm, as FIRST:END.")] = "60:135",
    workers: Workers = None,
) -> None:
    """Find the cases in a folder and check every file. Status 1 if a case cannot be used."""
    from workflows.audit.dataset_checks import audit_dataset
    from workflows.audit.table import print_table
    from workflows.files.outputs import check_outputs

    if out:
        check_outputs([out], [folder])
    found = audit_dataset(folder, _modalities(modalities), _slice_range(slice_range), workers)
    print_table(found)
    if out:
        found.write(out)
    if found.unusable or found.errors:
        raise typer.Exit(1)


@app.command(context_settings=HYPHENS_AND_UNDERSCORES, rich_help_panel=DATA)
def explore(
    folder: Folder,
    out: Annotated[Path, typer.Option(help="Folder for index.html and the pictures.")],
    case: Annotated[
        list[str] | None,
        typer.Option(help="Draw this case only; may be repeated. The end of its name is enough, e.g. 136."),
    ] = None,
    slice_index: Annotated[
        int | None,
        typer.Option(
            "--slice",
            help="Slice, counted from 0 at the bottom, front or right; the one with most tumour if not given.",
        ),
    ] = None,
    plane: Annotated[PlaneName, typer.Option(help="Plane of the slice.")] = PlaneName.axial,
    slice_range: Annotated[str, typer.Option(help="Window of axial slices of 1 mm, as FIRST:END.")] = "60:135",
    modalities: Annotated[str, typer.Option(help="Modalities to draw where a case has them.")] = "flair,t1ce,t1,t2",
    caption: Caption = "",
    workers: Workers = None,
) -> None:
    """Draw a data set, or single cases, on one page for a browser."""
    from workflows.data.oriented import Plane
    from workflows.explore.explore import explore as run_explore
    from workflows.explore.sections import View

    view = View(
        tuple(case or ()),
        Plane(plane.value),
        slice_index,
        _slice_range(slice_range),
        tuple(_modalities(modalities)),
        caption,
    )
    for line in run_explore(folder, out, view, workers):
        typer.echo(line)


@app.command(context_settings=HYPHENS_AND_UNDERSCORES, rich_help_panel=DATA)
def split(
    folder: Folder,
    out: Annotated[Path, typer.Option(help="Datalist to write, as JSON.")],
    seed: Annotated[int, typer.Option(help="The same seed gives the same split.")] = 42,
    stratify: Annotated[
        bool, typer.Option(help="Keep the shares of tumour grades that name_mapping.csv gives.")
    ] = False,
    folds: Annotated[int | None, typer.Option(help="Number of cross-validation folds.")] = None,
    fold: Annotated[int, typer.Option(help="Fold that validates, counted from 0.")] = 0,
    test_ids: Annotated[str | None, typer.Option(help="Cases to test on, separated by commas.")] = None,
    all_cases: Annotated[
        bool, typer.Option("--all-cases", help="Train on all cases; validate and test on none.")
    ] = False,
    modalities: Modalities = DEFAULT_MODALITIES,
) -> None:
    """Divide the labelled cases by patient into training, validation and testing."""
    from workflows.data.datalist import SECTIONS
    from workflows.data.find_cases import find_cases
    from workflows.data.split import SplitPlan, make_split
    from workflows.files.json_files import write_json
    from workflows.files.outputs import check_outputs

    check_outputs([out], [folder])
    names = _modalities(modalities)
    ids = _listed(test_ids) if test_ids else None
    plan = SplitPlan(seed=seed, test_ids=ids, stratify=stratify, folds=folds, fold=fold, all_cases=all_cases)
    made = make_split(find_cases(folder, names), plan, names)
    write_json(made, out)
    typer.echo(f"{', '.join(f'{len(made[section])} {section}' for section in SECTIONS)} cases in {out}")


@app.command(context_settings=WITH_OVERRIDES, epilog=OVERRIDES, rich_help_panel=TRAINING)
def train(
    context: typer.Context,
    dataset_dir: Annotated[Path | None, typer.Option(help="Data folder; a small generated set if not given.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the run; a new one below runs/ if not given.")] = None,
    split_file: Annotated[
        Path | None, typer.Option("--split", "--split-file", help="Datalist; a new split if not given.")
    ] = None,
    all_cases: Annotated[
        bool, typer.Option("--all-cases", help="Train on all cases and keep the weights of the last epoch.")
    ] = False,
    config: Variants = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in OUT, or begin it.")] = False,
    cache_dir: Annotated[
        Path | None,
        typer.Option(help="Folder to keep preprocessed cases in; the next run starts from them."),
    ] = None,
) -> None:
    """Train a network. OUT/model.pt holds the best weights, with --all-cases the last ones."""
    from workflows.training.train import train as run_training

    if resume and out is None:
        raise typer.BadParameter("name the run to continue by --out RUN.", param_hint="--resume")
    named = {"dataset_dir": dataset_dir, "run_dir": out, "split_file": split_file, "cache_dir": cache_dir}
    flags = ["--all_cases", "True"] if all_cases else []
    run_training(config or [], _overrides(named, [*flags, *context.args]), resume)


@app.command(context_settings=WITH_OVERRIDES, epilog=OVERRIDES, rich_help_panel=PREDICTION)
def predict(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="One patient's folder, or a folder of many.")],
    out: Annotated[Path, typer.Option(help="Folder for OUT/CASE/CASE_seg.nii.gz and OUT/volumes.csv.")],
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option(help=f"Weights, e.g. RUN/model.pt; the starter weights if not given. {SEVERAL}."),
    ] = None,
    et_label: Annotated[int, typer.Option(help="Label of enhancing tumour: 4, or 3 as from BraTS 2023 on.")] = 4,
    save_probabilities: Annotated[bool, typer.Option(help="Write the class probabilities too.")] = False,
    save_uncertainty: Annotated[
        bool, typer.Option(help="Write the entropy of the class probabilities too; the report shows it as heat.")
    ] = False,
    report: Annotated[
        bool, typer.Option("--report/--no-report", help="Write a page for every patient, to open in a browser.")
    ] = True,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Predict patients again that OUT already holds."),
    ] = False,
    config: Variants = None,
) -> None:
    """Segment patients and write NIfTI label maps in their own geometry. Given again, it continues where it stopped."""
    from workflows.prediction.predict import predict as run_prediction
    from workflows.settings.checkpoints import named_checkpoints

    if et_label not in (3, 4):
        raise typer.BadParameter(f"{et_label} is not a label of enhancing tumour; use 4 or 3.", param_hint="--et-label")
    named = {"patient_dir": folder, "output_dir": out}
    saved = {"save_probabilities": save_probabilities, "save_uncertainty": save_uncertainty}
    fixed = {
        "et_label": et_label,
        "report": report,
        "overwrite": overwrite,
        **saved,
        **named_checkpoints(checkpoint or []),
    }
    run_prediction(config or [], {**fixed, **_overrides(named, context.args)})


@app.command(context_settings=WITH_OVERRIDES, epilog=OVERRIDES, rich_help_panel=SCORES)
def evaluate(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="Folder for the scores, and for the label maps of a checkpoint.")],
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option(help=f"Weights to predict with, e.g. RUN/model.pt. {SEVERAL}."),
    ] = None,
    section: Annotated[
        str | None, typer.Option(help="Section to score: training, validation or testing; testing if not given.")
    ] = None,
    dataset_dir: RunData = None,
    split_file: SplitFile = None,
    config: Variants = None,
    predictions: Annotated[
        Path | None, typer.Option(help="Folder of label maps to score instead of a checkpoint.")
    ] = None,
    references: Annotated[Path | None, typer.Option(help="Folder of the true label maps for --predictions.")] = None,
    skip_bad: Annotated[
        bool, typer.Option(help="Leave out cases whose label maps do not match; with --predictions.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(help="Number of processes, with --predictions; all cores if not given.")
    ] = None,
    rules: Annotated[
        RulesOf | None, typer.Option(help="Year of BraTS whose rules score empty masks; 2020 if not given.")
    ] = None,
    hd95: Annotated[HD95 | None, typer.Option(help="Whose definition of HD95; brats if not given.")] = None,
) -> None:
    """Score weights on the cases of a split, or label maps of any program against true ones."""
    for_checkpoint = {"dataset_dir": dataset_dir, "split_file": split_file}
    if predictions or references:
        _refuse_mixture(
            {"checkpoint": checkpoint, **for_checkpoint, "section": section, "config": config}, context.args
        )
        if not (predictions and references):
            raise typer.BadParameter("--predictions and --references are folders of one evaluation: name both.")
        from workflows.evaluation.evaluate_folders import evaluate_folders

        year, whose = cast("Rules", str(rules or "2020")), cast("Definition", str(hd95 or "brats"))
        evaluate_folders(predictions, references, out, year, whose, skip_bad, workers)
        return
    _refuse_no_checkpoint(checkpoint, skip_bad, workers)
    from workflows.evaluation.evaluate_checkpoint import run_evaluation
    from workflows.settings.checkpoints import named_checkpoints

    named = {"output_dir": out, **for_checkpoint}
    chosen = {name: of.value for name, of in (("rules", rules), ("hd95", hd95)) if of}
    fixed = {"section": section or "testing", **chosen, **named_checkpoints(checkpoint or [])}
    run_evaluation(config or [], {**fixed, **_overrides(named, context.args)})


@app.command(context_settings=WITH_OVERRIDES, epilog=OVERRIDES, rich_help_panel=TRAINING)
def tune(
    context: typer.Context,
    checkpoint: Annotated[list[Path], typer.Option(help=f"Weights, e.g. RUN/model.pt. {SEVERAL}.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the choice; beside the weights if not given. Needed for several weights."),
    ] = None,
    section: Annotated[
        str, typer.Option(help="Section to choose on: validation or training, never testing.")
    ] = "validation",
    dataset_dir: RunData = None,
    split_file: SplitFile = None,
    config: Variants = None,
) -> None:
    """Choose post-processing and calibration on validation cases. Predict and evaluate then use them."""
    from workflows.evaluation.tune import run_tuning
    from workflows.settings.checkpoints import named_checkpoints

    named = {"output_dir": out, "dataset_dir": dataset_dir, "split_file": split_file}
    fixed = {"section": section, **named_checkpoints(checkpoint)}
    run_tuning(config or [], {**fixed, **_overrides(named, context.args)})


@app.command(context_settings=HYPHENS_AND_UNDERSCORES, rich_help_panel=SCORES)
def compare(
    run_a: Annotated[Path, typer.Argument(help="Folder that evaluate wrote, or a run folder with one in it.")],
    run_b: Annotated[Path, typer.Argument(help="The same for another run; differences are B minus A.")],
    out: Annotated[Path | None, typer.Option(help="File for the comparison, .md or .json.")] = None,
) -> None:
    """Compare two evaluations case by case: differences, intervals, Wilcoxon's test."""
    if out and out.suffix not in (".md", ".json"):
        raise typer.BadParameter(f"{out}: give it a name that ends in .md or .json.", param_hint="--out")
    from workflows.comparing.compare_evaluations import compare_runs

    compare_runs(run_a, run_b, out)


@app.command("compare-networks", context_settings=WITH_OVERRIDES, epilog=OVERRIDES, rich_help_panel=TRAINING)
def compare_networks(
    context: typer.Context,
    dataset_dir: Annotated[Path, typer.Option(help="Data folder.")],
    out: Annotated[
        Path, typer.Option(help="Folder for networks.csv, .json, .md and .png; finished networks are skipped.")
    ],
    networks: Annotated[
        str | None, typer.Option(help="Network overlays, separated by commas; the bundle's nine if not given.")
    ] = None,
    minutes: Annotated[
        float, typer.Option(help="Minutes of training per network: processor time, or wall clock on a GPU.")
    ] = 9,
    split_file: Annotated[
        Path | None, typer.Option("--split", "--split-file", help="Datalist; a new split if not given.")
    ] = None,
    section: Annotated[
        str, typer.Option(help="Section to score: validation or testing; nothing is chosen on its cases.")
    ] = "validation",
    config: Variants = None,
) -> None:
    """Train and score several networks with the same budget of time."""
    from workflows.comparing.compare_networks import NETWORKS, Conditions
    from workflows.comparing.compare_networks import compare_networks as run_comparison

    chosen = _listed(networks) if networks else NETWORKS
    conditions = Conditions(minutes, section, config or [], _overrides({}, context.args))
    run_comparison(dataset_dir, out, chosen, split_file, conditions)


@app.command(context_settings=HYPHENS_AND_UNDERSCORES, rich_help_panel=LOOKING)
def curves(
    run: Annotated[Path, typer.Argument(help="Folder of a run, which may still be going on.")],
    out: Annotated[Path | None, typer.Option(help="PNG file to write; RUN/curves.png if not given.")] = None,
) -> None:
    """Draw the curves of a run: training against validation, with the best epoch marked."""
    from workflows.monitoring.curves import draw_curves

    typer.echo(draw_curves(run, out))


@app.command(context_settings=WITH_OVERRIDES, epilog=OVERRIDES, rich_help_panel=LOOKING)
def figures(
    context: typer.Context,
    run: Annotated[Path, typer.Argument(help="Folder of a run, with model.pt, config.json and split.json.")],
    out: Annotated[Path, typer.Option(help="Folder for the PNG files; 01_… has most false positives.")],
    cases: Annotated[str | None, typer.Option(help="Test cases to draw, separated by commas.")] = None,
    count: Annotated[int | None, typer.Option(help="Number of random test cases; all if not given.", min=1)] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same random cases.")] = 0,
    plane: Annotated[PlaneName, typer.Option(help="Plane of the slices.")] = PlaneName.axial,
    slice_index: Annotated[
        int | None, typer.Option("--slice", help="Slice to draw; those with most false positives if not given.", min=0)
    ] = None,
    slices_per_case: Annotated[int, typer.Option(help="Slices to draw of each case.", min=1)] = 1,
    dataset_dir: RunData = None,
    caption: Caption = "",
    config: Variants = None,
) -> None:
    """Draw test cases, those with most false positives first."""
    from workflows.evaluation.prediction_figures import draw_figures

    chosen = {"cases": _listed(cases) if cases else None, "count": count, "figure_seed": seed}
    drawn = {"plane": plane.value, "slice_index": slice_index, "slices_per_case": slices_per_case, "caption": caption}
    named = _overrides({"output_dir": out, "dataset_dir": dataset_dir}, context.args)
    draw_figures(run, config or [], {**chosen, **drawn, **named})


@app.command(context_settings=HYPHENS_AND_UNDERSCORES, rich_help_panel=LOOKING)
def report(
    folder: Annotated[Path, typer.Argument(help="One patient's folder.", metavar="CASE_FOLDER")],
    out: Annotated[Path, typer.Option(help="HTML file to write.")],
    prediction: Annotated[
        Path | None, typer.Option(help="Label map to show; the record and probabilities beside it are shown too.")
    ] = None,
    reference: Annotated[
        Path | None, typer.Option(help="Label map to compare with; the patient's own, if there is one, if not given.")
    ] = None,
) -> None:
    """Write one page to scroll through a patient in a browser."""
    from workflows.report.report import report_folder

    typer.echo(report_folder(folder, out, prediction, reference))


@app.command(context_settings=HYPHENS_AND_UNDERSCORES, rich_help_panel=PREDICTION)
def pack(
    out: Annotated[Path, typer.Argument(help="Zip file to write.")],
    checkpoint: Annotated[Path, typer.Option(help="Weights to pack, e.g. RUN/model.pt.")],
) -> None:
    """Pack configurations, code and weights into one MONAI Bundle that runs anywhere."""
    from workflows.pack import pack_bundle

    typer.echo(pack_bundle(out, checkpoint))


@app.command(context_settings=HYPHENS_AND_UNDERSCORES, rich_help_panel=DATA)
def demo(
    out: Annotated[Path, typer.Option(help="Folder for data, run and results; finished steps are skipped.")] = Path(
        "demo"
    ),
) -> None:
    """Run everything once on generated data (phantoms), in minutes, and say where to look."""
    from workflows.demo import run_demo

    run_demo(out)


def main() -> None:
    """Run the command; what a person can mend ends with one line on stderr and status 1."""
    warnings.filterwarnings("ignore", message="parsing config_file")  # the files are this project's own
    send_no_usage_data()
    exit_on_sigterm()
    try:
        app()
    except Exception as error:
        ours: BratsError | None = root_cause(error)
        if ours is None:
            raise
        print(f"error: {printable(str(ours))}", file=sys.stderr)
        sys.exit(1)


def _refuse_mixture(for_checkpoint: Mapping[str, object], extra: list[str]) -> None:
    if mixed := [f"--{name.replace('_', '-')}" for name, value in for_checkpoint.items() if value]:
        raise typer.BadParameter(f"{', '.join(mixed)}: not beside --predictions, which are label maps already.")
    if extra:
        raise typer.BadParameter(f"{' '.join(extra)}: no such option beside --predictions.")


def _refuse_no_checkpoint(checkpoint: list[Path] | None, skip_bad: bool, workers: int | None) -> None:
    if not checkpoint:
        raise typer.BadParameter("name weights by --checkpoint, or label maps by --predictions and --references.")
    if skip_bad or workers is not None:
        raise typer.BadParameter("--skip-bad and --workers belong to --predictions, not to --checkpoint.")


def _overrides(named: Mapping[str, Path | None], extra: list[str]) -> dict[str, object]:
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
