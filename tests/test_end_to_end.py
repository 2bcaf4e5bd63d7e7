"""From a data folder to weights, label maps and a bundle that runs elsewhere, by the programs a person starts."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.support import REPOSITORY, Run, Started, listing
from workflows.prediction.predict import predict
from workflows.settings.bundle_files import config_files
from workflows.training.train import train

FIGURES = (
    *("loss", "accuracy", "study_dice", "study_mean_iou", "precision", "sensitivity", "specificity"),
    *("wt_dice", "tc_dice", "et_dice"),
)
VALIDATION_FIGURES = tuple(f"val_{name}" for name in FIGURES)
MINUTES = 60
FIRST_COMMAND = ("monai.bundle", "run", "training", "--config_file", "bundle/configs/train.json")


def rows_of(run_dir: Path) -> list[dict[str, float]]:
    with (run_dir / "training.log").open() as log:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(log)]


def mean_region_dice(row: dict[str, float]) -> float:
    return (row["val_wt_dice"] + row["val_tc_dice"] + row["val_et_dice"]) / 3


def voxels(file: Path) -> np.ndarray:
    return np.asarray(nib.load(file).dataobj)


# ---------------------------------------------------------------------------------------------------------------------
# What a run leaves


def test_the_log_has_these_columns_and_a_row_for_every_epoch(tiny_run: Run):
    header = (tiny_run.folder / "training.log").read_text().splitlines()[0]
    assert header == ",".join(("epoch", "lr", *FIGURES, *VALIDATION_FIGURES))
    rows = rows_of(tiny_run.folder)
    assert [row["epoch"] for row in rows] == [1, 2]
    assert np.isfinite([list(row.values()) for row in rows]).all()
    assert "epoch 2/2: loss " in tiny_run.output


def test_tensorboard_reads_every_figure_of_the_log(tiny_run: Run):
    events = EventAccumulator(str(tiny_run.folder)).Reload()
    rows = rows_of(tiny_run.folder)
    for name in ("lr", *FIGURES, *VALIDATION_FIGURES):
        scalars = events.Scalars(name)
        assert [scalar.step for scalar in scalars] == [1, 2], name
        assert [scalar.value for scalar in scalars] == pytest.approx([row[name] for row in rows], rel=1e-5), name
    assert len(events.Scalars("batch_loss")) > 2


def test_the_weights_are_plain_tensors_and_the_full_state_holds_what_resuming_needs(tiny_run: Run):
    weights = torch.load(tiny_run.checkpoint, weights_only=True)
    assert all(isinstance(value, torch.Tensor) for value in weights.values())
    state = torch.load(tiny_run.folder / "last.pt", weights_only=True)
    assert state.keys() >= {"network", "optimizer", "lr_scheduler", "trainer"}
    assert state["network"].keys() == weights.keys()
    assert state["trainer"]["iteration"] == state["lr_scheduler"]["last_epoch"] > 2


def test_the_run_folder_holds_its_configuration_and_split(tiny_run: Run):
    assert {path.name for path in tiny_run.folder.iterdir() if not path.name.startswith("events.out.tfevents")} == {
        *("config.json", "split.json", "model.pt", "last.pt", "training.log", "curves.png")
    }
    configuration = json.loads((tiny_run.folder / "config.json").read_text())
    assert (configuration["max_epochs"], configuration["input"]["size_px"], configuration["network_def"]["width"]) == (
        2,
        64,
        4,
    )
    assert Path(configuration["dataset_dir"]) == tiny_run.data
    split = json.loads((tiny_run.folder / "split.json").read_text())
    assert [len(split[section]) for section in ("training", "validation", "testing")] == [1, 1, 1]


def test_nothing_was_written_into_the_data_folder(tiny_run: Run):
    assert listing(tiny_run.data) == tiny_run.data_before


# ---------------------------------------------------------------------------------------------------------------------
# Which weights are kept


def score(run: Run, weights: Path, folder: Path, settings: dict[str, Any]) -> float:
    """The mean of the regions' Dice on the validation section, by the validation of `train.json` alone."""
    workflow = ConfigWorkflow(
        config_files("train"),
        dataset_dir=str(run.data),
        split_file=str(run.folder / "split.json"),
        run_dir=str(folder),
        **settings,
        **{"validate#handlers": []},
    )
    workflow.initialize()
    workflow.parser.get_parsed_content("network").load_state_dict(torch.load(weights, weights_only=True))
    evaluator = workflow.parser.get_parsed_content("validate#evaluator")
    evaluator.run()
    return evaluator.state.metrics["val_mean_region_dice"]


def test_the_weights_kept_are_those_of_the_epoch_with_the_best_mean_region_dice(
    tiny_run: Run, tiny_settings: dict[str, Any], tmp_path: Path
):
    # The step grows without bounds after the second epoch, so that the third and last spoils the network.
    blow_up = {
        "_target_": "torch.optim.lr_scheduler.LambdaLR",
        "optimizer": "@optimizer",
        "lr_lambda": "$lambda epoch: 1.0 if epoch < 2 else 1e30",
    }
    run_dir = tmp_path / "run"
    named = {"dataset_dir": str(tiny_run.data), "run_dir": str(run_dir), "max_epochs": 3}
    train([], {**named, **tiny_settings, "lr_scheduler": blow_up, "lr_steps_per_epoch": True})
    by_epoch = [mean_region_dice(row) for row in rows_of(run_dir)]
    assert max(by_epoch) > by_epoch[2]
    kept = score(tiny_run, run_dir / "model.pt", tmp_path / "unused", tiny_settings)
    assert kept == pytest.approx(max(by_epoch), abs=1e-6)


@pytest.mark.parametrize("variant", ["seed", "seed_dice", "basic_unet", "demo"])
def test_every_variant_trains(variant: str, tiny_run: Run, tmp_path: Path):
    small = {} if variant == "basic_unet" else {"network_def#width": 4}
    named = {"dataset_dir": str(tiny_run.data), "run_dir": str(tmp_path / "run"), "max_epochs": 1, "input#size_px": 64}
    train(["axial", variant], {**named, **small})
    assert len(rows_of(tmp_path / "run")) == 1


@pytest.mark.parametrize(("interval", "validated"), [(1, 4), (2, 2), (5, 0)])
def test_the_study_lowers_its_learning_rate_by_epochs_that_validated(
    interval: int, validated: int, tiny_run: Run, tmp_path: Path
):
    named = {"dataset_dir": str(tiny_run.data), "run_dir": str(tmp_path / "run"), "max_epochs": 4, "input#size_px": 64}
    never_better = {"lr_scheduler#threshold": 1e9, "lr_scheduler#patience": 0, "val_interval": interval}
    train(["seed"], {**named, "network_def#width": 4, **never_better})
    last = torch.load(tmp_path / "run" / "last.pt", weights_only=True)
    schedule = last["lr_scheduler"]
    assert schedule["last_epoch"] == validated
    assert schedule["_last_lr"] == [pytest.approx(0.001 * 0.2 ** max(0, validated - 1))]


def test_a_run_on_all_cases_keeps_the_weights_after_its_last_epoch_and_has_nothing_to_be_scored_on(
    tiny_run: Run, tiny_settings: dict[str, Any], tmp_path: Path, command: Callable[..., Started]
):
    run, settings = tmp_path / "run", [f"--{name}={value}" for name, value in tiny_settings.items()]
    begun = command("train", "--all-cases", "--dataset-dir", tiny_run.data, "--out", run, *settings, "--max_epochs", 2)
    assert begun.status == 0, begun.stderr
    split = json.loads((run / "split.json").read_text())
    assert [len(split[section]) for section in ("training", "validation", "testing")] == [3, 0, 0]
    with (run / "training.log").open() as log:
        assert [row["val_loss"] for row in csv.DictReader(log)] == ["", ""]
    assert "nothing to validate on: model.pt will hold the weights after the last epoch" in begun.stdout
    assert "weights after the last epoch" in begun.stdout and "brats-unet predict PATIENT" in begun.stdout
    weights, last = (torch.load(run / name, weights_only=True) for name in ("model.pt", "last.pt"))
    assert all(torch.equal(value, last["scored_network"][name]) for name, value in weights.items())
    assert (run / "curves.png").is_file()

    patient = next(tiny_run.data.glob("BraTS*"))
    predicted = command("predict", patient, "--out", tmp_path / "out", "--checkpoint", run / "model.pt", "--no-report")
    assert predicted.status == 0, predicted.stderr
    weights_before = (run / "model.pt").read_bytes()
    more = command("train", "--resume", "--out", run, "--val_interval", 2)
    assert more.status == 0, more.stderr
    assert (run / "model.pt").read_bytes() == weights_before  # there was nothing left to do
    for scored in (["evaluate", "--out", tmp_path / "scores"], ["tune"]):
        ended = command(*scored, "--checkpoint", run / "model.pt")
        assert ended.status == 1
        assert re.search(r"split\.json: the section (testing|validation) is empty", ended.last_line), ended.last_line


def test_the_study_s_learning_rate_needs_cases_to_validate_on(
    tiny_run: Run, tmp_path: Path, command: Callable[..., Started]
):
    settings = ["--config", "seed", "--input#size_px", 64, "--network_def#width", 4, "--max_epochs", 1]
    ended = command("train", "--all-cases", "--dataset-dir", tiny_run.data, "--out", tmp_path / "run", *settings)
    assert ended.status == 1
    assert "the learning rate of this configuration follows the validation" in ended.last_line


def test_a_run_that_kept_cases_back_cannot_go_on_with_all(
    tiny_run: Run, tmp_path: Path, command: Callable[..., Started]
):
    shutil.copytree(tiny_run.folder, tmp_path / "run")
    ended = command("train", "--resume", "--out", tmp_path / "run", "--all-cases")
    assert ended.status == 1
    assert "all_cases: false → true: this is part of its saved state" in ended.last_line


# ---------------------------------------------------------------------------------------------------------------------
# Other layouts of the same patients


def unpacked(source: Path, target: Path) -> None:
    """As the Kaggle copy has them: everything uncompressed."""
    for file in source.rglob("*.nii.gz"):
        folder = target / file.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        nib.save(nib.load(file), folder / file.name.removesuffix(".gz"))


def from_2023(source: Path, target: Path) -> None:
    """Names and labels of BraTS 2023."""
    suffixes = {"flair": "t2f", "t1ce": "t1c", "t1": "t1n", "t2": "t2w", "seg": "seg"}
    for file in source.rglob("*.nii.gz"):
        number, _, kind = file.name.removesuffix(".nii.gz").removeprefix("BraTS20_Training_").partition("_")
        case = f"BraTS-GLI-00{number}-000"
        (target / case).mkdir(parents=True, exist_ok=True)
        image = nib.load(file)
        if kind == "seg":
            labels = np.asarray(image.dataobj)
            image = nib.Nifti1Image(np.where(labels == 4, 3, labels).astype(np.uint8), image.affine)
        nib.save(image, target / case / f"{case}-{suffixes[kind]}.nii.gz")


def decathlon(source: Path, target: Path) -> None:
    """One 4D file for each patient, and the Decathlon's order of labels."""
    for name in ("imagesTr", "labelsTr"):
        (target / name).mkdir(parents=True)
    items = []
    for folder in sorted(path for path in source.iterdir() if path.is_dir()):
        case = f"BRATS_{folder.name[-3:]}.nii.gz"
        images = [nib.load(folder / f"{folder.name}_{modality}.nii.gz") for modality in ("flair", "t1", "t1ce", "t2")]
        stacked = np.stack([np.asarray(image.dataobj) for image in images], axis=-1)
        nib.save(nib.Nifti1Image(stacked, images[0].affine), target / "imagesTr" / case)
        labels = np.array([0, 2, 1, 0, 3], np.uint8)[voxels(folder / f"{folder.name}_seg.nii.gz")]
        nib.save(nib.Nifti1Image(labels, images[0].affine), target / "labelsTr" / case)
        items.append({"image": f"./imagesTr/{case}", "label": f"./labelsTr/{case}"})
    content = {
        "modality": {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"},
        "labels": {"0": "background", "1": "edema", "2": "non-enhancing tumor", "3": "enhancing tumour"},
        "training": items,
        "test": [],
    }
    (target / "dataset.json").write_text(json.dumps(content))


Layout = Callable[[Path, Path], None]


def train_one_epoch(data: Path, run_dir: Path, settings: dict[str, Any]) -> list[dict[str, float]]:
    train(["axial"], {"dataset_dir": str(data), "run_dir": str(run_dir), "max_epochs": 1, **settings})
    return rows_of(run_dir)


@pytest.fixture(scope="module")
def one_epoch(tiny_run: Run, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, float]]:
    """The log of an epoch on the generated patients as they are."""
    settings = {"input#size_px": 64, "network_def#width": 4, "device": "cpu"}
    return train_one_epoch(tiny_run.data, tmp_path_factory.mktemp("one_epoch") / "run", settings)


@pytest.mark.slow
@pytest.mark.parametrize("layout", [unpacked, from_2023, decathlon])
def test_the_same_patients_in_another_layout_give_the_same_figures_and_label_maps(
    layout: Layout,
    tiny_run: Run,
    tiny_settings: dict[str, Any],
    one_epoch: list[dict[str, float]],
    tmp_path: Path,
):
    data, run_dir = tmp_path / "data", tmp_path / "run"
    layout(tiny_run.data, data)
    before = listing(data)
    rows = train_one_epoch(data, run_dir, tiny_settings)
    assert rows == [pytest.approx(row, rel=1e-4) for row in one_epoch]
    named = {"checkpoint": str(run_dir / "model.pt"), "device": "cpu"}
    predict([], {**named, "patient_dir": str(data), "output_dir": str(tmp_path / "here")})
    predict([], {**named, "patient_dir": str(tiny_run.data), "output_dir": str(tmp_path / "there")})
    here, there = (sorted((tmp_path / name).rglob("*_seg.nii.gz")) for name in ("here", "there"))
    assert len(here) == len(there) == 3
    for mine, original in zip(here, there, strict=True):
        assert np.array_equal(voxels(mine), voxels(original))
    assert listing(data) == before


# ---------------------------------------------------------------------------------------------------------------------
# The packed bundle

RUN_THE_PACK = """
import sys
from monai.bundle import run
bundle, data, patient, split = sys.argv[1:]
inference, evaluate, train = (f"{bundle}/configs/{name}.json" for name in ("inference", "evaluate", "train"))
run("run", config_file=inference, workflow_type="infer", patient_dir=patient, output_dir="prediction")
run("run", config_file=[inference, evaluate], workflow_type="infer", dataset_dir=data, split_file=split,
    output_dir="evaluation")
run("training", config_file=train, dataset_dir=data, split_file=split, run_dir="run", max_epochs=1)
import networks, transforms, workflows
print("imported from", *(module.__file__ for module in (networks, transforms, workflows)), sep="\\n")
"""


@pytest.fixture(scope="module")
def packed(tiny_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny run as a bundle, packed by the command and unpacked elsewhere."""
    from workflows.pack import pack_bundle

    folder = tmp_path_factory.mktemp("packed")
    with zipfile.ZipFile(pack_bundle(folder / "tumours.zip", tiny_run.checkpoint)) as archive:
        archive.extractall(folder)
    return folder / "tumours"


def test_a_packed_bundle_holds_what_it_needs_and_nothing_else(packed: Path, tiny_run: Run):
    tops = {path.name for path in packed.iterdir()}
    assert tops - {"LICENSE", "docs"} == {"configs", "models", "networks", "transforms", "workflows"}
    assert [path.name for path in (packed / "models").iterdir()] == ["model.pt"]
    assert (packed / "models" / "model.pt").read_bytes() == tiny_run.checkpoint.read_bytes()
    assert {path.suffix for path in (packed / "workflows").iterdir() if path.is_file()} == {".py"}
    assets = {path.name for path in (REPOSITORY / "workflows" / "report" / "assets").iterdir()}
    assert {path.name for path in (packed / "workflows" / "report" / "assets").iterdir()} == assets


def test_a_packed_bundle_predicts_evaluates_and_trains_elsewhere_with_its_own_code(
    packed: Path, tiny_run: Run, tmp_path: Path, python: Callable[..., Started]
):
    patient = tiny_run.data / "BraTS20_Training_002"
    split = tiny_run.folder / "split.json"
    ended = python("-c", RUN_THE_PACK, packed, tiny_run.data, patient, split, cwd=tmp_path)
    assert ended.status == 0, ended.stderr
    files = ended.stdout.rpartition("imported from\n")[2].split()
    assert [Path(file).parents[1] for file in files] == [packed] * 3
    record = json.loads((tmp_path / "prediction" / patient.name / f"{patient.name}_seg.json").read_text())
    assert record["settings"]["input"]["size_px"] == 64  # the run's, not the 128 of the repository's configuration
    assert voxels(tmp_path / "prediction" / patient.name / f"{patient.name}_seg.nii.gz").shape == (120, 120, 155)
    assert (tmp_path / "prediction" / patient.name / f"{patient.name}_report.html").exists()
    assert len((tmp_path / "evaluation" / "per_case.csv").read_text().splitlines()) == 1 + 6  # regions and classes
    assert len(rows_of(tmp_path / "run")) == 1


@pytest.mark.slow
@pytest.mark.timeout(30 * MINUTES)
def test_a_packed_bundle_needs_only_the_packages_that_its_metadata_name(packed: Path, tiny_run: Run, tmp_path: Path):
    venv.create(tmp_path / "venv", with_pip=True)
    fresh = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    metadata = json.loads((packed / "configs" / "metadata.json").read_text())
    named = {"monai": "monai", "torch": "pytorch", "numpy": "numpy"}
    wanted = {package: metadata[f"{key}_version"] for package, key in named.items()}
    wanted |= metadata["required_packages_version"]
    constraints = REPOSITORY / "constraints.txt"
    constrained = ["-c", str(constraints)] if constraints.exists() else []
    requirements = [f"{package}=={version}" for package, version in wanted.items()]
    subprocess.run([fresh, "-m", "pip", "install", "-q", *constrained, *requirements], check=True)
    patient = tiny_run.data / "BraTS20_Training_002"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    arguments = [packed, tiny_run.data, patient, tiny_run.folder / "split.json"]
    ended = subprocess.run(
        [fresh, "-c", RUN_THE_PACK, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "prediction" / patient.name / f"{patient.name}_seg.nii.gz").exists()
    assert (tmp_path / "evaluation" / "summary.json").exists()
    assert (tmp_path / "run" / "model.pt").exists()


# ---------------------------------------------------------------------------------------------------------------------
# As a newcomer does it


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.mark.slow
@pytest.mark.timeout(15 * MINUTES)
def test_the_first_command_of_a_clone_trains_within_ten_minutes_and_leaves_it_clean(tmp_path: Path):
    if not (REPOSITORY / ".git").exists():
        pytest.skip("this is no clone")
    clone = tmp_path / "clone"
    for name in git(REPOSITORY, "ls-files", "-z").split("\0"):
        if name and (REPOSITORY / name).is_file():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, clone / name)
    git(clone, "init", "-q")
    git(clone, "add", "-A")
    git(clone, "-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "-q", "-m", "a clone")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ended = subprocess.run(
        [sys.executable, "-m", *FIRST_COMMAND],
        cwd=clone,
        env={**environment, "XDG_CACHE_HOME": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        timeout=10 * MINUTES,
    )
    assert ended.returncode == 0, ended.stderr
    assert git(clone, "status", "--porcelain") == ""
    run_dir = next((clone / "runs").iterdir())
    assert (run_dir / "model.pt").exists()
    assert len(rows_of(run_dir)) > 1


def best_threshold_dice(flairs: list[np.ndarray], tumours: list[np.ndarray]) -> float:
    """Mean whole-tumour Dice of the best single threshold on FLAIR divided by its mean in the brain."""

    def dice(mask: np.ndarray, tumour: np.ndarray) -> float:
        return 2 * np.count_nonzero(mask & tumour) / (np.count_nonzero(mask) + np.count_nonzero(tumour))

    scaled = [flair / flair[flair > 0].mean() for flair in flairs]
    thresholds = np.linspace(1, 3, 81)
    return max(np.mean([dice(s > t, tumour) for s, tumour in zip(scaled, tumours, strict=True)]) for t in thresholds)


@pytest.mark.slow
@pytest.mark.timeout(30 * MINUTES)
def test_the_demo_beats_every_threshold_and_is_not_done_twice(tmp_path: Path, python: Callable[..., Started]):
    first = python("-m", "workflows", "demo", "--out", "demo", cwd=tmp_path)
    assert first.status == 0, first.stderr
    demo = tmp_path / "demo"
    with (demo / "evaluation" / "per_case.csv").open() as table:
        whole = {row["case"]: float(row["dice"]) for row in csv.DictReader(table) if row["region"] == "WT"}
    folders = [demo / "data" / case for case in whole]
    flairs = [voxels(folder / f"{folder.name}_flair.nii.gz") for folder in folders]
    tumours = [voxels(folder / f"{folder.name}_seg.nii.gz") > 0 for folder in folders]
    mean, threshold = np.mean(list(whole.values())), best_threshold_dice(flairs, tumours)
    print(f"mean whole-tumour Dice {mean:.3f}, best FLAIR threshold {threshold:.3f}")
    assert mean >= 0.75
    assert mean > threshold
    before = listing(demo)
    second = python("-m", "workflows", "demo", "--out", "demo", cwd=tmp_path)
    assert second.status == 0, second.stderr
    assert second.stdout.count("is there, skipped") == 6
    assert listing(demo) == before
