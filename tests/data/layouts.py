"""The layouts of public data sets that `docs/reference/data-sets.md` lists, written from patients' classes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

CORE, OEDEMA, ENHANCING = 1, 2, 3
TO_2022 = {CORE: 1, OEDEMA: 2, ENHANCING: 4}
FROM_2023 = {CORE: 1, OEDEMA: 2, ENHANCING: 3}
DECATHLON = {OEDEMA: 1, CORE: 2, ENHANCING: 3}
PAEDIATRIC = {ENHANCING: 1, CORE: 2, OEDEMA: 4}
DEEPBRATUMIA = {ENHANCING: 1, CORE: 2, OEDEMA: 3}
ORDER = ("flair", "t1ce", "t1", "t2", "seg")


@dataclass(frozen=True)
class Patient:
    """Voxels by modality, and under `seg` the class of each."""

    voxels: Mapping[str, np.ndarray]
    affine: np.ndarray

    def write(self, what: str, file: Path, values: Mapping[int, int]) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        voxels = np.zeros_like(self.voxels["seg"], dtype=np.uint8) if what == "seg" else self.voxels[what]
        for index, value in values.items() if what == "seg" else ():
            voxels[self.voxels["seg"] == index] = value
        save(voxels, self.affine, file)


def save(voxels: np.ndarray, affine: np.ndarray, file: Path) -> None:
    """By the ending of the name: NIfTI, or a format of ITK, whose axes grow to the left and the back."""
    if ".nii" in file.name:
        nib.save(nib.Nifti1Image(voxels, affine), file)
        return
    import SimpleITK

    image = SimpleITK.GetImageFromArray(voxels.T)
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    SimpleITK.WriteImage(image, str(file))


@dataclass(frozen=True)
class Layout:
    """How one data set names its files.

    Attributes:
        names: of FLAIR, T1ce, T1, T2 and the segmentation, below the data folder; `{n}` is the patient's number.
        values: in the label files, by class.
        first: the number of the first patient.
        labels: what the user has to say of the labels, where names and contents do not.
        finish: writes what else belongs to the data set.
    """

    names: Sequence[str]
    values: Mapping[int, int] = field(default_factory=lambda: TO_2022)
    first: int = 1
    labels: str | None = None
    finish: Callable[[Path, Sequence[int]], None] | None = None

    def write(self, root: Path, patients: Sequence[Patient]) -> None:
        numbers = [self.first + index for index in range(len(patients))]
        for number, patient in zip(numbers, patients, strict=True):
            for what, name in zip(ORDER, self.names, strict=True):
                patient.write(what, root / name.format(n=number), self.values)
        if self.finish:
            self.finish(root, numbers)


def with_ends(pattern: str, *ends: str) -> tuple[str, ...]:
    return tuple(pattern.replace("*", end) for end in ends)


_OLD, _YOUNG = ("flair", "t1ce", "t1", "t2", "seg"), ("t2f", "t1c", "t1n", "t2w", "seg")


def _young(what: str, time: str = "000") -> tuple[str, ...]:
    case = f"BraTS-{what}-{{n:05d}}-{time}"
    return with_ends(f"ASNR-MICCAI-BraTS-{what}-Challenge-TrainingData/{case}/{case}-*.nii.gz", *_YOUNG)


def _vsd(folder: str) -> tuple[str, ...]:
    image = "VSD.Brain.XX.O.MR_*.5451{n}"
    images = with_ends(f"{folder}/{image}/{image}.mha", "Flair", "T1c", "T1", "T2")
    return (*images, f"{folder}/VSD.Brain_3more.XX.O.OT.5451{{n}}/VSD.Brain_3more.XX.O.OT.5451{{n}}.mha")


def _list(root: Path, **content: Any) -> None:
    (root / "dataset.json").write_text(json.dumps(content))


def _nnunet_v2(root: Path, numbers: Sequence[int]) -> None:
    channels = {"0": "T1", "1": "T1ce", "2": "T2", "3": "Flair"}
    labels = {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [2, 3], "enhancing tumor": [3]}
    _list(root, channel_names=channels, labels=labels, numTraining=len(numbers), file_ending=".nii.gz")


def _nnunet_v1(root: Path, numbers: Sequence[int]) -> None:
    channels = {"0": "T1", "1": "T1ce", "2": "T2", "3": "FLAIR"}
    labels = {"0": "background", "1": "edema", "2": "non-enhancing", "3": "enhancing"}
    files = [{"image": f"./imagesTr/BRATS_{n:03}.nii.gz", "label": f"./labelsTr/BRATS_{n:03}.nii.gz"} for n in numbers]
    _list(root, modality=channels, labels=labels, training=files, test=[])


def _decathlon(root: Path, numbers: Sequence[int]) -> None:
    """Joins the four images that were written for each patient into one of four channels."""
    for n in numbers:
        parts = [root / "imagesTr" / f"BRATS_{n:03}_{channel:04}.nii.gz" for channel in range(4)]
        images = [nib.load(part) for part in parts]
        stacked = np.stack([np.asarray(image.dataobj) for image in images], axis=-1)
        nib.save(nib.Nifti1Image(stacked, images[0].affine), root / "imagesTr" / f"BRATS_{n:03}.nii.gz")
        for part in parts:
            part.unlink()
    files = [{"image": f"./imagesTr/BRATS_{n:03}.nii.gz", "label": f"./labelsTr/BRATS_{n:03}.nii.gz"} for n in numbers]
    channels = {"0": "T1w", "1": "t1gd", "2": "T2w", "3": "FLAIR"}
    labels = {"0": "background", "1": "edema", "2": "non-enhancing tumor", "3": "enhancing tumour"}
    _list(root, modality=channels, labels=labels, training=files, test=[])


def _pdgm(root: Path, numbers: Sequence[int]) -> None:
    """A mask of the brain and a second copy of an image, which are neither tumour nor T1ce."""
    for n in numbers:
        folder = root / f"UCSF-PDGM-{n:04}_nifti"
        image = nib.load(folder / f"UCSF-PDGM-{n:04}_FLAIR.nii.gz")
        brain = (np.asarray(image.dataobj) != 0).astype(np.uint8)
        for name in ("brain_segmentation", "brain_parenchyma_segmentation"):
            nib.save(nib.Nifti1Image(brain, image.affine), folder / f"UCSF-PDGM-{n:04}_{name}.nii.gz")
        nib.save(image, folder / f"UCSF-PDGM-{n:04}_T1c_bias.nii.gz")


_NNUNET = (
    *("imagesTr/BRATS_{n:03d}_0003.nii.gz", "imagesTr/BRATS_{n:03d}_0001.nii.gz"),
    *("imagesTr/BRATS_{n:03d}_0000.nii.gz", "imagesTr/BRATS_{n:03d}_0002.nii.gz", "labelsTr/BRATS_{n:03d}.nii.gz"),
)
_UPENN = "UPENN-GBM-{n:05d}_11/UPENN-GBM-{n:05d}_11_*.nii.gz"
_LUMIERE = "Imaging/Patient-{n:03d}/week-000-1"
_ATLAS = f"{_LUMIERE}/DeepBraTumIA-segmentation/atlas"
_EGD = ("4_FLAIR/NIFTI/FLAIR", "2_T1GD/NIFTI/T1GD", "1_T1/NIFTI/T1", "3_T2/NIFTI/T2", "5_MASK/NIFTI/MASK")

LAYOUTS = {
    "brats-2013": Layout(_vsd("Image_Data/HG/000{n}"), {CORE: 1, OEDEMA: 2, ENHANCING: 4}),
    "brats-2015": Layout(_vsd("HGG/brats_2013_pat000{n}_1")),
    "brats-2018": Layout(with_ends("HGG/Brats18_2013_{n}_1/Brats18_2013_{n}_1_*.nii.gz", *_OLD)),
    "brats-2020": Layout(with_ends("Training/BraTS20_Training_{n:03d}/BraTS20_Training_{n:03d}_*.nii", *_OLD)),
    "brats-2021": Layout(with_ends("BraTS2021_{n:05d}/BraTS2021_{n:05d}_*.nii.gz", *_OLD)),
    "one folder": Layout(with_ends("BraTS2021_{n:05d}_*.nii.gz", *_OLD)),
    "a folder for each file": Layout(
        with_ends("BraTS20_Training_{n:03d}/BraTS20_Training_{n:03d}_*.nii/BraTS20_Training_{n:03d}_*.nii", *_OLD)
    ),
    "brats-2023 glioma": Layout(_young("GLI"), FROM_2023),
    "brats-2023 meningioma": Layout(_young("MEN"), FROM_2023),
    "brats-2023 metastases": Layout(_young("MET"), FROM_2023),
    "brats-2023 africa": Layout(_young("SSA"), FROM_2023),
    "brats-2024 after treatment": Layout(_young("GLI", "100"), FROM_2023, first=2062),
    "brats-2024 paediatric": Layout(_young("PED"), PAEDIATRIC),
    "decathlon": Layout(_NNUNET, DECATHLON, finish=_decathlon),
    "nnunet v1": Layout(_NNUNET, DECATHLON, finish=_nnunet_v1),
    "nnunet v2": Layout(_NNUNET, DECATHLON, finish=_nnunet_v2),
    "bids": Layout(
        with_ends(
            "sub-{n:03d}/ses-01/anat/sub-{n:03d}_ses-01_*.nii.gz",
            *("FLAIR", "ce-gadolinium_T1w", "T1w", "T2w", "dseg"),
        )
    ),
    "upenn-gbm": Layout(
        (
            *with_ends(f"images_structural/{_UPENN}", "FLAIR", "T1GD", "T1", "T2"),
            "images_segm/UPENN-GBM-{n:05d}_11_segm.nii.gz",
        )
    ),
    "ucsf-pdgm": Layout(
        with_ends(
            "UCSF-PDGM-{n:04d}_nifti/UCSF-PDGM-{n:04d}_*.nii.gz", "FLAIR", "T1c", "T1", "T2", "tumor_segmentation"
        ),
        finish=_pdgm,
        first=4,
    ),
    "ucsf-alptdg": Layout(
        with_ends("{n}/{n}_time1_*.nii.gz", *_OLD), FROM_2023, first=100001, labels="brats-after-treatment"
    ),
    "brats-tcga": Layout(
        with_ends(
            "TCGA-02-{n:04d}/TCGA-02-{n:04d}_1996.08.23_*.nii.gz",
            *("flair", "t1Gd", "t1", "t2", "GlistrBoost_ManuallyCorrected"),
        )
    ),
    "egd": Layout(with_ends("EGD-{n:04d}/*.nii.gz", *_EGD)),
    "lumiere": Layout(
        (
            *with_ends(f"{_ATLAS}/skull_strip/*_skull_strip.nii.gz", "flair", "ct1", "t1", "t2"),
            f"{_ATLAS}/segmentation/seg_mask.nii.gz",
        ),
        DEEPBRATUMIA,
        labels="deepbratumia",
    ),
    "rhuh-gbm": Layout(
        with_ends("RHUH-{n:04d}/0/RHUH-{n:04d}_0_*.nii.gz", "flair", "t1ce", "t1", "t2", "segmentations"),
        FROM_2023,
        labels="1=core,2=oedema,3=enhancing",
    ),
    "mu-glioma-post": Layout(
        with_ends(
            "PatientID_{n:04d}/Timepoint_1/PatientID_{n:04d}_Timepoint_1_*.nii.gz",
            *("brain_t2f", "brain_t1c", "brain_t1n", "brain_t2w", "tumorMask"),
        ),
        FROM_2023,
        first=3,
    ),
}
"""By the name that the documentation gives them."""
