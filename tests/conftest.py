"""What several test files share: generated patients, a small known head, one short training run, started programs."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from tests.support import LPS, TINY_SETTINGS, Head, Run, Started, WritePatient, listing, start


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-docs", action="store_true", help="write the tables in docs/ that tests compare with")


@pytest.fixture(scope="session")
def phantom_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with three patients of 120×120×155 voxels of 2×2×1 mm; nothing may be written into it."""
    from workflows.phantom.phantom import generate_dataset

    folder = tmp_path_factory.mktemp("phantoms") / "set"
    generate_dataset(folder, cases=3, size="small", workers=1)
    return folder


@pytest.fixture(scope="session")
def phantom_cases(phantom_dir: Path) -> list[dict[str, Any]]:
    """The patients of `phantom_dir`, as training takes them."""
    return [
        {
            "case": folder.name,
            "image": [str(folder / f"{folder.name}_{name}.nii.gz") for name in ("flair", "t1ce")],
            "label": str(folder / f"{folder.name}_seg.nii.gz"),
        }
        for folder in sorted(phantom_dir.glob("BraTS20_Training_*"))
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


@pytest.fixture(scope="session")
def python() -> Callable[..., Started]:
    """Runs Python in a process of its own: `python("-m", "monai.bundle", …, cwd=folder, NAME=value)`."""
    return start


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Started]:
    """Runs `brats-unet` in this process, which has imported what it needs: `command("audit", folder)`."""
    from workflows.cli import main

    def run(*arguments: object) -> Started:
        monkeypatch.setattr(sys, "argv", ["brats-unet", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        return Started(int(ended.value.code or 0), *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def tiny_run(phantom_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two epochs of a network of width 4 on slices of 32×32 pixels, by the command in a process of its own."""
    folder = tmp_path_factory.mktemp("tiny")
    before = listing(phantom_dir)
    settings = [
        f"--{name}={value}" for name, value in {**TINY_SETTINGS, "tumour_free_share": None, "max_epochs": 2}.items()
    ]
    ended = start(*("-m", "workflows", "train", "--dataset-dir", phantom_dir, "--out", "run"), *settings, cwd=folder)
    assert ended.status == 0, ended.stderr
    return Run(phantom_dir, folder / "run", ended.stdout + ended.stderr, before)


@pytest.fixture
def tiny_settings() -> dict[str, Any]:
    """Overrides with which a configuration is quick to build and to run."""
    return dict(TINY_SETTINGS)


@pytest.fixture(autouse=True)
def restored_interpreter() -> Iterator[None]:
    """A workflow extends the import path, changes how uncaught errors look, and logs to where pytest then captured
    output, in a fixture or a test; the next test finds all as before.
    """
    hook, path = sys.excepthook, list(sys.path)
    _stop_logging_to_streams()
    yield
    sys.excepthook, sys.path[:] = hook, path
    _stop_logging_to_streams()


def _stop_logging_to_streams() -> None:
    """Undo what the bundle's logging.conf sets."""
    for logger in map(logging.getLogger, (None, "workflows", "ignite")):
        logger.propagate = True
        for handler in list(logger.handlers):
            if type(handler) is logging.StreamHandler:  # pytest's own are of derived classes
                logger.removeHandler(handler)
