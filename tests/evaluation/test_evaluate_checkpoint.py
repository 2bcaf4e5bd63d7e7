"""Scores are those of the label maps as written, on the patients' own grids."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import nibabel as nib
import numpy as np
import pytest
import torch
from scipy import ndimage

from networks.packed import PackedUNet
from tests.support import REPOSITORY, Run, Started
from transforms.labels import REGIONS
from transforms.regions import background_outside_brain
from workflows.evaluation.evaluate_checkpoint import run_evaluation
from workflows.evaluation.study_published import STUDY_FIGURES
from workflows.phantom.phantom import generate_dataset
from workflows.scoring.per_case_csv import COLUMNS
from workflows.scoring.pixel_sums import region_dice
from workflows.scoring.score_case import SCORED
from workflows.training.train import train

VALUES = {"WT": (1, 2, 4), "TC": (1, 4), "ET": (4,)}  # in the files
VOXEL_ML = 2 * 2 * 1 / 1000


@pytest.fixture(scope="module")
def evaluated(tiny_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The test section of the tiny run: data and split are the run's own."""
    out = tmp_path_factory.mktemp("evaluated") / "out"
    settings = {"device": "cpu", "largest_component_only": False, "expected_dice": False}
    run_evaluation([], {"checkpoint": str(tiny_run.checkpoint), "output_dir": str(out), **settings})
    return out


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "per_case.csv").open() as table:
        return list(csv.DictReader(table))


def voxels(file: Path) -> np.ndarray:
    return np.asarray(nib.load(file).dataobj)


def reference_of(run: Run, case: str) -> np.ndarray:
    return voxels(run.data / case / f"{case}_seg.nii.gz")


def section_of(run: Run, section: str) -> list[str]:
    return [entry["case"] for entry in json.loads((run.folder / "split.json").read_text())[section]]


def test_every_case_of_the_section_has_a_row_for_every_region_and_class(tiny_run: Run, evaluated: Path):
    rows = rows_of(evaluated)
    assert list(rows[0]) == list(COLUMNS)
    cases = section_of(tiny_run, "testing")
    assert [(row["case"], row["region"]) for row in rows] == [(case, name) for case in cases for name in SCORED]


def test_scores_and_volumes_follow_from_the_files_on_disk(tiny_run: Run, evaluated: Path):
    for row in (row for row in rows_of(evaluated) if row["region"] in REGIONS):
        prediction = voxels(evaluated / row["case"] / f"{row['case']}_seg.nii.gz")
        masks = [np.isin(labels, VALUES[row["region"]]) for labels in (prediction, reference_of(tiny_run, row["case"]))]
        both, sizes = np.count_nonzero(masks[0] & masks[1]), [np.count_nonzero(mask) for mask in masks]
        assert float(row["dice"]) == pytest.approx(2 * both / sum(sizes))
        assert float(row["volume_ml"]) == pytest.approx(sizes[0] * VOXEL_ML)
        assert float(row["reference_ml"]) == pytest.approx(sizes[1] * VOXEL_ML)


def test_scores_are_those_of_region_dice(tiny_run: Run, evaluated: Path):
    case = section_of(tiny_run, "testing")[0]
    files = (voxels(evaluated / case / f"{case}_seg.nii.gz"), reference_of(tiny_run, case))
    prediction, reference = (torch.from_numpy(np.where(v == 4, 3, v).astype(np.uint8))[None] for v in files)
    expected = region_dice(prediction, reference)
    scored = {row["region"]: float(row["dice"]) for row in rows_of(evaluated) if row["region"] in REGIONS}
    assert scored == pytest.approx(expected)


def test_the_summary_holds_the_means(tiny_run: Run, evaluated: Path):
    summary, rows = json.loads((evaluated / "summary.json").read_text()), rows_of(evaluated)
    assert summary["cases"] == len(section_of(tiny_run, "testing"))
    for region in REGIONS:
        scores = [float(row["dice"]) for row in rows if row["region"] == region]
        assert summary["mean_dice"][region] == pytest.approx(np.mean(scores))


def test_the_command_evaluates_another_section_and_prints_a_table(
    tiny_run: Run, tmp_path: Path, command: Callable[..., Started]
):
    ended = command(
        *("evaluate", "--checkpoint", tiny_run.checkpoint, "--out", tmp_path, "--section", "validation"),
        *("--device", "cpu"),
    )
    assert ended.status == 0, ended.stderr
    cases = section_of(tiny_run, "validation")
    assert list(dict.fromkeys(row["case"] for row in rows_of(tmp_path))) == cases
    assert cases[0] in ended.stdout
    assert "One case scored." in ended.stdout


def summary_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "summary.json").read_text())


def test_the_summary_keeps_to_its_schema(evaluated: Path):
    schema = json.loads((REPOSITORY / "docs" / "summary.schema.json").read_text())
    jsonschema.validate(summary_of(evaluated), schema)


def test_the_studys_figures_stand_beside_honest_ones_for_the_same_predictions(evaluated: Path):
    study = summary_of(evaluated)["study"]
    assert [line["figure"] for line in study["figures"]] == list(STUDY_FIGURES)
    honest = {line["figure"]: line["honest_value"] for line in study["figures"]}
    rows = rows_of(evaluated)
    assert honest["study_dice"] == pytest.approx(np.mean([float(r["dice"]) for r in rows if r["region"] in REGIONS]))
    assert honest["precision"] == pytest.approx(np.mean([float(r["precision"]) for r in rows if r["region"] == "WT"]))


def test_the_studys_loss_is_the_cross_entropy_of_the_network_on_its_own_slices(tiny_run: Run, evaluated: Path):
    from transforms.inputs import AxialWindow
    from transforms.pipelines import training_preprocessing
    from transforms.soft_labels import expand_labels

    split = json.loads((tiny_run.folder / "split.json").read_text())
    entry = split["testing"][0]
    chain = training_preprocessing(AxialWindow(size_px=64), {0: 0, 1: 1, 2: 2, 4: 3})
    files = {
        "image": [tiny_run.data / entry[name] for name in ("flair", "t1ce")],
        "label": tiny_run.data / entry["label"],
    }
    sample = chain(files)
    network = PackedUNet(in_channels=2, out_channels=4, width=4).eval()
    network.load_state_dict(torch.load(tiny_run.checkpoint, weights_only=True))
    image = sample["image"].float()
    with torch.no_grad():
        probabilities = background_outside_brain(network(image).softmax(1), image, channel_dim=1)
    loss = torch.nn.functional.nll_loss(probabilities.clamp(min=1e-7).log(), expand_labels(sample["label"]).argmax(1))
    shown = {line["figure"]: line["value"] for line in summary_of(evaluated)["study"]["figures"]}
    assert shown["loss"] == pytest.approx(float(loss), rel=1e-3)  # the training cache holds 16 bits


def test_false_positives_follow_from_the_files_on_disk(tiny_run: Run, evaluated: Path):
    case = section_of(tiny_run, "testing")[0]
    prediction = voxels(evaluated / case / f"{case}_seg.nii.gz") > 0
    without = ~(reference_of(tiny_run, case) > 0).any(axis=(0, 1))
    stated = summary_of(evaluated)["false_positives"]["by_argmax"][case]
    assert stated["slices_without_tumour"] == without.sum()
    assert stated["false_slices"] == prediction.any(axis=(0, 1))[without].sum()
    assert stated["invented_ml"] == pytest.approx(prediction[:, :, without].sum() * VOXEL_ML)


def test_each_post_processing_step_is_shown_and_scored_alone_and_written(tiny_run: Run, tmp_path: Path):
    settings = {"smallest_component_mm3": 100, "largest_component_only": True, "device": "cpu"}
    run_evaluation([], {"checkpoint": str(tiny_run.checkpoint), "output_dir": str(tmp_path), **settings})
    steps = summary_of(tmp_path)["post_processing"]["after_each_step"]
    assert list(steps) == ["argmax", "small components", "largest component", "expected dice"]
    *invented, _ = (step["invented_ml"] for step in steps.values())
    assert invented == sorted(invented, reverse=True)
    assert steps["expected dice"]["wt_dice"] == pytest.approx(summary_of(tmp_path)["mean_dice"]["WT"])
    assert steps["expected dice"]["wt_dice"] != steps["largest component"]["wt_dice"]
    case = section_of(tiny_run, "testing")[0]
    written = voxels(tmp_path / case / f"{case}_seg.nii.gz") > 0
    assert ndimage.label(written, np.ones((3, 3, 3)))[1] == 1


def test_a_window_that_leaves_the_volume_leaves_the_case_out_of_the_studys_table_alone(
    tiny_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    settings = {"input#slice_range": [60, 300], "device": "cpu"}
    run_evaluation([], {"checkpoint": str(tiny_run.checkpoint), "output_dir": str(tmp_path), **settings})
    assert summary_of(tmp_path)["study"] == {"cases": 0, "figures": []}
    assert "left out of the study's table" in capsys.readouterr().out
    assert rows_of(tmp_path)


# ---------------------------------------------------------------------------------------------------------------------
# One name, one number


@pytest.fixture(scope="module")
def run_on_its_own_grid(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """One epoch on three patients of 120×112×155 voxels cut to 112×112×80, all of it in the window: data, run."""
    folder = tmp_path_factory.mktemp("own_grid")
    generate_dataset(folder / "whole", cases=3, size="small", workers=1)
    for file in sorted((folder / "whole").glob("*/*.nii.gz")):
        image = nib.load(file).slicer[4:116, 4:116, 50:130]
        (folder / "data" / file.parent.name).mkdir(parents=True, exist_ok=True)
        nib.save(image, folder / "data" / file.parent.name / file.name)
    window = {"_target_": "transforms.inputs.AxialWindow", "size_px": 112, "slice_range": [0, 80]}
    settings = {"input": window, "network_def#width": 4, "max_epochs": 1, "device": "cpu"}
    train(["axial"], {"dataset_dir": str(folder / "data"), "run_dir": str(folder / "run"), **settings})
    return folder / "data", folder / "run"


def test_wt_dice_is_one_number_in_training_evaluation_and_two_folders(
    run_on_its_own_grid: tuple[Path, Path], tmp_path: Path, command: Callable[..., Started]
):
    data, run = run_on_its_own_grid
    out = tmp_path / "evaluation"
    argmax = {"largest_component_only": False, "expected_dice": False}
    settings = {"section": "validation", "device": "cpu", "output_dir": str(out), **argmax}
    run_evaluation([], {"checkpoint": str(run / "model.pt"), **settings})
    (case,) = (entry["case"] for entry in json.loads((run / "split.json").read_text())["validation"])
    shutil.copytree(data / case, tmp_path / "references" / case, ignore=shutil.ignore_patterns("*_t*", "*_flair*"))
    folders = ("--predictions", out / case, "--references", tmp_path / "references")
    assert command("evaluate", *folders, "--out", tmp_path / "folders").status == 0

    files = [voxels(out / case / f"{case}_seg.nii.gz"), voxels(data / case / f"{case}_seg.nii.gz")]
    prediction, reference = (torch.from_numpy(np.where(v == 4, 3, v).astype(np.uint8))[None] for v in files)
    with (run / "training.log").open() as log:
        trained = next(csv.DictReader(log))
    for region, dice in region_dice(prediction, reference).items():
        assert 0 < dice < 1
        assert float(trained[f"val_{region.lower()}_dice"]) == pytest.approx(dice, abs=1e-9)
        for folder in (out, tmp_path / "folders"):
            (row,) = (row for row in rows_of(folder) if row["region"] == region)
            assert float(row["dice"]) == pytest.approx(dice, abs=1e-9)
            assert summary_of(folder)["mean_dice"][region] == pytest.approx(dice, abs=1e-9)


# ---------------------------------------------------------------------------------------------------------------------
# What is wrong


def one_line(ended: Started) -> str:
    assert ended.status == 1, ended
    assert ended.stderr.count("\n") == 1, ended.stderr
    return ended.stderr.removeprefix("error: ").strip()


def test_an_unknown_section_names_those_there_are(tiny_run: Run, tmp_path: Path, command: Callable[..., Started]):
    ended = command("evaluate", "--checkpoint", tiny_run.checkpoint, "--out", tmp_path, "--section", "test")
    assert one_line(ended) == "no section 'test'; there are training, validation, testing."


def test_a_missing_split_is_one_line(tiny_run: Run, tmp_path: Path, command: Callable[..., Started]):
    ended = command(
        *("evaluate", "--checkpoint", tiny_run.checkpoint, "--out", tmp_path / "out"),
        *("--split", tmp_path / "missing.json"),
    )
    assert one_line(ended).startswith(f"{tmp_path / 'missing.json'}: no such datalist")
    assert list(tmp_path.iterdir()) == []


def test_weights_away_from_their_run_need_data_and_split(
    tiny_run: Run, tmp_path: Path, command: Callable[..., Started]
):
    alone = shutil.copy(tiny_run.checkpoint, tmp_path / "alone.pt")
    network = ("--input#size_px", 64, "--network_def#width", 4, "--input#mirrored", False)
    ended = command("evaluate", "--checkpoint", alone, "--out", tmp_path / "out", *network)
    assert one_line(ended).startswith("evaluation needs --dataset_dir DIR and --split_file FILE")


def test_an_empty_section_is_one_line(tiny_run: Run, tmp_path: Path, command: Callable[..., Started]):
    split = json.loads((tiny_run.folder / "split.json").read_text())
    file = tmp_path / "split.json"
    file.write_text(json.dumps({**split, "testing": []}))
    ended = command("evaluate", "--checkpoint", tiny_run.checkpoint, "--out", tmp_path / "out", "--split", file)
    assert one_line(ended) == f"{file}: the section testing is empty."


def test_a_segmentation_on_another_grid_is_named(tiny_run: Run, tmp_path: Path, command: Callable[..., Started]):
    data = tmp_path / "data"
    shutil.copytree(tiny_run.data, data)
    case = section_of(tiny_run, "testing")[0]
    seg = data / case / f"{case}_seg.nii.gz"
    image = nib.load(seg)
    nib.save(image.slicer[:-1], seg)
    ended = command("evaluate", "--checkpoint", tiny_run.checkpoint, "--out", tmp_path / "out", "--dataset-dir", data)
    assert one_line(ended) == (
        f"{case}: {seg}: has 119×120×155 voxels, its images 120×120×155; give the one that belongs to it."
    )
