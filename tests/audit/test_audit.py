"""The audit names what is wrong with a case, counts to the voxel, and one bad case never stops the others."""

from __future__ import annotations

import gzip
import io
import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from rich.console import Console

from transforms.background import Background, find_background
from workflows.audit.case_checks import CaseRecord, share_outside
from workflows.audit.dataset_checks import Audit, audit_dataset
from workflows.audit.table import print_table
from workflows.data.reading import Reading
from workflows.image_files.brain import brain_mask
from workflows.messages.errors import DatasetError

SHAPE = (24, 24, 20)
LPS = np.array([[-1.0, 0, 0, -0.0], [0, -1, 0, 239], [0, 0, 1, 0], [0, 0, 0, 1]])
WINDOW = (4, 16)
LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 2147483\n"
REAL_DATA = os.environ.get("BRATS_REAL_DATA")
REAL_TUMOUR_VOXELS = {  # labels 1, 2 and 4
    "BraTS20_Training_130": (27189, 53050, 31485),
    "BraTS20_Training_131": (1106, 53736, 8219),
    "BraTS20_Training_132": (4414, 148264, 21250),
    "BraTS20_Training_133": (57655, 45203, 17816),
    "BraTS20_Training_134": (26912, 35416, 18354),
    "BraTS20_Training_135": (64066, 109935, 43379),
    "BraTS20_Training_136": (4514, 34894, 21677),
    "BraTS20_Training_237": (9487, 135912, 16998),
    "BraTS2021_00002": (11248, 155695, 23651),
    "BraTS2021_00003": (17214, 57773, 24252),
    "BraTS2021_00005": (24187, 76742, 23854),
    "BraTS2021_00014": (2, 35799, 2557),
    "BraTS2021_00024": (245, 95526, 5680),
    "BraTS2021_00630": (1107, 41148, 19303),
}


def brain(seed: int, shift: int = 0) -> np.ndarray:
    """A ball of noise on a background of zero, (24, 24, 20)."""
    rng = np.random.default_rng(seed)
    i, j, k = np.indices(SHAPE)
    ball = (i - 12 - shift) ** 2 + (j - 12) ** 2 + (k - 10) ** 2 < 64
    return np.where(ball, rng.integers(100, 1000, SHAPE), 0).astype(np.int16)


def tumour(*labels: int, first_slice: int = 8) -> np.ndarray:
    """One slice of 4 voxels per label, the first of them at `first_slice`."""
    voxels = np.zeros(SHAPE, np.uint8)
    for number, label in enumerate(labels):
        voxels[11:13, 11:13, first_slice + number] = label
    return voxels


def write_image(file: Path, voxels: np.ndarray, affine: np.ndarray = LPS) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels, affine), file)


def write_case(root: Path, name: str, seed: int = 0, labels: np.ndarray | None = None, **images: np.ndarray) -> Path:
    """A sound case whose images can be replaced one by one."""
    seed = seed or sum(map(ord, name))
    seg = tumour(1, 2, 4, first_slice=5 + seed % 8) if labels is None else labels
    default = {"flair": brain(2 * seed), "t1ce": brain(2 * seed + 1), "seg": seg}
    for modality, voxels in {**default, **images}.items():
        write_image(root / name / f"{name}_{modality}.nii.gz", voxels)
    return root / name


def audit(root: Path, **options: object) -> Audit:
    return audit_dataset(root, **{"slice_range": WINDOW, "workers": 1, **options})


def only_record(root: Path, **options: object) -> CaseRecord:
    (record,) = audit(root, **options).cases
    return record


def printed(findings: Audit) -> str:
    text = io.StringIO()
    print_table(findings, console=Console(file=text))
    return text.getvalue()


# A sound case


def test_a_sound_case_has_neither_problems_nor_warnings(tmp_path: Path) -> None:
    write_case(tmp_path, "P1", labels=tumour(1, 2, 2, 4))
    record = only_record(tmp_path)
    assert (record.problems, record.warnings) == ([], [])
    assert record.files == {"flair": "P1/P1_flair.nii.gz", "t1ce": "P1/P1_t1ce.nii.gz", "label": "P1/P1_seg.nii.gz"}
    assert (record.shape, record.spacing_mm, record.orientation) == (SHAPE, (1.0, 1.0, 1.0), "LPS")
    assert record.voxels == {"0": 24 * 24 * 20 - 16, "1": 4, "2": 8, "4": 4}


def test_audit_json_holds_one_object_per_case(tmp_path: Path) -> None:
    write_case(tmp_path / "data", "P1")
    write_case(tmp_path / "data", "P2")
    (tmp_path / "data" / "notes.txt").touch()
    findings = audit(tmp_path / "data")
    findings.write(tmp_path / "out" / "audit.json")
    content = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert content == json.loads(json.dumps(findings.to_dict()))
    assert content["label_convention"] == "brats-to-2022"
    assert content["stray_files"] == ["notes.txt"]
    assert [case["id"] for case in content["cases"]] == ["P1", "P2"]
    keys = {"id", "files", "shape", "spacing_mm", "voxels", "problems", "warnings", "outside_window", "empty_classes"}
    assert keys <= content["cases"][0].keys()
    assert list((tmp_path / "out").iterdir()) == [tmp_path / "out" / "audit.json"]


def test_several_processes_find_what_one_finds(tmp_path: Path) -> None:
    for name in ("P1", "P2", "P3"):
        write_case(tmp_path, name)
    assert audit(tmp_path, workers=2).to_dict() == audit(tmp_path, workers=1).to_dict()


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float32])
def test_label_maps_of_every_type_in_use_are_counted(tmp_path: Path, dtype: type) -> None:
    write_case(tmp_path, "P1", labels=tumour(1, 2, 4).astype(dtype))
    assert only_record(tmp_path).voxels == {"0": 24 * 24 * 20 - 12, "1": 4, "2": 4, "4": 4}


@pytest.mark.parametrize(("sform_code", "qform_code"), [(0, 1), (2, 0), (1, 2), (0, 2)])
def test_form_codes_and_minus_zeros_do_not_make_affines_differ(
    tmp_path: Path, sform_code: int, qform_code: int
) -> None:
    folder = write_case(tmp_path, "P1")
    image = nib.Nifti1Image(tumour(1, 2, 4), LPS + 0.0)
    image.set_sform(LPS, code=sform_code)
    image.set_qform(LPS, code=qform_code)
    nib.save(image, folder / "P1_seg.nii.gz")
    assert only_record(tmp_path).problems == []


def test_a_case_without_labels_is_usable(tmp_path: Path) -> None:
    (write_case(tmp_path, "P1") / "P1_seg.nii.gz").unlink()
    record = only_record(tmp_path)
    assert (record.problems, record.voxels, record.outside_window) == ([], {}, None)


def test_decathlon_is_counted_in_its_own_labels(tmp_path: Path) -> None:
    write_image(tmp_path / "imagesTr" / "BRATS_001.nii.gz", np.stack([brain(seed) for seed in range(4)], axis=-1))
    write_image(tmp_path / "labelsTr" / "BRATS_001.nii.gz", tumour(1, 1, 2, 3))
    item = {"image": "./imagesTr/BRATS_001.nii.gz", "label": "./labelsTr/BRATS_001.nii.gz"}
    modality = {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"}
    (tmp_path / "dataset.json").write_text(json.dumps({"modality": modality, "training": [item]}))
    findings = audit(tmp_path, modalities=("flair", "t1ce", "t1", "t2"))
    assert findings.unusable == []
    assert findings.cases[0].voxels == {"0": 24 * 24 * 20 - 16, "1": 8, "2": 4, "3": 4}
    necrotic_core, oedema, enhancing = printed(findings).splitlines()[2].split()[2:5]
    assert (necrotic_core, oedema, enhancing) == ("4", "8", "4")


# Problems


def cut_short(content: bytes) -> bytes:
    return content[: len(content) // 2]


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda _: b"", "P1_t1ce.nii.gz: is empty"),
        (lambda _: LFS_POINTER, "P1_t1ce.nii.gz: is a Git LFS pointer"),
        (lambda _: b"<html></html>", "P1_t1ce.nii.gz: is a web page"),
        (cut_short, "P1_t1ce.nii.gz: is cut short"),
        (lambda content: cut_short(gzip.decompress(content)), "P1_t1ce.nii.gz: is cut short"),
    ],
)
def test_an_unreadable_file_is_a_problem_of_its_case_alone(tmp_path: Path, damage, problem: str) -> None:
    file = write_case(tmp_path, "P1") / "P1_t1ce.nii.gz"
    file.write_bytes(damage(file.read_bytes()))
    write_case(tmp_path, "P2")
    findings = audit(tmp_path)
    assert [record.id for record in findings.unusable] == ["P1"]
    (found,) = findings.cases[0].problems
    assert found.startswith(problem)


def test_a_missing_modality_is_a_problem(tmp_path: Path) -> None:
    (write_case(tmp_path, "P1") / "P1_t1ce.nii.gz").unlink()
    (problem,) = only_record(tmp_path).problems
    assert problem.startswith("no T1CE image in") and "*-t1c.nii" in problem
    assert only_record(tmp_path, modalities=("flair",)).problems == []


def test_a_broken_label_map_is_a_problem(tmp_path: Path) -> None:
    (write_case(tmp_path, "P1") / "P1_seg.nii.gz").write_bytes(LFS_POINTER)
    assert "Git LFS pointer" in only_record(tmp_path).problems[0]


def test_other_shapes_and_affines_are_problems(tmp_path: Path) -> None:
    folder = write_case(tmp_path, "P1", t1ce=brain(1)[:-1])
    moved = LPS.copy()
    moved[2, 3] = 5
    write_image(folder / "P1_seg.nii.gz", tumour(1, 2, 4), moved)
    assert only_record(tmp_path).problems == [
        "t1ce has 23×24×20 voxels, flair 24×24×20",
        "label map and flair have different affines",
    ]


def test_a_header_without_orientation_is_named_where_the_others_state_one(tmp_path: Path) -> None:
    folder = write_case(tmp_path, "P1")
    image = nib.Nifti1Image(tumour(1, 2, 4), None)
    assert int(image.header["sform_code"]) == int(image.header["qform_code"]) == 0
    nib.save(image, folder / "P1_seg.nii.gz")
    assert only_record(tmp_path).problems == [
        "label map and flair have different affines: label map states none (sform_code and qform_code are 0)"
    ]


def test_an_affine_without_volume_is_a_problem(tmp_path: Path) -> None:
    folder = write_case(tmp_path, "P1")
    for modality in ("flair", "t1ce", "seg"):
        image = nib.load(folder / f"P1_{modality}.nii.gz")
        image.header["srow_z"], image.header["srow_y"] = (0, 0, 0, 0), (0, 0, 0, 0)
        image.header["vox_offset"] = 352
        (folder / f"P1_{modality}.nii.gz").write_bytes(
            gzip.compress(image.header.binaryblock + bytes(4) + np.asarray(image.dataobj).tobytes(order="F"))
        )
    problem = "its affine does not describe a volume; convert it again from its source"
    assert only_record(tmp_path).problems == [
        f"P1_{modality}.nii.gz: {problem}" for modality in ("flair", "t1ce", "seg")
    ]


def test_infinite_and_empty_images_are_problems(tmp_path: Path) -> None:
    infinite = brain(1).astype(np.float32)
    infinite[12, 12, 10:12] = np.nan, np.inf
    write_case(tmp_path, "P1", flair=infinite, t1ce=np.zeros(SHAPE, np.int16))
    assert only_record(tmp_path).problems == [
        "P1_flair.nii.gz: 2 voxels are not finite; replace them or convert it again from its source",
        "t1ce: is empty, every voxel is 0; export it again",
    ]


@pytest.mark.parametrize(
    ("labels", "named"),
    [(tumour(1, 2, 4, 7), "7"), (tumour(1, 2, 4).astype(np.float32) / 2, "0.5"), (tumour(1, 2, 255), "255")],
)
def test_a_label_from_the_wrong_set_is_a_problem(tmp_path: Path, labels: np.ndarray, named: str) -> None:
    write_case(tmp_path, "P1", labels=labels)
    write_case(tmp_path, "P2", labels=tumour(1, 2, 4))
    findings = audit(tmp_path)
    (problem,) = findings.cases[0].problems
    assert f"label map: {named} is no label of BraTS up to 2022" in problem
    assert findings.cases[0].voxels[named] == 4
    assert findings.cases[1].problems == []


def test_a_mixture_of_3_and_4_is_an_error_and_the_fewer_cases_are_unusable(tmp_path: Path) -> None:
    write_case(tmp_path, "old1", labels=tumour(1, 2, 4))
    write_case(tmp_path, "old2", labels=tumour(1, 2, 4))
    write_case(tmp_path, "young", labels=tumour(1, 2, 3))
    findings = audit(tmp_path)
    assert findings.convention is None
    assert "old1 holds 4" in findings.errors[0] and "young holds 3" in findings.errors[0]
    assert [record.id for record in findings.unusable] == ["young"]
    assert "error: " in printed(findings)


def test_a_surprise_in_one_case_does_not_stop_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_case(tmp_path, "P1")
    write_case(tmp_path, "P2")
    real = find_background

    def surprise(voxels: np.ndarray) -> Background:
        monkeypatch.setattr("workflows.audit.case_checks.find_background", real)
        raise MemoryError("no room")

    monkeypatch.setattr("workflows.audit.case_checks.find_background", surprise)
    first, second = audit(tmp_path).cases
    assert first.problems == ["cannot be checked (MemoryError: no room)"]
    assert second.problems == []


def test_a_folder_without_cases_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no case found"):
        audit(tmp_path)


# Warnings and facts


def test_empty_classes_are_reported_with_their_cases(tmp_path: Path) -> None:
    write_case(tmp_path, "P1", labels=tumour(1, 2))
    write_case(tmp_path, "P2", labels=tumour(4, 4))
    write_case(tmp_path, "P3", labels=tumour())
    findings = audit(tmp_path)
    assert [record.empty_classes for record in findings.cases] == [
        ["enhancing tumour"],
        ["necrotic core", "oedema"],
        ["necrotic core", "oedema", "enhancing tumour"],
    ]
    assert findings.unusable == []
    assert findings.cases[2].warnings == ["label map: no tumour"]
    assert "No enhancing tumour in 2 of 3 cases: P1, P3" in printed(findings)


def test_a_segmentation_under_another_name_is_said_so(tmp_path: Path) -> None:
    folder = write_case(tmp_path, "BraTS20_Training_355")
    (folder / "BraTS20_Training_355_seg.nii.gz").rename(folder / "W39_1998.09.19_Segm.nii.gz")
    record = only_record(tmp_path)
    assert record.problems == []
    assert record.warnings == ["the segmentation has another name: W39_1998.09.19_Segm.nii.gz"]


def test_of_four_tumour_slices_one_below_the_window_is_a_quarter() -> None:
    labels = tumour(1, 2, 2, 4, first_slice=3)
    assert share_outside(labels, LPS, (4, 16)) == 0.25
    assert share_outside(labels, LPS, (3, 7)) == 0
    assert share_outside(labels, LPS, (7, 20)) == 1
    assert share_outside(tumour(), LPS, (4, 16)) is None


def test_the_window_is_meant_in_millimetres() -> None:
    labels = tumour(1, 2, 2, 4, first_slice=8)  # at 2 mm per slice: 16, 18, 20 and 22 mm
    assert share_outside(labels, LPS @ np.diag([1, 1, 2, 1]), (18, 22)) == 0.5


@pytest.mark.parametrize("axcodes", ["LPS", "RAS", "LPI", "SPL", "AIR"])
def test_the_window_lies_along_the_patients_axis_in_every_orientation(tmp_path: Path, axcodes: str) -> None:
    folder = write_case(tmp_path, "P1", labels=tumour(1, 2, 2, 4, first_slice=3))
    for file in folder.iterdir():
        image = nib.load(file)
        there = nib.orientations.ornt_transform(
            nib.io_orientation(image.affine), nib.orientations.axcodes2ornt(tuple(axcodes))
        )
        nib.save(image.as_reoriented(there), file)
    record = only_record(tmp_path)
    assert (record.problems, record.orientation, record.outside_window) == ([], axcodes, 0.25)


def test_a_window_that_leaves_the_volume_is_a_warning(tmp_path: Path) -> None:
    write_case(tmp_path, "P1")
    assert only_record(tmp_path, slice_range=(4, 20)).warnings == []
    assert only_record(tmp_path, slice_range=(60, 135)).warnings == [
        "label map: no tumour in the slices in use",
        "the slices in use, 60–134, reach beyond its 20 slices of 1 mm",
    ]


def test_a_head_with_skull_is_warned_of(tmp_path: Path) -> None:
    folder = write_case(tmp_path, "big")
    for modality in ("flair", "t1ce", "seg"):
        file = folder / f"big_{modality}.nii.gz"
        write_image(file, np.asarray(nib.load(file).dataobj), LPS @ np.diag([12, 12, 10, 1]))  # 3.1 litres
    write_case(tmp_path, "sound")
    looks = "looks as if the skull were not stripped"
    warnings = {record.id: record.warnings for record in audit(tmp_path).cases}
    assert f"flair, t1ce: {looks}" in warnings["big"]
    assert warnings["sound"] == []


def test_noise_around_the_brain_and_broken_voxels_are_warned_of_and_no_brain(tmp_path: Path) -> None:
    noisy = brain(1) + np.random.default_rng(0).integers(0, 9, SHAPE, dtype=np.int16)
    broken = brain(2).astype(np.float32)
    broken[0, 0, :3] = 1e9
    write_case(tmp_path, "P1", flair=noisy, t1ce=broken)
    record = only_record(tmp_path)
    assert record.warnings == [
        "flair: the background is not one value; what is within 17.8 of 0 is taken for it",
        "t1ce: 1e+09 is far beyond its intensities; 3 such voxels are taken for background",
    ]


def test_unregistered_modalities_are_warned_of(tmp_path: Path) -> None:
    write_case(tmp_path, "P1", t1ce=brain(1, shift=3))
    (warning,) = only_record(tmp_path).warnings
    assert warning.startswith("flair and t1ce look unregistered, their brains overlap by 0.")


def test_masks_as_different_as_real_ones_are_no_reason_for_a_warning(tmp_path: Path) -> None:
    slightly = brain(1)
    inside = np.flatnonzero(slightly)
    slightly.flat[inside[: len(inside) // 40]] = 0  # intersection over union 0.975
    write_case(tmp_path, "P1", t1ce=slightly, labels=tumour(1, 2, 4))
    assert only_record(tmp_path).warnings == []


def test_the_background_of_a_z_scored_copy_is_not_zero(tmp_path: Path) -> None:
    raw = brain(1)
    scored = ((raw - raw.mean()) / raw.std()).astype(np.float32)
    np.testing.assert_array_equal(brain_mask(scored), raw > 0)
    write_case(tmp_path, "P1", flair=scored)
    assert (only_record(tmp_path).problems, only_record(tmp_path).warnings) == ([], [])


def test_one_image_under_two_modalities_is_warned_of(tmp_path: Path) -> None:
    write_case(tmp_path, "P1", flair=brain(1), t1ce=brain(1))
    assert only_record(tmp_path).warnings == ["flair and t1ce are the same image"]


# Patients that appear twice


def test_a_renamed_and_repacked_copy_of_another_year_is_reported(tmp_path: Path) -> None:
    write_case(tmp_path / "2020", "BraTS20_Training_001", seed=7, labels=tumour(1, 2, 4))
    write_case(tmp_path / "2021", "BraTS2021_00001", seed=8, labels=tumour(1, 2, 4).astype(np.float32))
    write_image(tmp_path / "2021" / "BraTS2021_00001" / "BraTS2021_00001_t1ce.nii.gz", brain(15).astype(np.float32))
    write_case(tmp_path / "2020", "BraTS20_Training_002", labels=tumour(2, 1, 4))
    findings = audit(tmp_path)
    (pair,) = findings.duplicates
    assert pair.cases == ("BraTS2021_00001", "BraTS20_Training_001")
    assert set(pair.same) == {"t1ce", "label map"}
    assert "Same patient twice: BraTS2021_00001 and BraTS20_Training_001 (same t1ce, label map)" in printed(findings)
    assert findings.unusable == []


def test_two_cases_without_tumour_are_not_one_patient(tmp_path: Path) -> None:
    for name in ("P1", "P2"):
        write_case(tmp_path, name, labels=tumour())
    assert audit(tmp_path).duplicates == ()


def test_one_id_in_two_folders_and_two_time_points_are_one_patient(tmp_path: Path) -> None:
    write_case(tmp_path / "a", "BraTS-GLI-00001-000", seed=1)
    write_case(tmp_path / "b", "BraTS-GLI-00001-000", seed=2)
    write_case(tmp_path / "a", "BraTS-GLI-00002-000", seed=3)
    write_case(tmp_path / "a", "BraTS-GLI-00002-001", seed=4)
    pairs = audit(tmp_path).duplicates
    assert [(pair.folders, pair.same) for pair in pairs] == [
        (("a/BraTS-GLI-00001-000", "b/BraTS-GLI-00001-000"), ("id", "patient")),
        (("a/BraTS-GLI-00002-000", "a/BraTS-GLI-00002-001"), ("patient",)),
    ]


def test_names_that_may_be_one_patients_are_warned_of_until_the_patient_is_named(tmp_path: Path) -> None:
    for seed, name in enumerate(("P07_1", "P07_2", "P09_1", "P09_2"), start=1):
        write_case(tmp_path, name, seed=seed)
    (warning,) = (found := audit(tmp_path)).warnings
    assert warning.startswith("P07_1 and P07_2, P09_1 and P09_2 count as different patients")
    assert f"warning: {warning}" in printed(found) and found.duplicates == ()
    told = audit(tmp_path, reading=Reading(patient=r"P\d+"))
    assert [record.patient for record in told.cases] == ["P07", "P07", "P09", "P09"]
    assert [pair.same for pair in told.duplicates] == [("patient",)] * 2
    assert told.warnings == ()


def test_a_case_without_a_time_point_is_the_same_patient_as_those_with_one(tmp_path: Path) -> None:
    for seed, name in enumerate(("P07", "P07_followup1", "P08"), start=1):
        write_case(tmp_path, name, seed=seed)
    (pair,) = audit(tmp_path).duplicates
    assert (pair.cases, pair.same) == (("P07", "P07_followup1"), ("patient",))


# On the terminal


def test_the_table_is_plain_and_fits_100_columns_where_no_terminal_listens(tmp_path: Path) -> None:
    write_case(tmp_path, "BraTS20_Training_001", labels=tumour(1, 2, 2, 4, first_slice=3))
    (write_case(tmp_path, "BraTS20_Training_002") / "BraTS20_Training_002_t1ce.nii.gz").write_bytes(LFS_POINTER)
    (tmp_path / "survival_info.csv").touch()
    text = printed(audit(tmp_path))
    table, rest = text.split("\n\n", maxsplit=1)
    assert max(map(len, table.splitlines())) <= 100
    assert "\x1b" not in text and "│" not in text
    assert table.splitlines()[2].split() == ["BraTS20_Training_001", "24×24×20", "4", "8", "4", "25.0%", "ok"]
    assert table.splitlines()[3].split()[-1] == "unusable"
    assert "BraTS20_Training_002: unusable: BraTS20_Training_002_t1ce.nii.gz: is a Git LFS pointer" in rest
    assert "2 cases, 2 with labels, 1 unusable" in rest
    assert "Labels: BraTS up to 2022, enhancing tumour is 4" in rest
    assert "Ignored, belong to no case: survival_info.csv" in rest


def test_an_id_that_looks_like_markup_is_printed_as_it_is(tmp_path: Path) -> None:
    write_case(tmp_path, "[red]P1 :brain:", labels=tumour())
    table, rest = printed(audit(tmp_path)).split("\n\n", maxsplit=1)
    assert "[red]P1 :brain:" in table and "[red]P1 :brain:: label map: no tumour" in rest


# Real cases


@pytest.fixture(scope="module")
def real() -> Audit:
    if not REAL_DATA:
        pytest.skip("BRATS_REAL_DATA names no folder with the real cases")
    return audit_dataset(REAL_DATA, workers=2)


def test_the_real_cases_are_sound_and_counted_to_the_voxel(real: Audit) -> None:
    assert {record.id: tuple(list(record.voxels.values())[1:]) for record in real.cases} == REAL_TUMOUR_VOXELS
    assert (real.unusable, real.duplicates) == ([], ())
    assert [record.warnings for record in real.cases] == [[]] * 14
    assert [Path(file).name for file in real.stray] == ["name_mapping.csv", "survival_info.csv"]


def test_the_study_window_loses_nothing_to_99_percent_of_a_real_tumour_17_on_average(real: Audit) -> None:
    shares = [record.outside_window or 0.0 for record in real.cases]
    assert (round(min(shares), 2), round(max(shares), 2), round(sum(shares) / 14, 2)) == (0, 0.99, 0.17)
