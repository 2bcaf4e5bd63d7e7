"""Every layout that the documentation lists: each patient once, its images, its segmentation, its classes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.data.layouts import CORE, ENHANCING, LAYOUTS, OEDEMA, TO_2022, Layout, Patient, save, with_ends
from tests.support import LPS, TINY_SETTINGS, Started
from transforms.files import nifti_signature
from transforms.labels import REGIONS
from workflows.audit.dataset_checks import audit_dataset
from workflows.data.find_cases import find_cases
from workflows.data.label_conventions import BRATS_TO_2022
from workflows.data.reading import Reading
from workflows.image_files.nifti_files import load_image, read_voxels
from workflows.image_files.oriented import as_classes
from workflows.messages.errors import DatasetError
from workflows.scoring.per_case_csv import read_rows
from workflows.splits.split import make_split

SIZE = (24, 24, 30)


def patient(number: int) -> Patient:
    """A brain that differs from patient to patient, with a tumour of three classes."""
    rng = np.random.default_rng(number)
    brain = np.zeros(SIZE, bool)
    brain[3:-3, 3:-3, 3:-3] = True
    classes = np.zeros(SIZE, np.uint8)
    for index, margin in ((OEDEMA, 7), (CORE, 8), (ENHANCING, 10)):
        classes[margin:-margin, margin:-margin, margin : -margin - number] = index
    voxels = {
        what: np.where(brain, rng.integers(50, 900, SIZE), 0).astype(np.int16) for what in ("flair", "t1ce", "t1", "t2")
    }
    return Patient({**voxels, "seg": classes}, LPS)


PATIENTS = [patient(number) for number in range(3)]


def classes_of(patients: list[Patient]) -> list[list[int]]:
    return sorted(np.bincount(patient.voxels["seg"].ravel(), minlength=4)[1:].tolist() for patient in patients)


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_gives_each_patient_once_with_its_images_and_classes(tmp_path: Path, name: str) -> None:
    layout = LAYOUTS[name]
    layout.write(tmp_path, PATIENTS)
    reading = Reading(labels=layout.labels)
    audit = audit_dataset(tmp_path, workers=1, reading=reading)
    assert audit.errors == () and [record.problems for record in audit.cases] == [[], [], []]
    assert len({record.id for record in audit.cases}) == len({record.patient for record in audit.cases}) == 3
    assert audit.duplicates == ()
    for record in audit.cases:
        assert {"flair", "t1ce", "t1", "t2", "label"} == set(record.files)
    convention = audit.convention
    assert convention is not None
    found = []
    for record in audit.cases:
        counts = [0, 0, 0, 0]
        for value, voxels in record.voxels.items():
            counts[convention.classes[int(value)]] += voxels
        found.append(counts[1:])
    assert sorted(found) == classes_of(PATIENTS)
    made = make_split(find_cases(tmp_path, reading=reading))
    assert [len(made[section]) for section in ("training", "validation", "testing")] == [1, 1, 1]


def test_an_id_says_which_patient_and_when(tmp_path: Path) -> None:
    ids = {}
    for name, layout in LAYOUTS.items():
        layout.write(tmp_path / name, PATIENTS[:1])
        ids[name] = [case.id for case in find_cases(tmp_path / name).cases]
    assert ids["egd"] == ["EGD-0001"]
    assert ids["lumiere"] == ["Patient-001_week-000-1"]
    assert ids["bids"] == ["sub-001_ses-01"]
    assert ids["mu-glioma-post"] == ["PatientID_0003_Timepoint_1"]
    assert ids["brats-2013"] == ["HG_0001"] and ids["brats-2015"] == ["brats_2013_pat0001_1"]
    assert ids["upenn-gbm"] == ["UPENN-GBM-00001_11"] and ids["decathlon"] == ["BRATS_001"]


@pytest.mark.parametrize(
    ("name", "labels"), [("lumiere", "1, 2, 3"), ("rhuh-gbm", "1, 2, 3"), ("ucsf-alptdg", "1, 2, 3")]
)
def test_where_names_do_not_tell_the_labels_the_user_is_asked(tmp_path: Path, name: str, labels: str) -> None:
    LAYOUTS[name].write(tmp_path, PATIENTS)
    (error,) = audit_dataset(tmp_path, workers=1).errors
    assert f"what the labels {labels} mean" in error and "--labels" in error and "decathlon (1 oedema" in error
    with pytest.raises(DatasetError, match="--labels"):
        make_split(find_cases(tmp_path))


@pytest.mark.parametrize("name", ["egd", "bids", "rhuh-gbm"])
def test_a_mask_of_one_label_or_of_the_brain_is_no_segmentation(tmp_path: Path, name: str) -> None:
    layout = LAYOUTS[name]
    layout.write(tmp_path, PATIENTS[:2])
    lesion, tissues = (tmp_path / layout.names[-1].format(n=number) for number in (1, 2))
    save((PATIENTS[0].voxels["seg"] > 0).astype(np.uint8), LPS, lesion)
    stripes = np.arange(SIZE[0], dtype=np.uint8)[:, None, None] % 3 + 1
    save(np.broadcast_to(stripes, SIZE).copy(), np.diag([-6.0, -6.0, 6.0, 1.0]), tissues)  # of 3.7 litres
    cases = find_cases(tmp_path).cases
    assert [case.segmentation for case in cases] == [None, None]
    assert all("holds one label, or others than those of a tumour" in case.notes[-1] for case in cases)


def test_a_map_under_another_name_is_read_before_it_is_believed(tmp_path: Path) -> None:
    for number, name in ((1, "lesion_seg"), (2, "wm_seg"), (3, "drawn_by_hand_segmented")):
        layout = Layout((*with_ends("P{n}/P{n}_*.nii.gz", "flair", "t1ce", "t1", "t2"), f"P{{n}}/P{{n}}_{name}.nii.gz"))
        Layout(layout.names, first=number).write(tmp_path, PATIENTS[:1])
    lesion = tmp_path / "P1" / "P1_lesion_seg.nii.gz"
    save((PATIENTS[0].voxels["seg"] > 0).astype(np.uint8), LPS, lesion)
    cases = find_cases(tmp_path).cases
    assert [case.segmentation and case.segmentation.name for case in cases] == [
        None,
        None,
        "P3_drawn_by_hand_segmented.nii.gz",
    ]


def test_of_two_segmentations_the_better_is_used_wherever_it_lies(tmp_path: Path) -> None:
    LAYOUTS["upenn-gbm"].write(tmp_path, PATIENTS[:1])
    PATIENTS[1].write("seg", tmp_path / "automated_segm" / "UPENN-GBM-00001_11_automated_approx_segm.nii.gz", TO_2022)
    (case,) = find_cases(tmp_path).cases
    assert case.segmentation == tmp_path / "images_segm" / "UPENN-GBM-00001_11_segm.nii.gz"
    assert case.notes == (
        "seg is there 2 times: images_segm/UPENN-GBM-00001_11_segm.nii.gz is used, "
        "automated_segm/UPENN-GBM-00001_11_automated_approx_segm.nii.gz ignored",
    )


def test_a_prediction_of_ours_below_the_data_folder_is_no_reference(tmp_path: Path) -> None:
    names = LAYOUTS["brats-2021"].names
    Layout((*names[:4], "elsewhere/BraTS2021_{n:05d}_seg.nii.gz")).write(tmp_path, PATIENTS[:1])
    file = tmp_path / "elsewhere" / "BraTS2021_00001_seg.nii.gz"
    assert [case.segmentation for case in find_cases(tmp_path).cases] == [file]
    image = nib.load(file)
    image.header["descrip"] = nifti_signature(image.to_bytes())
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), image.affine, image.header), file)
    assert [case.segmentation for case in find_cases(tmp_path).cases] == [None]


@pytest.mark.parametrize("folder", ["sub-001/ses-01/anat", "derivatives/drawn/sub-001/ses-01/anat"])
def test_bids_names_with_entities_and_a_segmentation_among_the_derivatives(tmp_path: Path, folder: str) -> None:
    case = "sub-001_ses-01"
    names = with_ends(
        f"sub-001/ses-01/anat/{case}_*.nii.gz", "space-MNI_FLAIR", "acq-3d_ce-gadolinium_run-1_T1w", "T1w", "T2w"
    )
    Layout((*names, f"{folder}/{case}_space-MNI_desc-tumor_dseg.nii.gz")).write(tmp_path, PATIENTS[:1])
    (found,) = find_cases(tmp_path).cases
    assert (found.id, found.modalities) == (case, ("flair", "t1ce", "t1", "t2"))
    assert found.images["t1ce"].name.endswith("run-1_T1w.nii.gz") and found.segmentation


@pytest.mark.parametrize("case", ["no_tumour", "P1_seg", "tumor_mask_7"])
def test_an_id_may_end_in_a_word_of_the_suffixes(tmp_path: Path, case: str) -> None:
    names = with_ends(f"{case}/{case}_*.nii.gz", "flair", "t1ce", "t1", "t2", "seg")
    Layout(names).write(tmp_path, PATIENTS[:1])
    (found,) = find_cases(tmp_path).cases
    assert (found.id, found.notes) == (case, ()) and found.segmentation == tmp_path / case / f"{case}_seg.nii.gz"


def test_the_difference_of_two_images_is_neither(tmp_path: Path) -> None:
    LAYOUTS["ucsf-alptdg"].write(tmp_path, PATIENTS[:1])
    PATIENTS[1].write("t1", tmp_path / "100001" / "100001_time1_t1ce-t1.nii.gz", TO_2022)
    found = find_cases(tmp_path)
    assert [case.notes for case in found.cases] == [()]
    assert [file.name for file in found.stray] == ["100001_time1_t1ce-t1.nii.gz"]


def test_a_map_of_one_label_counts_where_others_of_its_name_hold_several(tmp_path: Path) -> None:
    only_oedema = Patient({**PATIENTS[0].voxels, "seg": np.where(PATIENTS[0].voxels["seg"], OEDEMA, 0)}, LPS)
    LAYOUTS["egd"].write(tmp_path, [only_oedema, PATIENTS[1]])
    assert all(case.segmentation for case in find_cases(tmp_path).cases)


@pytest.mark.parametrize("values", [{CORE: 1, OEDEMA: 2, ENHANCING: 4}, {OEDEMA: 2, ENHANCING: 4}])
def test_under_names_from_2023_on_4_without_3_is_not_enhancing_tumour(tmp_path: Path, values: dict[int, int]) -> None:
    Layout(LAYOUTS["brats-2023 glioma"].names, values).write(tmp_path, PATIENTS)
    (error,) = audit_dataset(tmp_path, workers=1).errors
    assert "--labels" in error
    Layout(LAYOUTS["brats-2024 after treatment"].names, values).write(tmp_path / "later", PATIENTS)
    audit = audit_dataset(tmp_path / "later", workers=1)
    assert (
        audit.convention and audit.convention.class_name(4) == "resection cavity" and audit.convention.classes[4] == 0
    )
    assert all("enhancing tumour" in record.empty_classes for record in audit.cases)


def test_patterns_find_what_no_table_foresees_and_a_split_remembers_them(tmp_path: Path) -> None:
    names = ("{n}/MR/f_1.nii.gz", "{n}/MR/gd_7.nii.gz", "{n}/MR/a_1.nii.gz", "{n}/MR/b_1.nii.gz", "drawn/{n}.nii.gz")
    Layout(names, first=31).write(tmp_path, PATIENTS)
    files = ("FLAIR={case}/**/F_*.nii*", "T1ce={case}/MR/gd_?.nii.gz", "label=drawn/{case}.nii.gz")
    reading = Reading(files)
    found = find_cases(tmp_path, reading=reading)
    assert [(case.id, case.modalities) for case in found.cases] == [(str(n), ("flair", "t1ce")) for n in (31, 32, 33)]
    assert [case.segmentation for case in found.cases] == [tmp_path / "drawn" / f"{n}.nii.gz" for n in (31, 32, 33)]
    assert reading.stated() == {"files": list(files)}
    with pytest.raises(DatasetError, match=r"no file matches the pattern of t1ce, \{case\}/x\.nii"):
        find_cases(tmp_path, reading=Reading((files[0], "t1ce={case}/x.nii")))
    with pytest.raises(DatasetError, match=r"31: 31/MR/a_1.nii.gz and 31/MR/b_1.nii.gz match .* narrow it"):
        find_cases(tmp_path, reading=Reading((files[0], "t1ce={case}/MR/?_1.nii.gz")))


def test_the_command_lists_what_was_taken_for_what(tmp_path: Path, command: Callable[..., Started]) -> None:
    LAYOUTS["ucsf-pdgm"].write(tmp_path / "data", PATIENTS[:1])
    ended = command("audit", tmp_path / "data", "--list", "--workers", 1, "--out", tmp_path / "audit.json")
    assert ended.status == 0, ended.stderr
    assert "  label  UCSF-PDGM-0004_nifti/UCSF-PDGM-0004_tumor_segmentation.nii.gz" in ended.stdout
    record = json.loads((tmp_path / "audit.json").read_text())["cases"][0]
    assert set(record["voxels"]) == {"0", *map(str, TO_2022.values())}


@pytest.mark.parametrize(
    "option", [("--labels", "brats"), ("--labels", "1=liver"), ("--files", "T3={case}.nii"), ("--files", "t1=a.nii")]
)
def test_an_option_that_is_not_understood_is_one_line(
    tmp_path: Path, command: Callable[..., Started], option: tuple[str, str]
) -> None:
    ended = command("audit", tmp_path, *option)
    assert ended.status == 1 and ended.stderr.startswith("error: ") and option[1] in ended.stderr


@pytest.fixture(scope="module")
def phantoms(phantom_dir: Path) -> list[Patient]:
    """The generated patients of `phantom_dir`, as voxels and classes."""
    patients = []
    for case in find_cases(phantom_dir).cases:
        images = {what: load_image(file) for what, file in case.images.items()}
        assert case.segmentation
        classes = as_classes(read_voxels(load_image(case.segmentation)), BRATS_TO_2022.classes)
        voxels = {what: read_voxels(image) for what, image in images.items()}
        patients.append(Patient({**voxels, "seg": classes}, images["flair"].affine))
    return patients


@pytest.mark.slow
@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_passes_audit_split_training_prediction_and_evaluation(
    tmp_path: Path, phantoms: list[Patient], command: Callable[..., Started], name: str
) -> None:
    layout, data = LAYOUTS[name], tmp_path / "data"
    layout.write(data, phantoms)
    said = ("--labels", layout.labels) if layout.labels else ()
    settings = [f"--{setting}={value}" for setting, value in {**TINY_SETTINGS, "slices_per_step": 64}.items()]
    started = [
        command("audit", data, *said, "--out", tmp_path / "audit.json", "--workers", 1),
        command("split", data, *said, "--out", tmp_path / "split.json"),
        command("train", "--dataset-dir", data, *said, "--out", tmp_path / "run", "--max_epochs", 1, *settings),
        command(
            *("predict", data, *said, "--checkpoint", tmp_path / "run" / "model.pt", "--out", tmp_path / "maps"),
            *("--no-report", "--device", "cpu"),
        ),
        command(
            *("evaluate", "--predictions", tmp_path / "maps", "--references", data, *said),
            *("--out", tmp_path / "scores", "--workers", 1),
        ),
    ]
    assert [(ended.status, ended.stderr) for ended in started if ended.status] == []
    rows = read_rows(tmp_path / "scores" / "per_case.csv")
    own = {region: [] for region in REGIONS}
    for row in rows:
        if row["region"] in own:
            own[row["region"]].append(row["reference_ml"])
    voxel_ml = abs(np.linalg.det(phantoms[0].affine[:3, :3])) / 1000
    for region, classes in REGIONS.items():
        true = [np.isin(patient.voxels["seg"], classes).sum() * voxel_ml for patient in phantoms]
        assert sorted(own[region]) == pytest.approx(sorted(true)), region
