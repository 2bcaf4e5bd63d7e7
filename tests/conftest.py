"""What several test files share: a generated data set, and a small head whose every voxel is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

Head = dict[str, np.ndarray]
WritePatient = Callable[..., dict[str, Any]]

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@pytest.fixture(scope="session")
def phantom_cases(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Three patients of 120×120×155 voxels of 2×2×1 mm, as training takes them."""
    from workflows.phantom import generate_dataset

    folders = generate_dataset(tmp_path_factory.mktemp("phantoms") / "set", cases=3, size="small", workers=1)
    return [
        {
            "case": folder.name,
            "image": [str(folder / f"{folder.name}_{name}.nii.gz") for name in ("flair", "t1ce")],
            "label": str(folder / f"{folder.name}_seg.nii.gz"),
        }
        for folder in folders
    ]


@pytest.fixture(scope="session")
def head() -> Head:
    """48×48×40 voxels: an off-centre ball of noise in zeros, in it a tumour of three shells with BraTS's values."""
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(np.arange(48), np.arange(48), np.arange(40), indexing="ij"))

    def ball(centre: tuple[int, int, int], radius: float) -> np.ndarray:
        return ((grid - np.array(centre).reshape(3, 1, 1, 1)) ** 2).sum(0) <= radius**2

    brain = ball((23, 25, 19), 18)
    images = {
        name: np.where(brain, rng.normal(mean, 40, brain.shape), 0) for name, mean in (("flair", 300), ("t1ce", 700))
    }
    seg = np.zeros(brain.shape, np.int16)
    for value, radius in ((2, 11), (4, 8), (1, 5)):
        seg[ball((19, 27, 21), radius)] = value
    return {**{name: np.rint(image).astype(np.int16) for name, image in images.items()}, "seg": seg}


@pytest.fixture
def write_patient(tmp_path: Path, head: Head) -> WritePatient:
    """Write a head, `head` by default, as three NIfTI files; gives what the transforms take."""

    def write(
        name: str = "P1",
        affine: np.ndarray = LPS,
        change: Callable[[nib.Nifti1Image], nib.Nifti1Image] = lambda image: image,
        **arrays: np.ndarray,
    ) -> dict[str, Any]:
        folder = tmp_path / name
        folder.mkdir()
        for key, array in {**head, **arrays}.items():
            nib.save(change(nib.Nifti1Image(array, affine)), folder / f"{name}_{key}.nii.gz")
        files = {key: str(folder / f"{name}_{key}.nii.gz") for key in head}
        return {"case": name, "image": [files["flair"], files["t1ce"]], "label": files["seg"]}

    return write
