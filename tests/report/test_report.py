"""A report holds the patient's voxels unchanged, says what was measured, and warns in words."""

from __future__ import annotations

import base64
import json
import os
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.special import entr

from tests.support import Lopsided, Started, write_lopsided
from workflows.data.find_cases import find_cases
from workflows.messages.errors import ConfigurationError, DatasetError
from workflows.pictures.colours import CLASS_COLOURS
from workflows.report.findings import largest_axial_diameter_mm, largest_diameter_mm, largest_lesions, measure_label_map
from workflows.report.overview import thumbnail
from workflows.report.page import ASSETS, SCRIPTS, Report
from workflows.report.report import make_report, report_folder
from workflows.report.volumes import Grid, pack_image, pack_levels
from workflows.report.warnings import uncertain_voxels, warn_of_grid, warn_of_prediction

MEGABYTE = 10**6


@pytest.fixture(scope="module")
def lopsided(tmp_path_factory: pytest.TempPathFactory) -> Lopsided:
    return write_lopsided(tmp_path_factory.mktemp("lopsided"))


@pytest.fixture(scope="module")
def page(lopsided: Lopsided, tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("page") / "report.html"
    return report_folder(lopsided.folder, out, lopsided.prediction, lopsided.reference).read_text(encoding="utf-8")


def reported(patient: Lopsided, prediction: bool = True, reference: bool = False) -> Report:
    case = find_cases(patient.folder).cases[0]
    chosen = (patient.prediction if prediction else None, patient.reference if reference else None)
    return make_report(case, patient.folder, *chosen)


def sentences(report: Report) -> str:
    return "\n".join(f"{warning.grade}: {warning.text}" for warning in report.warnings)


def unpacked(data: str, shape: tuple[int, ...]) -> np.ndarray:
    """The levels in a page, put together sum by sum."""
    content = np.frombuffer(zlib.decompress(base64.b64decode(data)), np.uint8)
    folded = content[: content.size // 2].astype(np.int64) + 256 * content[content.size // 2 :].astype(np.int64)
    rest = np.where(folded % 2, -(folded + 1) // 2, folded // 2).reshape(shape[::-1])
    return (rest.cumsum(axis=1).cumsum(axis=2) % 2**16).T


# ---------------------------------------------------------------------------------------------------------------------
# Volumes


def test_packed_levels_are_the_levels_in_spite_of_every_jump():
    levels = np.random.default_rng(0).integers(0, 2**16, (7, 5, 3)).astype(np.uint16)
    levels[0, 0, 0], levels[1, 0, 0], levels[6, 4, 2] = 0, 2**16 - 1, 0
    assert np.array_equal(unpacked(pack_levels(levels), levels.shape), levels)


@pytest.mark.parametrize(
    ("stored", "slope"),
    [(np.int16([-300, 0, 7, 32767]), None), (np.uint8([0, 1, 200, 255]), None), (np.int16([-5, 0, 9, 4000]), 0.25)],
)
def test_integers_are_kept_exactly_scaled_or_not(stored: np.ndarray, slope: float | None):
    content = bytearray(nib.Nifti1Image(stored.reshape(2, 2, 1), np.eye(4)).to_bytes())
    if slope:
        struct.pack_into("<ff", content, 112, slope, 3)  # scl_slope and scl_inter, which nibabel would reset
    image = nib.Nifti1Image.from_bytes(bytes(content))
    assert image.dataobj[1, 0, 0] == stored[2] * (slope or 1) + (3 if slope else 0)
    packed, _ = pack_image(image, Grid.of(image))
    values = packed["low"] + packed["step"] * unpacked(packed["data"], (2, 2, 1))
    assert packed["exact"]
    assert np.array_equal(values, np.asanyarray(image.dataobj))


def test_other_values_are_rounded_to_half_a_65535th_of_their_span():
    values = np.random.default_rng(1).normal(0, 1, (6, 5, 4))
    image = nib.Nifti1Image(values, np.eye(4))
    packed, _ = pack_image(image, Grid.of(image))
    shown = packed["low"] + packed["step"] * unpacked(packed["data"], values.shape)
    assert not packed["exact"]
    assert np.abs(shown - values).max() <= np.ptp(values) / 65535 / 2 * (1 + 1e-6)


@pytest.mark.parametrize("axes", ["LPS", "RAS", "PIR", "ASL", "SLA"])
def test_a_grid_turns_every_orientation_to_the_same_patient(axes: str, tmp_path: Path):
    patient = write_lopsided(tmp_path, axes, (0.8, 1.3, 2.5))
    image = nib.load(patient.flair)
    grid = Grid.of(image)
    closest = nib.as_closest_canonical(image)
    assert grid.shape == (40, 48, 32)
    assert grid.spacing_mm == pytest.approx((0.8, 1.3, 2.5))
    assert np.allclose(grid.affine, closest.affine)
    assert np.array_equal(grid.turned(np.asanyarray(image.dataobj)), np.asanyarray(closest.dataobj))


def test_a_tilt_of_ten_degrees_is_measured_and_said():
    angle = np.radians(10)
    affine = np.eye(4)
    affine[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    grid = Grid.of(nib.Nifti1Image(np.zeros((3, 3, 3), np.int16), affine))
    assert grid.tilt_degrees == pytest.approx(10)
    assert "tilted by 10°" in warn_of_grid(grid)[0].text


# ---------------------------------------------------------------------------------------------------------------------
# Sizes and places


def test_ten_voxels_in_a_row_of_2_mm_have_a_diameter_of_18():
    row = np.zeros((10, 1, 1), bool)
    row[:] = True
    assert largest_diameter_mm(row, (2, 1, 1)) == pytest.approx(18)
    assert largest_axial_diameter_mm(row, (2, 1, 1)) == pytest.approx(18)


def test_a_box_has_the_diameter_of_its_diagonal_and_in_a_slice_that_of_the_slice():
    box = np.ones((4, 5, 13), bool)
    assert largest_diameter_mm(box, (1, 1, 1)) == pytest.approx(13)  # 3² + 4² + 12² = 13²
    assert largest_axial_diameter_mm(box, (1, 1, 1)) == pytest.approx(5)


def test_a_single_voxel_has_no_diameter():
    assert largest_diameter_mm(np.ones((1, 1, 1), bool), (1, 1, 1)) == 0


def test_two_lesions_and_a_speck_are_counted_with_their_volumes():
    labels = np.zeros((30, 30, 30), np.uint8)
    labels[2:6, 2:6, 2:6] = 1  # 64 voxels
    labels[12:18, 12:18, 12:18] = 3  # 216
    labels[25, 25, 25] = 2
    sizes = measure_label_map(labels, (1, 1, 1))
    assert (sizes["WT"].lesions, sizes["WT"].specks) == (2, 1)
    assert sizes["WT"].volume_ml == pytest.approx(0.281)
    assert (sizes["TC"].lesions, sizes["TC"].specks, sizes["TC"].volume_ml) == (2, 0, pytest.approx(0.28))
    assert (sizes["ET"].lesions, sizes["ET"].diameter_mm) == (1, pytest.approx(5 * np.sqrt(3)))
    assert (sizes["oedema"].lesions, sizes["oedema"].specks, sizes["oedema"].diameter_mm) == (0, 1, 0)
    found = largest_lesions(labels > 0, (1, 1, 1))
    assert [round(lesion.volume_ml, 3) for lesion in found] == [0.216, 0.064]
    assert all(labels[lesion.point] for lesion in found)


def test_where_there_is_only_a_speck_it_can_be_jumped_to():
    mask = np.zeros((5, 5, 5), bool)
    mask[1, 2, 3] = True
    assert [lesion.point for lesion in largest_lesions(mask, (1, 1, 1))] == [(1, 2, 3)]


def test_a_class_without_voxels_has_no_diameter():
    sizes = measure_label_map(np.zeros((4, 4, 4), np.uint8), (1, 1, 1))
    assert (sizes["ET"].volume_ml, sizes["ET"].lesions, sizes["ET"].diameter_mm) == (0, 0, None)


def test_the_point_of_a_ring_lies_in_it_and_not_in_its_middle():
    ring = np.ones((9, 9, 3), bool)
    ring[2:7, 2:7] = False
    point = largest_lesions(ring, (1, 1, 1))[0].point
    assert ring[point]


def test_scores_and_jumps_are_those_of_the_two_label_maps(lopsided: Lopsided):
    report = reported(lopsided, reference=True)
    assert report.scores is not None
    assert report.scores["WT"].sensitivity == 1  # the block is tumour in both, of another class
    assert report.scores["WT"].precision == pytest.approx(144 / (144 + 125))
    assert report.jumps["missed"] == []
    assert report.jumps["invented"][0].point == (28, 12, 10)
    assert report.jumps["lesion"][0].volume_ml == pytest.approx(0.144)


# ---------------------------------------------------------------------------------------------------------------------
# Warnings


def slab(first: int, end: int) -> tuple[np.ndarray, Grid]:
    labels = np.zeros((10, 10, 155), np.uint8)
    labels[4:6, 4:6, first:end] = 2
    return labels, Grid.of(nib.Nifti1Image(labels, np.eye(4)))


def test_tumour_far_below_the_slices_trained_on_is_named_with_its_share():
    labels, grid = slab(40, 80)  # far outside is what lies below 50: 10 of 40 slices of 4 voxels
    (warning,) = warn_of_prediction(labels, grid, (60, 135), None)
    assert warning.grade == "caution"
    assert "0.0 ml of the predicted tumour (25%) lie in axial slices 40 to 49" in warning.text


def test_tumour_far_below_and_far_above_is_named_by_its_extent_on_either_side():
    labels, grid = slab(60, 100)
    labels[5, 5, [3, 9, 146, 150]] = 1
    (warning,) = warn_of_prediction(labels, grid, (60, 135), None)
    assert "lie in axial slices 3 to 9 and 146 to 150, more than 10 mm outside" in warning.text


def test_tumour_within_ten_millimetres_of_the_slices_trained_on_needs_no_warning():
    assert warn_of_prediction(*slab(50, 145), (60, 135), None) == []
    assert len(warn_of_prediction(*slab(49, 145), (60, 135), None)) == 1
    assert len(warn_of_prediction(*slab(50, 146), (60, 135), None)) == 1


def test_without_a_record_nothing_is_said_about_slices():
    assert warn_of_prediction(*slab(0, 155), None, None) == []


def test_an_empty_prediction_is_said_to_be_no_finding():
    (warning,) = warn_of_prediction(*slab(0, 0), (60, 135), None)
    assert warning.text.startswith("No tumour was found.")


def test_a_voxel_is_uncertain_below_sixty_per_cent():
    probabilities = np.array([[0.61, 0.39, 0, 0], [0.59, 0.41, 0, 0], [0.25, 0.25, 0.25, 0.25]])
    assert uncertain_voxels(probabilities.reshape(3, 1, 1, 4)).ravel().tolist() == [False, True, True]


def test_uncertain_tumour_is_named_with_its_volume(tmp_path: Path):
    patient = write_lopsided(tmp_path)
    labels = nib.load(patient.prediction)
    probabilities = np.zeros((*labels.shape, 4), np.float32)
    probabilities[..., 0] = 1
    block = np.asarray(labels.dataobj) == 2
    probabilities[block] = (0.45, 0, 0.55, 0)  # 144 voxels of 269
    nib.save(nib.Nifti1Image(probabilities, labels.affine), tmp_path / "out" / "P1_probabilities.nii.gz")
    report = reported(patient)
    assert "0.1 ml are uncertain" in sentences(report)
    assert "Of the predicted tumour that is 54%." in sentences(report)
    assert report.uncertain is not None and report.uncertain.sum() == 144
    point = report.jumps["uncertain"][0].point
    assert (6, 34, 22) <= point < (12, 40, 26)


def write_uncertainty(patient: Lopsided, change: Callable[[np.ndarray], np.ndarray] = lambda values: values) -> Path:
    """An uncertainty map beside the prediction: 0.6 where that is enhancing tumour, else 0."""
    labels = nib.load(patient.prediction)
    values = change(np.where(np.asarray(labels.dataobj) == 4, 0.6, 0).astype(np.float32))
    file = patient.prediction.with_name("P1_uncertainty.nii.gz")
    nib.save(nib.Nifti1Image(values, labels.affine), file)
    return file


@pytest.mark.parametrize("axes", ["LPS", "PIR"])
def test_an_uncertainty_of_six_tenths_is_level_153_where_the_label_map_has_it(axes: str, tmp_path: Path):
    patient = write_lopsided(tmp_path, axes)
    write_uncertainty(patient)
    report = reported(patient)
    assert report.uncertainty is not None and report.prediction is not None
    assert np.array_equal(report.uncertainty, np.where(report.prediction == 3, 153, 0))


def test_an_uncertainty_map_left_by_an_earlier_prediction_is_not_shown(tmp_path: Path):
    patient = write_lopsided(tmp_path)
    file = write_uncertainty(patient)
    record = patient.prediction.with_name("P1_seg.json")
    for named, shown in ((None, False), (file.name, True)):
        record.write_text(json.dumps({"uncertainty_map": named}))
        assert (reported(patient).uncertainty is not None) == shown


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda values: values[:-1], "does not lie on the grid of the images"),
        (lambda values: values * 2, "holds values outside 0 to 1"),
        (lambda values: values * np.float32(np.nan), "holds values outside 0 to 1"),
    ],
)
def test_an_uncertainty_map_that_does_not_belong_is_refused(
    change: Callable[[np.ndarray], np.ndarray], said: str, tmp_path: Path
):
    patient = write_lopsided(tmp_path)
    write_uncertainty(patient, change)
    with pytest.raises(DatasetError, match=said):
        reported(patient)


def test_a_failed_check_of_the_input_is_a_problem_in_words(tmp_path: Path):
    patient = write_lopsided(tmp_path)
    image = nib.load(patient.t1ce)
    nib.save(nib.Nifti1Image(np.zeros(image.shape, np.int16), image.affine), patient.t1ce)
    assert (
        "problem: The input did not pass its checks: t1ce: is empty, every voxel is 0; export it again."
        in sentences(reported(patient))
    )


def test_voxels_of_another_size_than_brats_are_mentioned(tmp_path: Path):
    patient = write_lopsided(tmp_path, spacing_mm=(0.8, 1.3, 2.5))
    assert "A voxel measures 0.8 × 1.3 × 2.5 mm" in sentences(reported(patient))


def test_a_modality_on_another_grid_is_left_out_and_said_so(tmp_path: Path):
    patient = write_lopsided(tmp_path)
    image = nib.load(patient.t1ce)
    nib.save(image.slicer[:-1], patient.t1ce)
    report = reported(patient)
    assert list(report.scan.images) == ["flair"]
    assert "problem: T1ce is not shown: it lies on another grid than the others." in sentences(report)


def test_an_own_segmentation_on_another_grid_is_left_out_and_said_so(tmp_path: Path):
    patient = write_lopsided(tmp_path)
    nib.save(nib.load(patient.reference).slicer[:-1], patient.folder / "P1_seg.nii.gz")
    report = reported(patient)
    assert report.reference is None
    assert "The case's own segmentation is not shown" in sentences(report)


# ---------------------------------------------------------------------------------------------------------------------
# What is read


@pytest.mark.parametrize("value", [3, 4])
def test_enhancing_tumour_may_be_3_or_4_in_the_label_map(value: int, tmp_path: Path):
    patient = write_lopsided(tmp_path)
    image = nib.load(patient.prediction)
    labels = np.asarray(image.dataobj)
    nib.save(nib.Nifti1Image(np.where(labels == 4, value, labels).astype(np.uint8), image.affine), patient.prediction)
    prediction = reported(patient).prediction
    assert prediction is not None
    assert np.bincount(prediction.ravel()).tolist()[1:] == [0, 144, 125]


def test_a_label_map_stored_along_other_axes_than_its_images_lies_where_it_belongs(tmp_path: Path):
    patient, other = write_lopsided(tmp_path / "a", "LPS"), write_lopsided(tmp_path / "b", "PIR")
    case = find_cases(patient.folder).cases[0]
    one, two = (make_report(case, patient.folder, p.prediction).prediction for p in (patient, other))
    assert np.array_equal(one, two)


@pytest.mark.parametrize("affine", [np.eye(4), None], ids=["identity", "no orientation"])
def test_a_label_map_whose_header_says_no_place_is_shown_with_ignore_affine_alone(
    affine: np.ndarray | None, tmp_path: Path, command: Callable[..., Started]
):
    patient, out = write_lopsided(tmp_path, "PIR"), tmp_path / "r.html"
    case = find_cases(patient.folder).cases[0]
    true = make_report(case, patient.folder, patient.prediction).prediction
    nib.save(nib.Nifti1Image(np.asarray(nib.load(patient.prediction).dataobj), affine), patient.prediction)
    options = ("report", patient.folder, "--prediction", patient.prediction, "--out", out)
    ended = command(*options)
    assert ended.status == 1 and "say so by --ignore-affine" in ended.stderr
    assert command(*options, "--ignore-affine").status == 0
    placed = make_report(case, patient.folder, patient.prediction, ignore_affine=True).prediction
    assert np.array_equal(placed, true)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda image: image.slicer[:-1], "lies on another grid than the images of P1"),
        (lambda image: nib.Nifti1Image(np.asarray(image.dataobj) * 2, image.affine), "holds the value 8"),
    ],
)
def test_a_label_map_that_does_not_belong_is_one_line(
    spoil: Callable[[Any], Any], said: str, tmp_path: Path, command: Callable[..., Started]
):
    patient = write_lopsided(tmp_path)
    nib.save(spoil(nib.load(patient.prediction)), patient.prediction)
    out = tmp_path / "r.html"
    ended = command("report", patient.folder, "--prediction", patient.prediction, "--out", out)
    assert (ended.status, ended.stderr.count("\n")) == (1, 1)
    assert said in ended.stderr
    assert not out.exists()


def test_a_folder_with_two_cases_and_a_name_without_html_are_refused(lopsided: Lopsided, tmp_path: Path):
    with pytest.raises(ConfigurationError, match=r"ends in \.html"):
        report_folder(lopsided.folder, tmp_path / "report.txt")
    write_lopsided(tmp_path)
    (tmp_path / "P2").mkdir()
    for modality in ("flair", "t1ce"):
        (tmp_path / "P2" / f"P2_{modality}.nii.gz").write_bytes(
            (tmp_path / "P1" / f"P1_{modality}.nii.gz").read_bytes()
        )
    with pytest.raises(DatasetError, match="holds 2 cases"):
        report_folder(tmp_path, tmp_path / "report.html")


def test_a_record_that_makes_no_sense_is_shown_as_far_as_it_does(tmp_path: Path):
    patient = write_lopsided(tmp_path)
    record = {"checkpoint": "<b>w.pt</b>", "labels": ["x"], "settings": {"slice_range": ["a", 1]}, "versions": 3}
    (tmp_path / "out" / "P1_seg.json").write_text(json.dumps(record))
    page = report_folder(patient.folder, tmp_path / "r.html", patient.prediction).read_text()
    assert "&lt;b&gt;w.pt&lt;/b&gt;" in page
    (tmp_path / "out" / "P1_seg.json").write_text("[" * 5)
    assert (
        "cannot say what produced it"
        in report_folder(patient.folder, tmp_path / "r.html", patient.prediction).read_text()
    )


# ---------------------------------------------------------------------------------------------------------------------
# The page


def test_the_page_loads_nothing_and_runs_only_its_own_program(page: str):
    assert not re.search(r"""(?:src|href|action)\s*=\s*["']?(?!#|data:)\w""", page)
    assert "http://" not in page and "https://" not in page
    policy = re.search(r'Content-Security-Policy"\s+content="([^"]+)"', page)
    assert policy is not None
    assert "default-src &#39;none&#39;" in policy[1] or "default-src 'none'" in policy[1]
    assert "unsafe" not in policy[1]


def test_each_script_imports_from_those_before_it_and_no_two_declare_a_name(page: str):
    declared: list[str] = []
    for number, name in enumerate(SCRIPTS):
        script = (ASSETS / name).read_text(encoding="utf-8")
        assert set(re.findall(r'^import [^;]* from "\./(.+)";', script, re.MULTILINE)) <= set(SCRIPTS[:number])
        for names in re.findall(
            r"^(?:export )?(?:async )?(?:const|let|class|function) (\w+|{.+?})", script, re.MULTILINE
        ):
            declared += re.findall(r"\w+", names)
    assert sorted(declared) == sorted(set(declared))
    assert sorted(SCRIPTS) == sorted(file.name for file in ASSETS.glob("*.js"))
    assert not re.search(r"^(?:import|export)\b", page, re.MULTILINE)


def test_the_page_says_research_use_only_and_has_both_tables(page: str):
    assert "Research use only. Not a medical device." in page
    for table in ("sizes-prediction", "sizes-reference", "scores", "lesions"):
        assert f'id="{table}"' in page


def test_names_from_files_are_escaped(tmp_path: Path):
    patient = write_lopsided(tmp_path)
    hostile = "x<script>alert(1)<&script>"
    (tmp_path / "evil").mkdir()
    for modality, file in (("flair", patient.flair), ("t1ce", patient.t1ce)):
        (tmp_path / "evil" / f"{hostile}_{modality}.nii.gz").write_bytes(file.read_bytes())
    page = report_folder(tmp_path / "evil", tmp_path / "r.html").read_text()
    assert "<script>alert" not in page
    assert "x&lt;script&gt;alert(1)&lt;&amp;script&gt;" in page


def test_reporting_imports_neither_torch_nor_monai(lopsided: Lopsided, python: Callable[..., Started], tmp_path: Path):
    code = (
        "import sys; from pathlib import Path; from workflows.report.report import report_folder; "
        f"report_folder(Path({str(lopsided.folder)!r}), Path('r.html'), Path({str(lopsided.prediction)!r})); "
        "print(sorted({'torch', 'monai', 'ignite', 'matplotlib'} & set(sys.modules)))"
    )
    ended = python("-c", code, cwd=tmp_path, PYTHONPATH=str(Path(__file__).parents[2]))
    assert (ended.status, ended.stdout) == (0, "[]\n"), ended.stderr


def test_the_command_names_the_page_it_wrote(lopsided: Lopsided, tmp_path: Path, command: Callable[..., Started]):
    out = tmp_path / "new" / "report.html"
    ended = command("report", lopsided.folder, "--prediction", lopsided.prediction, "--out", out)
    assert (ended.status, ended.stdout) == (0, f"{out}\n")
    assert out.stat().st_size > 50_000


def test_the_thumbnail_has_the_patients_left_on_the_right_and_the_front_above(lopsided: Lopsided):
    picture = thumbnail(reported(lopsided)).astype(int)
    height, width, _ = picture.shape
    bluest = picture[..., 2] - picture[..., 0] > 40  # oedema's colour, in the block
    rows, columns = np.nonzero(bluest)
    assert bluest.sum() >= 4
    assert rows.mean() < height / 3
    assert columns.mean() > width * 2 / 3
    assert CLASS_COLOURS[2].blue > CLASS_COLOURS[2].red


@pytest.mark.skipif("BRATS_REAL_DATA" not in os.environ, reason="BRATS_REAL_DATA names no folder with real cases")
@pytest.mark.parametrize(("case", "modalities", "limit"), [("BraTS20_Training_130", 2, 8), ("BraTS2021_00630", 4, 16)])
def test_a_real_report_is_as_small_as_promised(case: str, modalities: int, limit: int, tmp_path: Path):
    folder = next(Path(os.environ["BRATS_REAL_DATA"]).rglob(case))
    own = nib.load(next(folder.glob("*_seg.nii.gz")))
    prediction = tmp_path / f"{case}_seg.nii.gz"
    nib.save(own, prediction)
    shares = [gaussian_filter((np.asarray(own.dataobj) == value).astype(np.float32), 2) for value in (0, 1, 2, 4)]
    uncertainty = entr(np.clip(shares, 0, 1)).sum(axis=0) / np.log(4)  # of borders as wide as a network's
    image = nib.Nifti1Image(np.clip(uncertainty, 0, 1).astype(np.float32), own.affine)
    nib.save(image, prediction.with_name(f"{case}_uncertainty.nii.gz"))
    out = report_folder(folder, tmp_path / "r.html", prediction)
    assert 'id="volume-uncertainty"' in out.read_text()
    assert out.read_text().count('name="modality"') == modalities
    assert out.stat().st_size < limit * MEGABYTE
