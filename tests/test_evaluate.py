"""Scores are those of the label maps as written, on the patients' own grids."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from conftest import Run, Started

from transforms.labels import REGIONS
from workflows.evaluate import run_evaluation
from workflows.scores import region_dice

VALUES = {"WT": (1, 2, 4), "TC": (1, 4), "ET": (4,)}  # in the files
VOXEL_ML = 2 * 2 * 1 / 1000


@pytest.fixture(scope="module")
def evaluated(tiny_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The test section of the tiny run: data and split are the run's own."""
    out = tmp_path_factory.mktemp("evaluated") / "out"
    run_evaluation([], {"checkpoint": str(tiny_run.checkpoint), "output_dir": str(out), "device": "cpu"})
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


def test_every_case_of_the_section_has_a_row_for_every_region(tiny_run: Run, evaluated: Path):
    rows = rows_of(evaluated)
    assert list(rows[0]) == ["case", "region", "dice", "volume_ml", "reference_ml"]
    cases = section_of(tiny_run, "testing")
    assert [(row["case"], row["region"]) for row in rows] == [(case, region) for case in cases for region in REGIONS]


def test_scores_and_volumes_follow_from_the_files_on_disk(tiny_run: Run, evaluated: Path):
    for row in rows_of(evaluated):
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
    assert {row["region"]: float(row["dice"]) for row in rows_of(evaluated)} == pytest.approx(expected)


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
    assert f"mean of {len(cases)}" in ended.stdout


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
    network = ("--size_px", 32, "--network_def#width", 4)
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
