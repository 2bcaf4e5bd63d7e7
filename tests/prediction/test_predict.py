"""A prediction lies on the patient's own grid and says how it was made."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from tests.support import Run, Started
from transforms.labels import CLASS_NAMES
from workflows.pictures.colours import CLASS_COLOURS
from workflows.prediction.predict import patients, predict
from workflows.settings.checkpoints import MODEL_CARD

VOXEL_ML = 2 * 2 * 1 / 1000
COLUMNS = ["case", "necrotic_core", "oedema", "enhancing_tumour", "WT", "TC", "ET"]


def run(checkpoint: Path, folder: Path, out: Path, **overrides: Any) -> Path:
    """Predict in this process, and give `out`."""
    named = {"checkpoint": str(checkpoint), "patient_dir": str(folder), "output_dir": str(out), "device": "cpu"}
    argmax = {"largest_component_only": False, "expected_dice": False}
    predict([], {"report": False, **argmax, **named, **overrides})
    return out


def load(file: Path) -> tuple[np.ndarray, nib.Nifti1Image]:
    image = nib.load(file)
    return np.asarray(image.dataobj), image


def label_map(out: Path, case: str) -> np.ndarray:
    return load(out / case / f"{case}_seg.nii.gz")[0]


def volumes(out: Path) -> dict[str, dict[str, str]]:
    with (out / "volumes.csv").open() as table:
        return {row["case"]: row for row in csv.DictReader(table)}


@pytest.fixture(scope="module")
def unlabelled(phantom_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two patients with FLAIR and T1ce only: P1 with unusual form codes, P2 uncompressed."""
    folder = tmp_path_factory.mktemp("unlabelled")
    for name, number, ending in (("P1", 1, ".nii.gz"), ("P2", 2, ".nii")):
        (folder / name).mkdir()
        for modality in ("flair", "t1ce"):
            image = nib.load(
                phantom_dir / f"BraTS20_Training_00{number}" / f"BraTS20_Training_00{number}_{modality}.nii.gz"
            )
            if name == "P1":
                image.set_sform(image.affine, code=4)
                image.set_qform(image.affine, code=0)
            nib.save(image, folder / name / f"{name}_{modality}{ending}")
    return folder


@pytest.fixture(scope="module")
def predicted(tiny_run: Run, unlabelled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both patients predicted in one go, with probabilities and reports."""
    out, shown = tmp_path_factory.mktemp("predicted") / "out", {"save_probabilities": True, "report": True}
    return run(tiny_run.checkpoint, unlabelled, out, **shown)


def test_a_prediction_in_a_thread_is_the_same(tiny_run: Run, predicted: Path, unlabelled: Path, tmp_path: Path):
    with ThreadPoolExecutor(1) as thread:
        thread.submit(run, tiny_run.checkpoint, unlabelled / "P1", tmp_path).result()
    assert np.array_equal(label_map(tmp_path, "P1"), label_map(predicted, "P1"))


def test_a_tumour_that_is_kept_grows_and_what_is_removed_stays_away(
    tiny_run: Run, predicted: Path, unlabelled: Path, tmp_path: Path
):
    out = run(tiny_run.checkpoint, unlabelled / "P1", tmp_path, largest_component_only=True, expected_dice=True)
    by_argmax, left = (label_map(of, "P1") > 0 for of in (predicted, out))
    parts, _ = ndimage.label(by_argmax, np.ones((3, 3, 3)))
    largest = parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])
    assert 0 < largest.sum() < by_argmax.sum()
    assert left[largest].all() and left.sum() > largest.sum()
    assert not left[by_argmax & ~largest].any()
    record = json.loads((out / "P1" / "P1_seg.json").read_text())
    assert record["removed_by_post_processing_ml"] == pytest.approx((by_argmax & ~largest).sum() * VOXEL_ML)
    assert record["volumes_ml"]["WT"] == pytest.approx(left.sum() * VOXEL_ML)


def test_weights_with_a_card_beside_them_are_named_by_it_and_what_was_removed_is_said(
    tiny_run: Run, unlabelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    weights = tmp_path / "weights"
    weights.mkdir()
    for name in ("model.pt", "config.json"):
        shutil.copy(tiny_run.folder / name, weights / name)
    (weights / MODEL_CARD).write_text("# Starter weights")
    out = run(weights / "model.pt", unlabelled / "P1", tmp_path / "out", largest_component_only=True)
    said = capsys.readouterr().out
    assert f"starter weights, made from few patients: see {weights / MODEL_CARD}; name your own" in said
    record = json.loads((out / "P1" / "P1_seg.json").read_text())
    assert record["removed_by_post_processing_ml"] > 0
    assert f", after {record['removed_by_post_processing_ml']:.1f} ml elsewhere were removed" in said


def test_a_folder_of_patients_gives_a_folder_for_each(predicted: Path):
    assert {str(path.relative_to(predicted)) for path in predicted.rglob("*") if path.is_file()} == {
        *(
            f"{case}/{case}_{name}"
            for case in ("P1", "P2")
            for name in ("seg.nii.gz", "seg.json", "probabilities.nii.gz", "report.html", "thumbnail.png")
        ),
        *("volumes.csv", "index.html", "colours_3d_slicer.ctbl", "colours_itk_snap.label"),
    }


@pytest.mark.parametrize(("case", "ending"), [("P1", ".nii.gz"), ("P2", ".nii")])
def test_a_label_map_has_the_geometry_of_its_source(predicted: Path, unlabelled: Path, case: str, ending: str):
    labels, image = load(predicted / case / f"{case}_seg.nii.gz")
    source = nib.load(unlabelled / case / f"{case}_flair{ending}")
    assert image.shape == source.shape == (120, 120, 155)
    assert np.array_equal(image.affine, source.affine)
    for field in ("sform_code", "qform_code", "xyzt_units"):
        assert image.header[field] == source.header[field], field
    assert image.get_data_dtype() == np.uint8
    assert set(np.unique(labels)) <= {0, 1, 2, 4}
    assert labels.any()


def test_a_record_says_how_the_label_map_was_made(predicted: Path, tiny_run: Run):
    record = json.loads((predicted / "P1" / "P1_seg.json").read_text())
    assert record["checkpoint_sha256"] == hashlib.sha256(tiny_run.checkpoint.read_bytes()).hexdigest()
    assert (record["case"], record["label_map"], record["shape"]) == ("P1", "P1_seg.nii.gz", [120, 120, 155])
    assert record["labels"] == {"1": "necrotic core", "2": "oedema", "4": "enhancing tumour"}
    assert record["settings"]["input"]["modalities"] == ["flair", "t1ce"]
    assert record["versions"] == {name: version(name) for name in record["versions"]}
    assert {"monai", "torch", "numpy", "nibabel", "pytorch-ignite"} == record["versions"].keys()
    assert record["use"] == "research use only, not a medical device"


def test_the_settings_of_the_run_are_taken_over(predicted: Path):
    settings = json.loads((predicted / "P1" / "P1_seg.json").read_text())["settings"]
    assert (settings["input"]["size_px"], settings["network"]) == (
        64,
        "PackedUNet",
    )  # 128 in inference.json, and of width 32


def test_volumes_are_voxels_times_their_volume(predicted: Path):
    table = volumes(predicted)
    assert [list(row) for row in table.values()] == [COLUMNS, COLUMNS]
    for case, row in table.items():
        labels = label_map(predicted, case)
        core, oedema, enhancing = (np.count_nonzero(labels == value) * VOXEL_ML for value in (1, 2, 4))
        expected = [core, oedema, enhancing, core + oedema + enhancing, core + enhancing, enhancing]
        assert [float(row[column]) for column in COLUMNS[1:]] == pytest.approx(expected, abs=5e-4)
        record = json.loads((predicted / case / f"{case}_seg.json").read_text())
        assert list(record["volumes_ml"].values()) == pytest.approx(expected)


def test_probabilities_sum_to_one_and_their_largest_is_the_label(predicted: Path, unlabelled: Path):
    probabilities, image = load(predicted / "P1" / "P1_probabilities.nii.gz")
    assert probabilities.shape == (120, 120, 155, 4)
    assert image.get_data_dtype() == np.float32
    assert np.array_equal(image.affine, nib.load(unlabelled / "P1" / "P1_flair.nii.gz").affine)
    np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-5)
    values = np.array([0, 1, 2, 4], np.uint8)
    assert np.array_equal(values[probabilities.argmax(-1)], label_map(predicted, "P1"))


def test_the_colour_tables_hold_every_class_under_its_value(predicted: Path):
    expected = {value: (CLASS_NAMES[index], tuple(CLASS_COLOURS[index])) for index, value in ((1, 1), (2, 2), (3, 4))}
    slicer = (predicted / "colours_3d_slicer.ctbl").read_text().splitlines()
    fields = [line.split() for line in slicer if not line.startswith("#")]
    assert all(len(line) == 6 for line in fields)
    read = {int(value): (name.replace("_", " "), tuple(map(int, rgb))) for value, name, *rgb, _ in fields}
    assert read == {0: ("background", (0, 0, 0)), **expected}
    snap = (predicted / "colours_itk_snap.label").read_text().splitlines()
    rows = [
        re.fullmatch(r'\s*(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s+([\d.]+)\s+[01]\s+[01]\s+"(.+)"', line) for line in snap[1:]
    ]
    read = {int(row[1]): (row[6], (int(row[2]), int(row[3]), int(row[4]))) for row in rows if row}
    assert len(rows) == len(read)
    assert read == {0: ("Clear Label", (0, 0, 0)), **expected}


def test_enhancing_tumour_is_3_on_request(tiny_run: Run, unlabelled: Path, predicted: Path, tmp_path: Path):
    out = run(tiny_run.checkpoint, unlabelled / "P1", tmp_path, et_label=3)
    labels = label_map(out, "P1")
    assert set(np.unique(labels)) <= {0, 1, 2, 3}
    before = label_map(predicted, "P1")
    assert np.array_equal(labels, np.where(before == 4, 3, before))
    assert "enhancing tumour" in json.loads((out / "P1" / "P1_seg.json").read_text())["labels"]["3"]
    assert "    3 " in (out / "colours_itk_snap.label").read_text()


def test_rows_of_earlier_predictions_are_kept(tiny_run: Run, unlabelled: Path, predicted: Path, tmp_path: Path):
    for case in ("P2", "P1", "P2"):
        run(tiny_run.checkpoint, unlabelled / case, tmp_path)
    assert list(volumes(tmp_path)) == ["P1", "P2"]
    assert volumes(tmp_path) == volumes(predicted)


@pytest.mark.parametrize("slices_per_batch", [1, 7, 155])
def test_a_prediction_does_not_depend_on_how_slices_are_batched(
    slices_per_batch: int, tiny_run: Run, unlabelled: Path, predicted: Path, tmp_path: Path
):
    out = run(tiny_run.checkpoint, unlabelled / "P1", tmp_path, slices_per_batch=slices_per_batch)
    # Convolutions of other batch sizes add in another order, which decides where two classes are level.
    assert np.mean(label_map(out, "P1") != label_map(predicted, "P1")) < 1e-5


@pytest.mark.parametrize("axes", ["RAS", "PIR", "ASL"])
def test_a_patient_stored_along_other_axes_gets_the_same_label_map(
    axes: str, tiny_run: Run, unlabelled: Path, predicted: Path, tmp_path: Path
):
    (tmp_path / "P1").mkdir()
    for modality in ("flair", "t1ce"):
        image = nib.load(unlabelled / "P1" / f"P1_{modality}.nii.gz")
        nib.save(turned(image, axes), tmp_path / "P1" / f"P1_{modality}.nii.gz")
    out = run(tiny_run.checkpoint, tmp_path / "P1", tmp_path / "out")
    _, image = load(out / "P1" / "P1_seg.nii.gz")
    assert "".join(nib.aff2axcodes(image.affine)) == axes
    back = turned(image, "LPS")
    assert np.allclose(back.affine, nib.load(unlabelled / "P1" / "P1_flair.nii.gz").affine)
    assert np.array_equal(np.asarray(back.dataobj), label_map(predicted, "P1"))


def turned(image: nib.Nifti1Image, axes: str) -> nib.Nifti1Image:
    """The same image stored along other axes."""
    orientation = nib.orientations
    now, wanted = orientation.io_orientation(image.affine), orientation.axcodes2ornt(tuple(axes))
    return image.as_reoriented(orientation.ornt_transform(now, wanted))


def test_the_full_state_of_a_run_serves_as_weights(tiny_run: Run, unlabelled: Path, tmp_path: Path):
    out = run(tiny_run.folder / "last.pt", unlabelled / "P1", tmp_path)
    assert json.loads((out / "P1" / "P1_seg.json").read_text())["checkpoint"] == "last.pt"


def test_the_command_predicts_one_patient(
    tiny_run: Run, unlabelled: Path, predicted: Path, tmp_path: Path, command: Callable[..., Started]
):
    ended = command(
        *("predict", unlabelled / "P2", "--out", tmp_path / "out", "--checkpoint", tiny_run.checkpoint),
        *("--et_label", "3", "--device", "cpu", "--expected_dice", "False"),
    )
    assert ended.status == 0, ended.stderr
    assert "1/1 P2: WT " in ended.stdout
    assert "P2: P2_report.html (" in ended.stdout
    assert (tmp_path / "out" / "P2" / "P2_report.html").exists()
    assert not (tmp_path / "out" / "index.html").exists()  # of a single patient
    before = label_map(predicted, "P2")
    assert np.array_equal(label_map(tmp_path / "out", "P2"), np.where(before == 4, 3, before))


def test_no_report_leaves_the_reports_out(
    tiny_run: Run, unlabelled: Path, tmp_path: Path, command: Callable[..., Started]
):
    ended = command(
        *("predict", unlabelled, "--out", tmp_path, "--checkpoint", tiny_run.checkpoint, "--no_report"),
        *("--device", "cpu"),
    )
    assert ended.status == 0, ended.stderr
    assert {path.name for path in (tmp_path / "P1").iterdir()} == {"P1_seg.nii.gz", "P1_seg.json"}
    assert not (tmp_path / "index.html").exists()


def test_a_report_tells_what_the_record_says_and_what_was_uncertain(predicted: Path, tiny_run: Run):
    page = (predicted / "P1" / "P1_report.html").read_text(encoding="utf-8")
    assert hashlib.sha256(tiny_run.checkpoint.read_bytes()).hexdigest() in page
    assert json.loads((predicted / "P1" / "P1_seg.json").read_text())["bundle_version"] == "0.1.0"
    assert 'id="volume-uncertain"' in page
    assert "P2/P2_report.html" in (predicted / "index.html").read_text(encoding="utf-8")


def test_a_segmentation_that_cannot_be_shown_does_not_stop_a_prediction(
    tiny_run: Run, unlabelled: Path, tmp_path: Path
):
    shutil.copytree(unlabelled / "P1", tmp_path / "P1")
    (tmp_path / "P1" / "P1_seg.nii.gz").write_bytes(b"no image")
    out = run(tiny_run.checkpoint, tmp_path / "P1", tmp_path / "out", report=True)
    page = (out / "P1" / "P1_report.html").read_text(encoding="utf-8")
    assert "own segmentation is not shown" in page
    assert label_map(out, "P1").any()


def test_a_patient_who_is_there_twice_is_named(unlabelled: Path, tmp_path: Path):
    for copy in ("a", "b"):
        shutil.copytree(unlabelled / "P1", tmp_path / copy / "P1")
    (entry,) = patients(tmp_path, ["flair", "t1ce"])
    assert entry["case"] == "P1"
    assert re.fullmatch(r"P1: is there twice, in .*/a/P1 and in .*/b/P1; remove one\.", entry["fault"])


@pytest.mark.skipif("BRATS_REAL_DATA" not in os.environ, reason="BRATS_REAL_DATA names no folder with real cases")
def test_a_real_patient_gets_a_label_map_on_the_scans_grid(tiny_run: Run, tmp_path: Path):
    case = "BraTS20_Training_136"
    source = next(Path(os.environ["BRATS_REAL_DATA"]).rglob(case))
    (tmp_path / case).mkdir()
    for modality in ("flair", "t1ce"):
        shutil.copy(source / f"{case}_{modality}.nii.gz", tmp_path / case)
    out = run(tiny_run.checkpoint, tmp_path / case, tmp_path / "out")
    labels, image = load(out / case / f"{case}_seg.nii.gz")
    assert labels.shape == (240, 240, 155)
    assert np.array_equal(image.affine, nib.load(source / f"{case}_flair.nii.gz").affine)
