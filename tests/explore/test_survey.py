"""The survey counts to the voxel, reads every file once, and one broken case never stops the others."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from tests.audit.test_audit import REAL_TUMOUR_VOXELS
from tests.support import LPS, Head, WritePatient
from workflows.audit.case_checks import share_outside
from workflows.data import case_images
from workflows.data.find_cases import find_cases
from workflows.data.label_conventions import BRATS_TO_2022
from workflows.explore.data_in_words import case_lines, narrowest_window, share_of_class, windows_table
from workflows.explore.survey import CaseSurvey, DatasetSurvey, survey_case, survey_dataset
from workflows.messages.errors import DatasetError

MODALITIES = ("flair", "t1ce")
REAL_DATA = os.environ.get("BRATS_REAL_DATA")


def survey(folder: Path) -> DatasetSurvey:
    return survey_dataset(find_cases(folder).cases, MODALITIES, workers=1)


def write_decathlon(folder: Path, head: Head) -> None:
    """One case whose single file holds FLAIR, T1 and T1ce, labelled with oedema 1, non-enhancing 2, enhancing 3."""
    (folder / "imagesTr").mkdir(parents=True)
    (folder / "labelsTr").mkdir()
    four_d = np.stack([head["flair"], head["t1ce"] // 2, head["t1ce"]], axis=-1)
    seg = np.array([0, 2, 1, 0, 3], np.uint8)[head["seg"]]
    nib.save(nib.Nifti1Image(four_d, LPS), folder / "imagesTr" / "BRATS_001.nii.gz")
    nib.save(nib.Nifti1Image(seg, LPS), folder / "labelsTr" / "BRATS_001.nii.gz")
    listed = [{"image": "./imagesTr/BRATS_001.nii.gz", "label": "./labelsTr/BRATS_001.nii.gz"}]
    modality = {"0": "FLAIR", "1": "T1w", "2": "t1gd"}
    (folder / "dataset.json").write_text(json.dumps({"modality": modality, "training": listed}))


def test_labels_are_counted_by_value_and_by_slice(write_patient: WritePatient, head: Head, tmp_path: Path):
    write_patient()
    (case,) = survey(tmp_path).cases
    assert case.shape == (48, 48, 40)
    assert case.label_voxels == {value: int((head["seg"] == value).sum()) for value in (0, 1, 2, 4)}
    assert case.tumour_slice_voxels.tolist() == [int((head["seg"][..., z] > 0).sum()) for z in range(40)]


@pytest.mark.parametrize("window", [(0, 40), (15, 22), (25, 90), (60, 135)])
@pytest.mark.parametrize("slice_mm", [1.0, 2.5])
def test_a_window_keeps_what_the_audit_does_not_count_as_outside(
    write_patient: WritePatient, head: Head, tmp_path: Path, window: tuple[int, int], slice_mm: float
):
    affine = np.diag([-1, 1, -slice_mm, 1])  # stored from top to bottom
    write_patient(affine=affine)
    found = survey(tmp_path)
    outside = share_outside(head["seg"], affine, window)
    assert outside is not None
    assert found.cases[0].share_kept(window) == pytest.approx(1 - outside)
    assert share_of_class(found, None, window) == pytest.approx(1 - outside)


def test_the_area_over_all_slices_is_the_volume(write_patient: WritePatient, tmp_path: Path):
    write_patient(affine=np.diag([-2.0, -1, 2, 1]))  # a voxel of 4 mm³
    found = survey(tmp_path)
    ml = found.area_per_mm().sum(axis=1) / 10  # slices of 0.1 cm
    assert ml == pytest.approx(list(found.cases[0].class_ml(BRATS_TO_2022.classes).values()))


def test_a_4d_file_is_read_once_and_gives_the_same_numbers(
    write_patient: WritePatient, head: Head, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write_patient()
    write_decathlon(tmp_path / "decathlon", head)
    opened: list[Any] = []
    load = case_images.load_image
    monkeypatch.setattr(case_images, "load_image", lambda path: opened.append(path) or load(path))
    (one,) = survey(tmp_path / "P1").cases
    assert len(opened) == 3
    found = survey(tmp_path / "decathlon")
    assert [Path(path).name for path in opened[3:]] == ["BRATS_001.nii.gz"] * 2
    for modality in MODALITIES:
        assert np.array_equal(found.cases[0].quantiles[modality], one.quantiles[modality])
    assert found.cases[0].class_ml(found.convention.classes) == one.class_ml(BRATS_TO_2022.classes)


def test_histograms_hold_every_brain_voxel_within_their_range_once(
    write_patient: WritePatient, head: Head, tmp_path: Path
):
    write_patient()
    (case,) = survey(tmp_path).cases
    brain = head["flair"][head["flair"] != 0].astype(float)
    scores = (brain - brain.mean()) / brain.std()
    assert sum(counts.sum() for counts in case.z_scores["flair"].values()) == ((scores >= -4) & (scores <= 6)).sum()
    assert case.quantiles["flair"][[0, -1]].tolist() == [brain.min(), brain.max()]


def test_the_brains_box_and_the_tumours_centre_lie_where_they_were_drawn(write_patient: WritePatient, tmp_path: Path):
    write_patient()
    (case,) = survey(tmp_path).cases
    assert case.brain_box_mm is not None
    assert case.tumour_centre is not None
    assert case.brain_box_mm.tolist() == [[5, 42], [7, 44], [1, 38]]  # a ball of radius 18 around (23, 25, 19)
    assert case.tumour_centre == pytest.approx([14.5 / 37, 20.5 / 37, 20.5 / 37])  # the tumour's is (19, 27, 21)


def test_a_label_map_along_other_axes_is_turned(write_patient: WritePatient, tmp_path: Path):
    write_patient("P1")
    turned = nib.load(tmp_path / "P1" / "P1_seg.nii.gz").as_reoriented(np.array([[2, 1], [0, -1], [1, 1]]))
    before, after = [], []
    for found in (before, after):
        (case,) = survey(tmp_path).cases
        assert case.tumour_centre is not None
        found += [*case.tumour_centre, *case.label_voxels.items()]
        nib.save(turned, tmp_path / "P1" / "P1_seg.nii.gz")
    assert before == after


def test_a_broken_case_is_named_and_the_others_are_read(write_patient: WritePatient, tmp_path: Path):
    write_patient("P1")
    write_patient("P2")
    (tmp_path / "P2" / "P2_t1ce.nii.gz").write_bytes(b"")
    found = survey(tmp_path)
    assert [case.id for case in found.cases] == ["P1"]
    assert [(case.id, "P2_t1ce.nii.gz: is empty" in case.problem) for case in found.unreadable] == [("P2", True)]


def test_a_data_set_of_which_nothing_can_be_read_is_refused(write_patient: WritePatient, tmp_path: Path):
    write_patient("P1")
    (tmp_path / "P1" / "P1_flair.nii.gz").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"None of 1 cases can be read; the first: .*P1_flair.nii.gz: is empty"):
        survey(tmp_path)


def test_cases_without_a_class_are_named(write_patient: WritePatient, head: Head, tmp_path: Path):
    write_patient("P1")
    write_patient("P2", seg=np.where(head["seg"] == 4, 1, head["seg"]))
    write_patient("P3", seg=np.zeros_like(head["seg"]))
    found = survey(tmp_path)
    assert found.empty_classes() == {1: ["P3"], 2: ["P3"], 3: ["P2", "P3"]}
    assert found.label_values()[4] == ["P1"]
    assert found.cases[2].share_kept((0, 40)) is None


def test_the_shortest_run_with_four_fifths_of_one_five_three_one_is_five_and_three():
    assert narrowest_window(np.array([1.0, 5, 3, 1]), 0.8) == (1, 3)
    assert narrowest_window(np.array([0.0, 5, 3, 0]), 1.0) == (1, 3)


def test_the_table_of_windows_starts_with_the_studys(write_patient: WritePatient, tmp_path: Path):
    write_patient()
    rows = windows_table(survey(tmp_path), (10, 33)).rows
    assert rows[0][:3] == ["the study's", "60–134", "75"]
    assert rows[1][:4] == ["the one chosen", "10–32", "23", "100.0%"]
    assert rows[-1][:4] == ["the narrowest with 100% of all tumour", "10–32", "23", "100.0%"]  # 21 ± 11


@pytest.mark.skipif(not REAL_DATA, reason="BRATS_REAL_DATA names no folder of real cases")
def test_real_cases_have_the_shape_the_values_and_the_voxels_that_were_counted_before():
    found = survey_dataset(find_cases(str(REAL_DATA)).cases, (), workers=1)
    real: dict[str, CaseSurvey] = {case.id: case for case in found.cases}
    assert set(real) == set(REAL_TUMOUR_VOXELS)
    for name, (necrosis, oedema, enhancing) in REAL_TUMOUR_VOXELS.items():
        background = 240 * 240 * 155 - necrosis - oedema - enhancing
        assert case_lines(real[name], found.convention) == [
            "shape 240×240×155, 1×1×1 mm, LPS",
            "label values 0, 1, 2, 4",
            f"  0 background: {background} voxels",
            f"  1 necrotic core: {necrosis} voxels",
            f"  2 oedema: {oedema} voxels",
            f"  4 enhancing tumour: {enhancing} voxels",
        ]


def test_a_name_that_is_no_text_is_named_before_it_is_drawn(write_patient: WritePatient, tmp_path: Path):
    write_patient("M\udcfcller")
    case = find_cases(tmp_path).cases[0]
    assert "bytes that are no text" in survey_case(case, ("flair",)).problem
