"""What several test files share: generated patients, a small known head, one short training run, started programs."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

Head = dict[str, np.ndarray]
WritePatient = Callable[..., dict[str, Any]]

REPOSITORY = Path(__file__).resolve().parents[1]
AXIAL_WINDOW = {"cube_mm": None, "planes": ["axial"], "mirrored": False}
TINY_SETTINGS = {"size_px": 64, "network_def#width": 4, "device": "cpu", **AXIAL_WINDOW}

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-docs", action="store_true", help="write the tables in docs/ that tests compare with")


@pytest.fixture(scope="session")
def phantom_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with three patients of 120×120×155 voxels of 2×2×1 mm; nothing may be written into it."""
    from workflows.phantom import generate_dataset

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


@dataclass(frozen=True)
class Lopsided:
    """A patient whose left can be told from the right, and where the files lie."""

    folder: Path
    prediction: Path
    reference: Path
    flair: Path
    t1ce: Path


BLOCK_VALUE = 2000


def write_lopsided(
    folder: Path, axes: str = "LPS", spacing_mm: tuple[float, float, float] = (1, 1, 1), kind: type = np.int16
) -> Lopsided:
    """An ellipsoid of noise with one bright block at the patient's left, front and top.

    In RAS voxels it measures 40×48×32; the block is [6:12, 34:40, 22:26]. The prediction is oedema in the block and
    enhancing tumour in one of 5×5×5 voxels at the right, back and bottom; the reference is a necrotic core in the
    block and nothing else.

    Args:
        axes: along which the files are stored.
        spacing_mm: of the voxels to the right, to the front and upwards.
        kind: integer, or float for intensities between the integers.
    """
    rng = np.random.default_rng(7)
    shape = (40, 48, 32)
    place = [(np.arange(n) - (n - 1) / 2) / (n / 2 - 2) for n in shape]
    inside = sum(axis**2 for axis in np.meshgrid(*place, indexing="ij")) < 1
    affine = np.diag([*spacing_mm, 1.0])
    affine[:3, 3] = (-17.5, -31.3, 4.5)
    images = {}
    for name, mean in (("flair", 300), ("t1ce", 600)):
        values = np.where(inside, rng.normal(mean, 30, shape), 0)
        values[6:12, 34:40, 22:26] = BLOCK_VALUE
        images[name] = values.astype(np.float32) if kind is float else np.rint(values).astype(np.int16)
    prediction, reference = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    prediction[6:12, 34:40, 22:26] = 2
    prediction[26:31, 10:15, 8:13] = 4
    reference[6:12, 34:40, 22:26] = 1

    def save(array: np.ndarray, name: str) -> Path:
        orientation = nib.orientations
        turn = orientation.ornt_transform(
            orientation.axcodes2ornt(("R", "A", "S")), orientation.axcodes2ornt(tuple(axes))
        )
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(array, affine).as_reoriented(turn), file)
        return file

    flair, t1ce = (save(image, f"P1/P1_{name}.nii.gz") for name, image in images.items())
    saved = (save(prediction, "out/P1_seg.nii.gz"), save(reference, "P1_reference.nii.gz"))
    return Lopsided(folder / "P1", *saved, flair, t1ce)


@dataclass(frozen=True)
class Started:
    """A program that has ended."""

    status: int
    stdout: str
    stderr: str

    @property
    def last_line(self) -> str:
        return self.stderr.rstrip().rpartition("\n")[2]


def start(*arguments: object, cwd: Path, **environment: str) -> Started:
    """Run this interpreter with arguments until it ends; PYTHONPATH is not handed on."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, *map(str, arguments)]
    ended = subprocess.run(command, cwd=cwd, env={**inherited, **environment}, capture_output=True, text=True)
    return Started(ended.returncode, ended.stdout, ended.stderr)


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


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of change of everything below a folder."""
    files = {str(path.relative_to(folder)): path.stat() for path in sorted(folder.rglob("*"))}
    return {name: (stat.st_size, stat.st_mtime_ns) for name, stat in files.items()}


@dataclass(frozen=True)
class Run:
    """A short training run on `phantom_dir`, what it printed, and what the data folder held before it."""

    data: Path
    folder: Path
    output: str
    data_before: dict[str, tuple[int, int]]

    @property
    def checkpoint(self) -> Path:
        return self.folder / "model.pt"


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
    output, in a fixture or a test; the next test finds all as before."""
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
