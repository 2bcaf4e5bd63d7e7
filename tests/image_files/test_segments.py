"""Segmentations of 3D Slicer mean what their segments are called, and lie where their own header says."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from tests.support import LPS, Head, Started, WritePatient
from transforms.geometry import placed
from transforms.inputs import AxialWindow
from transforms.pipelines import training_preprocessing
from workflows.data.case_images import load_label_map
from workflows.data.find_cases import find_cases
from workflows.data.reader import CaseReader
from workflows.evaluation.evaluate_folders import score_folders
from workflows.evaluation.find_label_maps import find_label_maps
from workflows.image_files.nifti_files import load_image, read_voxels
from workflows.image_files.segments import Segmentation
from workflows.messages.errors import DatasetError
from workflows.report.report import make_report

Segments = Sequence[tuple[str, int, int]]
CLASSES = (("Necrosis", 1, 0), ("Peritumoral edema", 2, 0), ("Enhancing tumor", 4, 0))
CUT = (slice(6, 33), slice(14, 41), slice(8, 35))
"""A box around the tumour of `head`."""


def save(
    file: Path, layers: np.ndarray, segments: Segments, first: Sequence[int] = (0, 0, 0), spacing: float = 1
) -> Path:
    """Write (x, y, z) or (layers, x, y, z) as 3D Slicer does, on the grid of `LPS` from the voxel `first` on."""
    image = sitk.GetImageFromArray(layers.T.astype(np.uint8), isVector=layers.ndim == 4)
    image.SetOrigin([float(index) for index in first])
    image.SetSpacing([spacing] * 3)
    for number, (name, value, layer) in enumerate(segments):
        for key, text in (("ID", f"Segment_{number + 1}"), ("Name", name), ("LabelValue", value), ("Layer", layer)):
            image.SetMetaData(f"Segment{number}_{key}", str(text))
    image.SetMetaData("Segmentation_ReferenceImageExtentOffset", " ".join(map(str, first)))
    file.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, file, True)
    return file


def read(file: Path) -> np.ndarray:
    return np.asarray(read_voxels(load_image(file)))


def in_columns(*columns: int) -> np.ndarray:
    """2 × 2 × n voxels with one value in each column."""
    return np.broadcast_to(np.array(columns), (2, 2, len(columns)))


@pytest.fixture
def patient(write_patient: WritePatient, head: Head, tmp_path: Path) -> Path:
    """A patient whose label map is a segmentation that is cut to the tumour, enhancing tumour having the value 9."""
    folder = Path(write_patient()["label"]).parent
    (folder / "P1_seg.nii.gz").unlink()
    seg = np.where(head["seg"] == 4, 9, head["seg"])[CUT]
    save(folder / "P1.seg.nrrd", seg, [*CLASSES[:2], ("ET", 9, 0)], [part.start for part in CUT])
    return folder


# ---------------------------------------------------------------------------------------------------------------------
# Meaning


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (("edema", "Necrosis", "Enhancing tumour"), (2, 1, 3)),
        (("ET", "NCR/NET", "ED"), (3, 1, 2)),
        (("NETC", "SNFH", "Resection cavity"), (1, 2, 4)),
        (("Non-enhancing tumor core", "Surrounding non-enhancing FLAIR hyperintensity", "RC"), (1, 2, 4)),
        (("Segment_1", "Segment_2", "Segment_3"), (1, 2, 5)),
    ],
)
def test_names_say_what_a_value_means_and_without_known_names_the_values_do(
    names: Sequence[str], labels: Sequence[int], tmp_path: Path
):
    segments = [(name, value, 0) for name, value in zip(names, (1, 2, 5), strict=True)]
    file = save(tmp_path / "a.seg.nrrd", in_columns(0, 1, 2, 5), segments)
    assert read(file)[0, 0].tolist() == [0, *labels]


def test_segments_of_several_layers_are_put_together(tmp_path: Path):
    layers = np.stack([in_columns(0, 1, 0, 0), in_columns(0, 0, 1, 0), in_columns(0, 0, 0, 2)])
    named = [("edema", 1, 0), ("necrosis", 1, 1), ("enhancing", 2, 2)]
    assert read(save(tmp_path / "a.seg.nrrd", layers, named))[0, 0].tolist() == [0, 2, 1, 3]
    unnamed = [("Segment_1", 1, 0), ("Segment_2", 1, 1), ("Segment_3", 2, 2)]
    with pytest.raises(DatasetError, match="nothing tells the segments Segment_1, Segment_2, Segment_3 apart"):
        read(save(tmp_path / "a.seg.nrrd", layers, unnamed))


def test_the_regions_whole_tumour_and_core_hold_the_enhancing_tumour(tmp_path: Path):
    layers = np.stack([in_columns(0, 0, 0, 1), in_columns(0, 0, 1, 1), in_columns(0, 1, 1, 1)])
    named = [("ET", 1, 0), ("Tumor core", 1, 1), ("WT", 1, 2)]
    assert read(save(tmp_path / "a.seg.nrrd", layers, named))[0, 0].tolist() == [0, 2, 1, 3]
    with pytest.raises(DatasetError, match="names a region and not all that lies in it"):
        read(save(tmp_path / "a.seg.nrrd", layers[2], [("WT", 1, 0)]))


def test_files_of_older_versions_have_one_layer_per_segment_and_no_values(tmp_path: Path):
    layers = np.stack([in_columns(0, 1, 0), in_columns(0, 0, 1)])
    file = save(tmp_path / "a.seg.nrrd", layers, [("edema", 1, 0), ("enhancing", 1, 0)])
    content, voxels = file.read_bytes().split(b"\n\n", 1)
    lines = [line for line in content.split(b"\n") if b"LabelValue" not in line and b"Layer" not in line]
    file.write_bytes(b"\n".join(lines) + b"\n\n" + voxels)
    assert read(file)[0, 0].tolist() == [0, 2, 3]


@pytest.mark.parametrize(
    ("second_layer", "segments", "says"),
    [
        ((0, 1, 1), (("edema", 1, 0), ("enhancing", 1, 1)), "the segment enhancing overlaps another"),
        ((0, 0, 1), (("edema", 1, 0), ("lesion", 1, 1)), "the segments lesion are no known classes; call each of them"),
        ((0, 0, 7), (("edema", 1, 0), ("enhancing", 1, 1)), "holds the value 7, which no segment has"),
        ((0, 0, 1), (("edema", 1, 0), ("enhancing", 1, 5)), "has 2 layers, and a segment in another one"),
    ],
)
def test_what_would_be_guessed_is_refused(second_layer: Sequence[int], segments: Segments, says: str, tmp_path: Path):
    layers = np.stack([in_columns(0, 1, 0), in_columns(*second_layer)])
    with pytest.raises(DatasetError, match=says):
        read(save(tmp_path / "a.seg.nrrd", layers, segments))


# ---------------------------------------------------------------------------------------------------------------------
# Place


@pytest.mark.parametrize("axes", ["RAS", "LPS", "PIR"])
def test_a_cut_label_map_lies_where_its_affine_says_on_a_grid_turned_any_way(axes: str):
    whole = nib.Nifti1Image(np.random.default_rng(0).integers(0, 4, (9, 8, 7)).astype(np.uint8), LPS)
    cut = nib.Nifti1Image(np.asarray(whole.dataobj)[2:6, 1:7, 3:5], LPS @ nib.affines.from_matvec(np.eye(3), (2, 1, 3)))
    expected = np.zeros(whole.shape, np.uint8)
    expected[2:6, 1:7, 3:5] = np.asarray(cut.dataobj)
    orientation = nib.orientations
    turn = orientation.ornt_transform(nib.io_orientation(LPS), orientation.axcodes2ornt(tuple(axes)))
    grid = nib.Nifti1Image(expected, LPS).as_reoriented(turn)
    assert np.array_equal(
        placed(np.asarray(cut.dataobj), cut.affine, grid.shape, grid.affine), np.asarray(grid.dataobj)
    )


def test_what_lies_outside_the_grid_or_between_its_voxels_is_refused():
    voxels = np.ones((2, 2, 2), np.uint8)
    for shift, says in ((9, "8 labelled voxels lie outside"), (3.5, "are not those of the images")):
        with pytest.raises(ValueError, match=says):
            placed(voxels, nib.affines.from_matvec(np.eye(3), (shift, 0, 0)), (5, 5, 5), np.eye(4))
    with pytest.raises(ValueError, match="are not those of the images"):
        placed(voxels, np.diag([0.5, 0.5, 0.5, 1]), (5, 5, 5), np.eye(4))
    assert not placed(0 * voxels, np.diag([0.5, 0.5, 0.5, 1]), (5, 5, 5), np.eye(4)).any()


def test_a_case_with_a_cut_segmentation_is_found_audited_reported_and_trained_on(
    patient: Path, head: Head, command: Callable[..., Started]
):
    expected = np.where(head["seg"] == 4, 3, head["seg"])
    case = find_cases(patient).cases[0]
    assert case.id == "P1"
    assert isinstance(load_image(case.segmentation or patient), Segmentation)
    assert np.array_equal(read_voxels(load_label_map(case)), expected)
    ended = command("audit", patient, "--slice-range", "0:40", "--list", "--workers", 1)
    assert ended.status == 0 and "P1.seg.nrrd" in ended.stdout, ended.stdout
    reference = make_report(case, patient).reference
    assert reference is not None and np.array_equal(reference[::-1, ::-1], expected)
    chain = training_preprocessing(
        AxialWindow(size_px=48, slice_range=(0, 40)), {0: 0, 1: 1, 2: 2, 3: 3}, reader=CaseReader()
    )
    files = [str(case.images[modality]) for modality in ("flair", "t1ce")]
    sample = chain({"case": "P1", "image": files, "label": str(case.segmentation)})
    assert np.array_equal(np.bincount(sample["label"].flatten()), np.bincount(expected.ravel()))


def test_a_cut_segmentation_as_prediction_or_reference_has_the_scores_of_the_whole_map(
    patient: Path, head: Head, tmp_path: Path
):
    whole, cut, other = tmp_path / "whole", tmp_path / "cut", tmp_path / "other"
    for folder in (whole, cut):
        folder.mkdir()
    nib.save(nib.Nifti1Image(head["seg"], LPS), whole / "P1_seg.nii.gz")
    (patient / "P1.seg.nrrd").rename(cut / "P1.seg.nrrd")
    moved = np.roll(head["seg"], 1, axis=0)
    save(other / "P1.seg.nrrd", moved[4:40, 10:45, 4:38], CLASSES, (4, 10, 4))

    def scored(predictions: Path, references: Path) -> list[dict[str, Any]]:
        return score_folders(find_label_maps(predictions), find_label_maps(references), workers=1).rows

    for predictions, references in ((cut, whole), (whole, cut)):
        assert {row["dice"] for row in scored(predictions, references)} == {1.0}
    beside = [scored(*pair) for pair in ((cut, other), (other, cut), (whole, other))]
    for row, turned, same in zip(*beside, strict=True):
        assert row["dice"] == turned["dice"] == same["dice"] < 1
        assert row["hd95_mm"] == turned["hd95_mm"] == same["hd95_mm"] == 1


def test_a_segmentation_of_another_patient_is_refused_in_one_line(patient: Path, command: Callable[..., Started]):
    save(patient / "P1.seg.nrrd", in_columns(0, 1, 2, 4), CLASSES, (100, 0, 0))
    ended = command("audit", patient, "--slice-range", "0:40", "--list", "--workers", 1)
    assert ended.status == 1
    assert "12 labelled voxels lie outside the images; save it in 3D Slicer" in " ".join(ended.stdout.split())


def test_label_maps_of_every_format_are_scored(head: Head, tmp_path: Path, command: Callable[..., Started]):
    for ending in ("nrrd", "mha", "mhd", "nii.gz"):
        for folder in ("predictions", "references"):
            (tmp_path / folder).mkdir(exist_ok=True)
            name = f"P_{ending[:3]}.{ending if folder == 'predictions' else 'nii'}"
            nib.save(nib.Nifti1Image(head["seg"], LPS), tmp_path / "whole.nii")
            sitk.WriteImage(sitk.ReadImage(tmp_path / "whole.nii"), tmp_path / folder / name, True)
    given = ("--predictions", tmp_path / "predictions", "--references", tmp_path / "references", "--workers", 1)
    assert command("evaluate", *given, "--out", tmp_path / "out").status == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["cases"], set(summary["mean_dice"].values())) == (4, {1.0})
