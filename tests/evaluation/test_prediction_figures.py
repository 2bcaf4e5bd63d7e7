"""Figures of predicted test cases: which cases and slices, in which order, and what they show."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from tests.support import Run, Started
from workflows.evaluation.prediction_figures import (
    SLICES_APART,
    SliceFigures,
    SliceOfCase,
    chosen,
    save_slice,
    worst_slices,
)
from workflows.image_files.oriented import Plane
from workflows.messages.errors import ConfigurationError

Command = Callable[..., Started]
CASES = [{"case": name} for name in ("A", "B", "C", "D")]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def only_case_to_test(run: Run) -> str:
    (case,) = json.loads((run.folder / "split.json").read_text())["testing"]
    return case["case"]


# ---------------------------------------------------------------------------------------------------------------------
# Which cases and slices


def test_named_cases_come_in_their_order_and_once():
    assert [case["case"] for case in chosen(CASES, ["C", "A", "C"], None, 0)] == ["C", "A"]


def test_random_cases_are_distinct_and_follow_from_the_seed():
    drawn = [case["case"] for case in chosen(CASES, None, 3, seed=1)]
    assert len(set(drawn)) == 3
    assert drawn == [case["case"] for case in chosen(CASES, None, 3, seed=1)]
    assert len({tuple(c["case"] for c in chosen(CASES, None, 3, seed=seed)) for seed in range(20)}) > 1
    assert chosen(CASES, None, 99, 0) != [] and len(chosen(CASES, None, 99, 0)) == 4


def test_without_names_and_count_all_cases_are_drawn():
    assert chosen(CASES, None, None, 0) == CASES


@pytest.mark.parametrize(
    ("wanted", "count", "complaint"), [(["A", "X"], None, "^X: not in this section; it has A, B"), (None, 0, "count")]
)
def test_a_case_that_is_not_there_is_named_with_those_that_are(
    wanted: list[str] | None, count: int | None, complaint: str
):
    with pytest.raises(ConfigurationError, match=complaint):
        chosen(CASES, wanted, count, 0)


def mask_with(plane: Plane, **voxels_in_slice: int) -> np.ndarray:
    """40×40×40 voxels, so many of them set in slices named s0 … s39."""
    mask = np.zeros((40, 40, 40), bool)
    for name, count in voxels_in_slice.items():
        moved = np.moveaxis(mask, plane.axis, 0)
        moved[int(name[1:])].flat[:count] = True
    return mask


@pytest.mark.parametrize("plane", list(Plane))
def test_the_slices_with_most_false_positives_come_first_and_no_two_are_neighbours(plane: Plane):
    false = mask_with(plane, s3=5, s20=30, s21=29, s35=12)
    assert worst_slices(false, false, plane, 1) == [20]
    assert worst_slices(false, false, plane, 9) == [20, 35, 3]
    assert SLICES_APART > 1


def test_a_case_without_false_positives_shows_the_slice_with_most_tumour():
    tumour = mask_with(Plane.axial, s7=3, s9=8)
    assert worst_slices(np.zeros_like(tumour), tumour, Plane.axial, 3) == [9]


def slice_with(case: str, false_positives: int, volume_ml: float) -> SliceOfCase:
    scan = np.zeros((8, 6))
    scan[2:6, 1:5] = 7
    labels = np.zeros((8, 6), np.uint8)
    return SliceOfCase(
        *(case, Plane.axial, false_positives, 1.0, {"flair": scan, "t1ce": scan}),
        *(labels, labels, np.full((4, 8, 6), 0.25), false_positives, volume_ml),
    )


def test_files_are_numbered_by_the_false_positives_of_the_case_and_then_of_the_slice(tmp_path: Path):
    figures = SliceFigures(tmp_path, [], ("flair", "t1ce"))
    figures.slices = [slice_with("few", 5, 1.0), slice_with("many", 3, 2.0), slice_with("many", 9, 2.0)]
    figures._draw()
    assert names(tmp_path) == ["01_many_axial_009.png", "02_many_axial_003.png", "03_few_axial_005.png"]


def test_a_slice_without_brain_is_drawn_too(tmp_path: Path):
    shown = slice_with("empty", 0, 0.0)
    shown.scans["flair"][:], shown.scans["t1ce"][:] = 0, 0
    assert save_slice(shown, tmp_path / "empty.png").read_bytes().startswith(b"\x89PNG")


# ---------------------------------------------------------------------------------------------------------------------
# Of a run


@pytest.fixture(scope="module")
def predicted(tiny_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The label map that `predict` writes of the run's test case."""
    from workflows.prediction.predict import predict

    case, out = only_case_to_test(tiny_run), tmp_path_factory.mktemp("predicted")
    named = {"checkpoint": str(tiny_run.checkpoint), "patient_dir": str(tiny_run.data / case)}
    predict([], {**named, "output_dir": str(out), "device": "cpu", "runtime": "torch"})  # as `figures` computes
    return out / case / f"{case}_seg.nii.gz"


@pytest.mark.parametrize("plane", list(Plane))
def test_the_slice_drawn_is_the_worst_of_the_label_map_that_predict_writes(
    plane: Plane, predicted: Path, tiny_run: Run, command: Command, tmp_path: Path
):
    case = only_case_to_test(tiny_run)
    ended = command("figures", tiny_run.folder, "--out", tmp_path / "out", "--plane", plane.value, "--device", "cpu")
    assert ended.status == 0, ended.stderr
    prediction = nib.load(predicted)
    assert nib.aff2axcodes(prediction.affine) == ("L", "P", "S")
    reference = np.asarray(nib.load(tiny_run.data / case / f"{case}_seg.nii.gz").dataobj)
    false = (np.asarray(prediction.dataobj) != 0) & (reference == 0)
    per_slice = false.sum(tuple(axis for axis in range(3) if axis != plane.axis))
    assert per_slice.max() > 0
    (file,) = names(tmp_path / "out")
    assert file.startswith(f"01_{case}_{plane.value}_")
    assert per_slice[int(file[-7:-4])] == per_slice.max()
    assert f"{false.sum() * 4 / 1000:.1f} ml of false positives" in ended.stdout  # voxels of 2×2×1 mm


def test_a_case_stored_in_another_orientation_gives_the_same_picture(tiny_run: Run, command: Command, tmp_path: Path):
    case = only_case_to_test(tiny_run)
    data = Path(shutil.copytree(tiny_run.data, tmp_path / "data"))
    for file in (data / case).glob("*.nii.gz"):
        image = nib.load(file)
        wanted = nib.orientations.axcodes2ornt(("S", "R", "A"))
        turn = nib.orientations.ornt_transform(nib.orientations.io_orientation(image.affine), wanted)
        nib.save(image.as_reoriented(turn), file)
    fixed = ("--plane", "coronal", "--slice", 70, "--device", "cpu")
    for name, folder in (("here", tiny_run.data), ("there", data)):
        ended = command("figures", tiny_run.folder, "--dataset-dir", folder, "--out", tmp_path / name, *fixed)
        assert ended.status == 0, ended.stderr
    file = f"01_{case}_coronal_070.png"
    with Image.open(tmp_path / "here" / file) as here, Image.open(tmp_path / "there" / file) as there:
        assert here.size == there.size
        assert np.abs(np.asarray(here, float) - np.asarray(there, float)).mean() < 0.05


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--slice", 155), "has no axial slice 155; they go from 0 to 154."),
        (("--plane", "sagittal", "--slice", 120), "has no sagittal slice 120; they go from 0 to 119."),
        (("--cases", "BraTS20_Training_999"), "BraTS20_Training_999: not in this section"),
        (("--dataset-dir", "missing"), "missing"),
    ],
)
def test_what_cannot_be_drawn_ends_in_one_line_and_leaves_nothing(
    options: tuple[object, ...], complaint: str, tiny_run: Run, command: Command, tmp_path: Path
):
    ended = command("figures", tiny_run.folder, "--out", tmp_path / "out", *options, "--device", "cpu")
    assert ended.status == 1
    assert ended.stderr.startswith("error: ") and complaint in ended.stderr.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_a_folder_without_weights_is_no_run(command: Command, tmp_path: Path):
    ended = command("figures", tmp_path, "--out", tmp_path / "out")
    assert ended.status == 1
    assert ended.stderr.startswith(f"error: {tmp_path / 'model.pt'}: no such weights")
