"""What is written lies on the source's grid with the source's header codes, whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import Compose, CopyItemsd

from tests.support import LPS, WritePatient
from transforms.files import write_whole
from transforms.pipelines import load_labels, saving
from workflows.data.reader import CaseReader

TILTED = nib.affines.from_matvec(
    nib.eulerangles.euler2mat(x=0.2, y=-0.1, z=0.3) @ np.diag([-1.0, -1.2, 2.0]), [20.0, -30.0, 7.0]
)


def with_codes(qform: int, sform: int) -> Callable[[nib.Nifti1Image], nib.Nifti1Image]:
    def change(image: nib.Nifti1Image) -> nib.Nifti1Image:
        affine = image.affine
        image.set_qform(affine if qform else None, code=qform)
        image.set_sform(affine if sform else None, code=sform)
        image.header.set_xyzt_units("mm", "sec")
        return image

    return change


def predicted(patient: dict[str, Any], probabilities: bool = False) -> dict[str, Any]:
    """A patient whose predicted class map is the true one, as post-processing hands it on."""
    loaded = Compose(
        [*load_labels("label", {0: 0, 1: 1, 2: 2, 4: 3}, CaseReader()), CopyItemsd("label", names="label_map")]
    )({"case": patient["case"], "label": patient["label"]})
    if probabilities:
        loaded["pred"] = torch.cat([(loaded["label_map"] == c).float() for c in range(4)]) * 0.75
    return loaded


def saved(folder: Path, patient: dict[str, Any], name: str = "seg") -> nib.Nifti1Image:
    return nib.load(folder / patient["case"] / f"{patient['case']}_{name}.nii.gz")


@pytest.mark.parametrize("affine", [LPS, TILTED], ids=["LPS", "tilted"])
@pytest.mark.parametrize(("qform", "sform"), [(1, 1), (1, 0), (2, 1), (0, 2), (1, 4), (0, 0)])
def test_the_label_map_has_the_affine_and_both_form_codes_of_its_source(
    tmp_path: Path, write_patient: WritePatient, affine: np.ndarray, qform: int, sform: int
):
    patient = write_patient(affine=affine, change=with_codes(qform, sform))
    saving(str(tmp_path / "out"))(predicted(patient))
    source, result = nib.load(patient["label"]), saved(tmp_path / "out", patient)
    assert (int(result.header["qform_code"]), int(result.header["sform_code"])) == (qform, sform)
    np.testing.assert_allclose(result.affine, source.affine, rtol=0, atol=1e-6)
    np.testing.assert_allclose(result.get_qform(), source.get_qform(), rtol=0, atol=1e-6)
    np.testing.assert_array_equal(result.get_sform(), source.get_sform())
    np.testing.assert_allclose(result.header.get_zooms(), source.header.get_zooms(), rtol=1e-6)
    assert result.header.get_xyzt_units() == ("mm", "sec")


def test_a_source_whose_two_forms_disagree_keeps_them_both(tmp_path: Path, write_patient: WritePatient):
    def disagree(image: nib.Nifti1Image) -> nib.Nifti1Image:
        image.set_qform(LPS, code=1)
        image.set_sform(np.diag([-1.0, -1.0, 1.0, 1.0]) + np.eye(4, k=3) * 5, code=2)
        return image

    patient = write_patient(change=disagree)
    saving(str(tmp_path / "out"))(predicted(patient))
    source, result = nib.load(patient["label"]), saved(tmp_path / "out", patient)
    np.testing.assert_array_equal(result.get_qform(), source.get_qform())
    np.testing.assert_array_equal(result.get_sform(), source.get_sform())


@pytest.mark.parametrize(("enhancing_value", "values"), [(4, [0, 1, 2, 4]), (3, [0, 1, 2, 3])])
def test_the_label_map_is_uint8_under_the_patients_name_with_the_files_values(
    tmp_path: Path, write_patient: WritePatient, enhancing_value: int, values: list[int]
):
    patient = write_patient("BraTS20_Training_001")
    saving(str(tmp_path / "out"), enhancing_value)(predicted(patient))
    file = tmp_path / "out" / "BraTS20_Training_001" / "BraTS20_Training_001_seg.nii.gz"
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == [file]
    result = nib.load(file)
    assert result.get_data_dtype() == np.uint8
    voxels, truth = np.asarray(result.dataobj), np.asarray(nib.load(patient["label"]).dataobj)
    assert np.unique(voxels).tolist() == values
    assert np.array_equal(np.where(voxels == enhancing_value, 4, voxels), truth)


def test_saving_adds_the_files_values_and_leaves_the_class_map(tmp_path: Path, write_patient: WritePatient):
    data = saving(str(tmp_path / "out"))(predicted(write_patient()))
    assert data["label_map"].unique().tolist() == [0, 1, 2, 3]
    assert data["seg"].unique().tolist() == [0, 1, 2, 4]


def test_probabilities_are_written_on_request_as_four_float32_channels(tmp_path: Path, write_patient: WritePatient):
    patient = write_patient(change=with_codes(2, 1))
    data = predicted(patient, probabilities=True)
    saving(str(tmp_path / "without"))(data)
    saving(str(tmp_path / "with"), save_probabilities=True)(data)
    assert not list((tmp_path / "without").rglob("*probabilities*"))
    result = saved(tmp_path / "with", patient, "probabilities")
    assert (result.shape, result.get_data_dtype()) == ((48, 48, 40, 4), np.float32)
    assert (int(result.header["qform_code"]), int(result.header["sform_code"])) == (2, 1)
    assert np.array_equal(np.asarray(result.dataobj), np.moveaxis(data["pred"].numpy(), 0, -1))


def test_a_failing_writer_leaves_the_old_file_and_nothing_half_written(
    tmp_path: Path, write_patient: WritePatient, monkeypatch: pytest.MonkeyPatch
):
    patient = write_patient()
    chain, data = saving(str(tmp_path / "out")), predicted(patient)
    chain(data)
    file = tmp_path / "out" / "P1" / "P1_seg.nii.gz"
    before = file.read_bytes()

    def fill_the_disk(path: Path, content: bytes) -> None:
        with path.open("wb") as half:
            half.write(content[: len(content) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fill_the_disk)
    with pytest.raises(RuntimeError) as failure:
        chain(data)
    assert "No space left" in str(failure.value.__cause__)
    assert [path.name for path in file.parent.iterdir()] == ["P1_seg.nii.gz"]
    assert file.read_bytes() == before


def test_a_file_appears_only_when_it_is_whole(tmp_path: Path):
    target = tmp_path / "new" / "figures.nii.gz"

    def write(path: Path) -> None:
        assert path.parent == target.parent and path.name.endswith(".nii.gz")
        path.write_text("half")
        assert not target.exists()
        path.write_text("whole")

    write_whole(target, write)
    assert target.read_text() == "whole"
    assert list(target.parent.iterdir()) == [target]


def test_an_interrupted_write_keeps_what_was_there(tmp_path: Path):
    target = tmp_path / "figures.csv"
    target.write_text("old")

    def interrupt(path: Path) -> None:
        path.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(target, interrupt)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]
