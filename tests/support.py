"""What test files share besides fixtures: started programs, small volumes, what a folder holds."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

Head = dict[str, np.ndarray]


WritePatient = Callable[..., dict[str, Any]]


REPOSITORY = Path(__file__).resolve().parents[1]


TINY_WINDOW = {"_target_": "transforms.inputs.AxialWindow", "slice_range": [60, 135], "size_px": 64}


TINY_SETTINGS = {"input": TINY_WINDOW, "network_def#width": 4, "device": "cpu"}


LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


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
