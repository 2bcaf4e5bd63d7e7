"""The `brats-unet` command: parses, calls, prints; nothing else. Heavy imports happen inside the subcommands."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from typer import Argument, BadParameter, Option

from workflows.machine.stopping import exit_on_sigterm
from workflows.messages.errors import BratsError, printable, root_cause, show_what_the_terminal_knows
from workflows.settings.overrides import parse_overrides, send_no_usage_data

if TYPE_CHECKING:
    from workflows.data.label_conventions import LabelConvention
    from workflows.data.reading import Reading

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

Rules = Literal["2020", "2023"]
Definition = Literal["brats", "monai"]
Folder = Annotated[Path, Argument(help="Data folder; cases may lie anywhere below it.")]
Modalities = Annotated[str, Option(help="Modalities that every case must have, separated by commas.")]
Variants = Annotated[
    list[str] | None,
    Option("--config", help="Overlay: a name such as seed or residual_unet, or a file; may be repeated."),
]
PatientPattern = Annotated[
    str | None,
    Option(
        "--patient",
        metavar="REGEX",
        help="What the patient is in a case's id or path: the group 'patient', the first group or the whole match.",
    ),
]
Workers = Annotated[int | None, Option(help="Number of processes; all cores if not given.")]
SplitFile = Annotated[Path | None, Option("--split", "--split-file", help="Datalist; the run's own if not given.")]
NewSplitFile = Annotated[Path | None, Option("--split", "--split-file", help="Datalist; a new split if not given.")]
SliceRange = Annotated[str, Option(help="Window of axial slices of 1 mm, as FIRST:END.")]
RunData = Annotated[Path | None, Option(help="Data folder; the run's own if not given.")]
Caption = Annotated[str, Option(help="Words to add to the titles.")]
Files = Annotated[
    list[str] | None,
    Option("--files", help="MODALITY=PATTERN for names not known, as T1ce={case}/*gd.nii.gz; repeated, label= too."),
]
Labels = Annotated[
    str | None,
    Option("--labels", help="What label values mean: a convention such as decathlon, or 1=oedema,2=core,3=enhancing."),
]
DEFAULT_MODALITIES = "flair,t1ce"
PlaneName = Literal["axial", "coronal", "sagittal"]
SEVERAL = "Several, or a folder of runs, are averaged, and each costs one prediction"


@app.command(context_settings=HYPHENS_AND_UNDERSCORES, rich_help_panel=DATA)
def phantom(
    out: Annotated[Path, Argument(help="Folder to generate into.")],
    cases: Annotated[int, Option(help="Number of patients.")] = 12,
    seed: Annotated[int, Option(help="The same seed gives the same files, byte by byte.")] = 0,
    size: Annotated[Literal["full", "small"], Option(help="240×240×155 at 1 mm, or 120×120×155 at 2×2×1 mm.")] = "full",
    healthy: Annotated[int, Option(help="Number of patients without tumour.")] = 0,
    kaggle_quirks: Annotated[bool, Option(help="Add the oddities of the copy on Kaggle.")] = False,
    workers: Workers = None,
) -> None:
    """Generate patients (phantoms) in the layout and geometry of BraTS 2020."""
    from workflows.phantom.phantom import generate_dataset

    folders = generate_dataset(out, cases, seed, size, healthy, kaggle_quirks, workers)
    typer.echo(f"{len(folders)} generated (phantom) cases in {out}")


@app.command(context_settings=HYPHENS_AND_UNDERSCORES, rich_help_panel=DATA)
def audit(
    folder: Folder,
    out: Annotated[Path | None, Option(help="JSON file for everything found.")] = None,
    modalities: Modalities = DEFAULT_MODALITIES,
    slice_range: SliceRange = "60:135",
    files: Files = None,
    labels: Labels = None,
    patient: PatientPattern = None,
    list_files: Annotated[bool, Option("--list", help="Show which file of each case was taken for what.")] = False,
    workers: Workers = None,
) -> None:
    """Find the cases in a folder and check every file. Status 1 if a case cannot be used."""
    from workflows.audit.dataset_checks import audit_dataset
    from workflows.audit.table import print_table
    from workflows.files.outputs import check_outputs

    if out:
        check_outputs([out], [folder])
    reading = _reading(files, labels, patient)
    found = audit_dataset(folder, _modalities(modalities), _slice_range(slice_range), workers, reading)
    print_table(found, list_files)
    if out:
        found.write(out)
    if found.unusable or found.errors:
        raise typer.Exit(1)


@app.command(context_settings=HYPHENS_AND_UNDERSCORES, rich_help_panel=DATA)
def explore(
    folder: Folder,
    out: Annotated[Path, Option(help="Folder for index.html and the pictures.")],
    case: Annotated[
        list[str] | None, Option(help="Draw this case only; may be repeated. The end of its name is enough, e.g. 136.")
    ] = None,
    slice_index: Annotated[
        int | None,
        Option(
            "--slice",
            help="Slice, counted from 0 at the bottom, front or right; the one with most tumour if not given.",
        ),
    ] = None,
    plane: Annotated[PlaneName, Option(help="Plane of the slice.")] = "axial",
    slice_range: SliceRange = "60:135",
    modalities: Annotated[str, Option(help="Modalities to draw where a case has them.")] = "flair,t1ce,t1,t2",
    caption: Caption = "",
    files: Files = None,
    labels: Labels = None,
    workers: Workers = None,
) -> None:
    """Draw a data set, or single cases, on one page for a browser."""
    from workflows.explore.explore import explore as run_explore
    from workflows.explore.sections import View
    from workflows.image_files.oriented import Plane

    window, drawn = _slice_range(slice_range), tuple(_modalities(modalities))
    view = View(tuple(case or ()), Plane(plane), slice_index, window, drawn, caption)
    for line in run_explore(folder, out, view, workers, _reading(files, labels)):
        typer.echo(line)


@app.command(context_settings=HYPHENS_AND_UNDERSCORES, rich_help_panel=DATA)
def split(
    folder: Folder,
    out: Annotated[Path, Option(help="Datalist to write, as JSON.")],
    seed: Annotated[int, Option(help="The same seed gives the same split.")] = 42,
    stratify: Annotated[bool, Option(help="Keep the shares of tumour grades that name_mapping.csv gives.")] = False,
    folds: Annotated[int | None, Option(help="Number of cross-validation folds.")] = None,
    fold: Annotated[int, Option(help="Fold that validates, counted from 0.")] = 0,
    test_ids: Annotated[str | None, Option(help="Cases to test on, separated by commas.")] = None,
    all_cases: Annotated[bool, Option("--all-cases", help="Train on all cases; validate and test on none.")] = False,
    patient: PatientPattern = None,
    other: Annotated[
        Path | None, Option("--from", help="Split of nnU-Net or Auto3DSeg to take a fold of, instead of drawing one.")
    ] = None,
    modalities: Modalities = DEFAULT_MODALITIES,
    files: Files = None,
    labels: Labels = None,
) -> None:
    """Divide the labelled cases by patient into training, validation and testing."""
    from workflows.data.find_cases import find_cases
    from workflows.files.json_files import write_json
    from workflows.files.outputs import check_outputs
    from workflows.splits.datalist import SECTIONS
    from workflows.splits.other_splits import adopt_split
    from workflows.splits.split import SplitPlan, make_split

    if other and (stratify or folds or test_ids or all_cases):
        raise BadParameter("takes what the file says; only --fold belongs to it.", param_hint="--from")
    check_outputs([out], [folder])
    names = _modalities(modalities)
    ids = _listed(test_ids) if test_ids else None
    plan = SplitPlan(
        seed=seed, test_ids=ids, stratify=stratify, folds=folds, fold=fold, all_cases=all_cases, patient=patient
    )
    reading = _reading(files, labels, patient)
    found = find_cases(folder, names, reading)
    made = adopt_split(other, found, fold, names, patient) if other else make_split(found, plan, names)
    made |= reading.stated()
    write_json(made, out)
    sizes = {section: len(made[section]) for section in SECTIONS}
    typer.echo(f"{', '.join(f'{size} {section}' for section, size in sizes.items())} cases in {out}")
    if sum(sizes.values()) > made["patients"]:
        typer.echo(f"They are {sum(sizes.values())} cases of {made['patients']} patients; each is in one section.")
    if ids and (joined := [entry["case"] for entry in made["testing"] if entry["case"] not in ids]):
        typer.echo(printable(f"Tested on too, as cases of the same patients: {', '.join(joined)}"))


@app.command(context_settings=WITH_OVERRIDES, epilog=OVERRIDES, rich_help_panel=TRAINING)
def train(
    context: typer.Context,
    dataset_dir: Annotated[Path | None, Option(help="Data folder; a small generated set if not given.")] = None,
    out: Annotated[Path | None, Option(help="Folder for the run; a new one below runs/ if not given.")] = None,
    split_file: NewSplitFile = None,
    all_cases: Annotated[
        bool, Option("--all-cases", help="Train on all cases and keep the weights of the last epoch.")
    ] = False,
    config: Variants = None,
    resume: Annotated[bool, Option("--resume", help="Continue the run in OUT, or begin it.")] = False,
    cache_dir: Annotated[
        Path | None, Option(help="Folder to keep preprocessed cases in; the next run starts from them.")
    ] = None,
    files: Files = None,
    labels: Labels = None,
    patient: PatientPattern = None,
) -> None:
    """Train a network. OUT/model.pt holds the best weights, with --all-cases the last ones."""
    from workflows.training.train import train as run_training

    if resume and out is None:
        raise BadParameter("name the run to continue by --out RUN.", param_hint="--resume")
    named = {"dataset_dir": dataset_dir, "run_dir": out, "split_file": split_file, "cache_dir": cache_dir}
    flags = ["--all_cases", "True"] if all_cases else []
    said = _reading_settings(files, labels, patient)
    run_training(config or [], {**said, **_overrides(named, [*flags, *context.args])}, resume)


@app.command(context_settings=WITH_OVERRIDES, epilog=OVERRIDES, rich_help_panel=PREDICTION)
def predict(
    context: typer.Context,
    folder: Annotated[Path, Argument(help="One patient's folder, or a folder of many.")],
    out: Annotated[Path, Option(help="Folder for OUT/CASE/CASE_seg.nii.gz and OUT/volumes.csv.")],
    checkpoint: Annotated[
        list[Path] | None, Option(help=f"Weights, e.g. RUN/model.pt; the starter weights if not given. {SEVERAL}.")
    ] = None,
    et_label: Annotated[int, Option(help="Label of enhancing tumour: 4, or 3 as from BraTS 2023 on.")] = 4,
    save_probabilities: Annotated[bool, Option(help="Write the class probabilities too.")] = False,
    save_uncertainty: Annotated[
        bool, Option(help="Write the entropy of the class probabilities too; the report shows it as heat.")
    ] = False,
    report: Annotated[
        bool, Option("--report/--no-report", help="Write a page for every patient, to open in a browser.")
    ] = True,
    overwrite: Annotated[bool, Option("--overwrite", help="Predict patients again that OUT already holds.")] = False,
    config: Variants = None,
    files: Files = None,
    labels: Labels = None,
) -> None:
    """Segment patients and write NIfTI label maps in their own geometry. Given again, it continues where it stopped."""
    from workflows.prediction.predict import predict as run_prediction
    from workflows.settings.checkpoints import named_checkpoints

    if et_label not in (3, 4):
        raise BadParameter(f"{et_label} is not a label of enhancing tumour; use 4 or 3.", param_hint="--et-label")
    named = {"patient_dir": folder, "output_dir": out}
    saved = {"save_probabilities": save_probabilities, "save_uncertainty": save_uncertainty, "report": report}
    fixed = {"et_label": et_label, "overwrite": overwrite, **saved, **named_checkpoints(checkpoint or [])}
    fixed |= _reading_settings(files, labels)
    run_prediction(config or [], {**fixed, **_overrides(named, context.args)})


@app.command(context_settings=WITH_OVERRIDES, epilog=OVERRIDES, rich_help_panel=SCORES)
def evaluate(
    context: typer.Context,
    out: Annotated[Path, Option(help="Folder for the scores, and for the label maps of a checkpoint.")],
    checkpoint: Annotated[
        list[Path] | None, Option(help=f"Weights to predict with, e.g. RUN/model.pt. {SEVERAL}.")
    ] = None,
    section: Annotated[
        str | None, Option(help="Section to score: training, validation or testing; testing if not given.")
    ] = None,
    dataset_dir: RunData = None,
    split_file: SplitFile = None,
    config: Variants = None,
    predictions: Annotated[Path | None, Option(help="Folder of label maps to score instead of a checkpoint.")] = None,
    references: Annotated[Path | None, Option(help="Folder of the true label maps for --predictions.")] = None,
    skip_bad: Annotated[
        bool, Option(help="Leave out cases whose label maps do not match; with --predictions.")
    ] = False,
    workers: Annotated[
        int | None, Option(help="Number of processes, with --predictions; all cores if not given.")
    ] = None,
    rules: Annotated[
        Rules | None, Option(help="Year of BraTS whose rules score empty masks; 2020 if not given.")
    ] = None,
    hd95: Annotated[Definition | None, Option(help="Whose definition of HD95; brats if not given.")] = None,
    labels: Annotated[
        str | None, Option("--labels", help="What the values in --references mean, where names do not say it.")
    ] = None,
    prediction_labels: Annotated[str | None, Option(help="The same for the values in --predictions.")] = None,
    ignore_affine: Annotated[
        bool, Option("--ignore-affine", help="Compare --predictions voxel by voxel, wherever their headers place them.")
    ] = False,
) -> None:
    """Score weights on the cases of a split, or label maps of any program against true ones."""
    for_checkpoint = {"dataset_dir": dataset_dir, "split_file": split_file}
    if predictions or references:
        _refuse_mixture(
            {"checkpoint": checkpoint, **for_checkpoint, "section": section, "config": config}, context.args
        )
        if not (predictions and references):
            raise BadParameter("--predictions and --references are folders of one evaluation: name both.")
        from workflows.evaluation.evaluate_folders import evaluate_folders
        from workflows.evaluation.find_label_maps import find_label_maps

        sides = (
            find_label_maps(predictions, _convention(prediction_labels), ignore_affine),
            find_label_maps(references, _convention(labels)),
        )
        evaluate_folders(*sides, out, rules or "2020", hd95 or "brats", skip_bad, workers)
        return
    for_folders = {
        "skip_bad": skip_bad,
        "workers": workers,
        "labels": labels,
        "prediction_labels": prediction_labels,
        "ignore_affine": ignore_affine,
    }
    _refuse_no_checkpoint(checkpoint, for_folders)
    from workflows.evaluation.evaluate_checkpoint import run_evaluation
    from workflows.settings.checkpoints import named_checkpoints

    named = {"output_dir": out, **for_checkpoint}
    chosen = {name: choice for name, choice in (("rules", rules), ("hd95", hd95)) if choice}
    fixed = {"section": section or "testing", **chosen, **named_checkpoints(checkpoint or [])}
    run_evaluation(config or [], {**fixed, **_overrides(named, context.args)})


@app.command(context_settings=WITH_OVERRIDES, epilog=OVERRIDES, rich_help_panel=TRAINING)
def tune(
    context: typer.Context,
    checkpoint: Annotated[list[Path], Option(help=f"Weights, e.g. RUN/model.pt. {SEVERAL}.")],
    out: Annotated[
        Path | None, Option(help="Folder for the choice; beside the weights if not given. Needed for several weights.")
    ] = None,
    section: Annotated[str, Option(help="Section to choose on: validation or training, never testing.")] = "validation",
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
    run_a: Annotated[Path, Argument(help="Folder that evaluate wrote, or a run folder with one in it.")],
    run_b: Annotated[Path, Argument(help="The same for another run; differences are B minus A.")],
    out: Annotated[Path | None, Option(help="File for the comparison, .md or .json.")] = None,
) -> None:
    """Compare two evaluations case by case: differences, intervals, Wilcoxon's test."""
    if out and out.suffix not in (".md", ".json"):
        raise BadParameter(f"{out}: give it a name that ends in .md or .json.", param_hint="--out")
    from workflows.comparing.compare_evaluations import compare_runs

    compare_runs(run_a, run_b, out)


@app.command("compare-networks", context_settings=WITH_OVERRIDES, epilog=OVERRIDES, rich_help_panel=TRAINING)
def compare_networks(
    context: typer.Context,
    dataset_dir: Annotated[Path, Option(help="Data folder.")],
    out: Annotated[Path, Option(help="Folder for networks.csv, .json, .md and .png; finished networks are skipped.")],
    networks: Annotated[
        str | None, Option(help="Network overlays, separated by commas; the bundle's nine if not given.")
    ] = None,
    minutes: Annotated[
        float, Option(help="Minutes of training per network: processor time, or wall clock on a GPU.")
    ] = 9,
    split_file: NewSplitFile = None,
    section: Annotated[
        str, Option(help="Section to score: validation or testing; nothing is chosen on its cases.")
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
    run: Annotated[Path, Argument(help="Folder of a run, which may still be going on.")],
    out: Annotated[Path | None, Option(help="PNG file to write; RUN/curves.png if not given.")] = None,
) -> None:
    """Draw the curves of a run: training against validation, with the best epoch marked."""
    from workflows.monitoring.curves import draw_curves

    typer.echo(draw_curves(run, out))


@app.command(context_settings=WITH_OVERRIDES, epilog=OVERRIDES, rich_help_panel=LOOKING)
def figures(
    context: typer.Context,
    run: Annotated[Path, Argument(help="Folder of a run, with model.pt, config.json and split.json.")],
    out: Annotated[Path, Option(help="Folder for the PNG files; 01_… has most false positives.")],
    cases: Annotated[str | None, Option(help="Test cases to draw, separated by commas.")] = None,
    count: Annotated[int | None, Option(help="Number of random test cases; all if not given.", min=1)] = None,
    seed: Annotated[int, Option(help="The same seed gives the same random cases.")] = 0,
    plane: Annotated[PlaneName, Option(help="Plane of the slices.")] = "axial",
    slice_index: Annotated[
        int | None, Option("--slice", help="Slice to draw; those with most false positives if not given.", min=0)
    ] = None,
    slices_per_case: Annotated[int, Option(help="Slices to draw of each case.", min=1)] = 1,
    dataset_dir: RunData = None,
    caption: Caption = "",
    config: Variants = None,
) -> None:
    """Draw test cases, those with most false positives first."""
    from workflows.evaluation.prediction_figures import draw_figures

    chosen = {"cases": _listed(cases) if cases else None, "count": count, "figure_seed": seed}
    drawn = {"plane": plane, "slice_index": slice_index, "slices_per_case": slices_per_case, "caption": caption}
    named = _overrides({"output_dir": out, "dataset_dir": dataset_dir}, context.args)
    draw_figures(run, config or [], {**chosen, **drawn, **named})


@app.command(context_settings=HYPHENS_AND_UNDERSCORES, rich_help_panel=LOOKING)
def report(
    folder: Annotated[Path, Argument(help="One patient's folder.", metavar="CASE_FOLDER")],
    out: Annotated[Path, Option(help="HTML file to write.")],
    prediction: Annotated[
        Path | None, Option(help="Label map to show; the record and probabilities beside it are shown too.")
    ] = None,
    reference: Annotated[
        Path | None, Option(help="Label map to compare with; the patient's own, if there is one, if not given.")
    ] = None,
    files: Files = None,
    labels: Labels = None,
    ignore_affine: Annotated[
        bool, Option("--ignore-affine", help="Take these label maps voxel by voxel, wherever their headers place them.")
    ] = False,
) -> None:
    """Write one page to scroll through a patient in a browser."""
    from workflows.report.report import report_folder

    typer.echo(report_folder(folder, out, prediction, reference, _reading(files, labels), ignore_affine))


@app.command(context_settings=HYPHENS_AND_UNDERSCORES, rich_help_panel=PREDICTION)
def pack(
    out: Annotated[Path, Argument(help="Zip file to write.")],
    checkpoint: Annotated[Path, Option(help="Weights to pack, e.g. RUN/model.pt.")],
) -> None:
    """Pack configurations, code and weights into one MONAI Bundle that runs anywhere."""
    from workflows.pack import pack_bundle

    typer.echo(pack_bundle(out, checkpoint))


@app.command(context_settings=HYPHENS_AND_UNDERSCORES, rich_help_panel=DATA)
def demo(
    out: Annotated[Path, Option(help="Folder for data, run and results; finished steps are skipped.")] = Path("demo"),
) -> None:
    """Run everything once on generated data (phantoms), in minutes, and say where to look."""
    from workflows.demo import run_demo

    run_demo(out)


def main() -> None:
    """Run the command; what a person can mend ends with one line on stderr and status 1."""
    warnings.filterwarnings("ignore", message="parsing config_file")  # the files are this project's own
    send_no_usage_data()
    exit_on_sigterm()
    show_what_the_terminal_knows()
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
        raise BadParameter(f"{', '.join(mixed)}: not beside --predictions, which are label maps already.")
    if extra:
        raise BadParameter(f"{' '.join(extra)}: no such option beside --predictions.")


def _refuse_no_checkpoint(checkpoint: list[Path] | None, for_folders: Mapping[str, object]) -> None:
    if not checkpoint:
        raise BadParameter("name weights by --checkpoint, or label maps by --predictions and --references.")
    if given := [f"--{name.replace('_', '-')}" for name, value in for_folders.items() if value not in (None, False)]:
        raise BadParameter(f"{', '.join(given)}: only beside --predictions, not beside --checkpoint.")


def _overrides(named: Mapping[str, Path | None], extra: list[str]) -> dict[str, object]:
    return {**{name: str(value) for name, value in named.items() if value is not None}, **parse_overrides(extra)}


def _reading(files: list[str] | None = None, labels: str | None = None, patient: str | None = None) -> Reading:
    from workflows.data.reading import Reading

    return Reading(tuple(files or ()), labels, patient)


def _reading_settings(
    files: list[str] | None = None, labels: str | None = None, patient: str | None = None
) -> dict[str, object]:
    said = _reading(files, labels, patient).stated()  # refuses what it does not understand
    return {f"reading#{name}": value for name, value in said.items()}


def _convention(labels: str | None) -> LabelConvention | None:
    return _reading(labels=labels).convention


def _listed(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _modalities(text: str) -> list[str]:
    from transforms.labels import MODALITIES

    names = _listed(text.lower())
    if not names or set(names) - set(MODALITIES):
        raise BadParameter(f"{text!r}: choose from {', '.join(MODALITIES)}.", param_hint="--modalities")
    return names


def _slice_range(text: str) -> tuple[int, int]:
    first, colon, end = text.partition(":")
    if not (colon and first.isdigit() and end.isdigit() and int(first) < int(end)):
        raise BadParameter(f"{text!r}: write it as FIRST:END, e.g. 60:135.", param_hint="--slice-range")
    return int(first), int(end)
