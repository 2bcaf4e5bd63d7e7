"""MetaImage and NRRD files are read as SimpleITK reads sound ones, and what is wrong with others is named."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

from tests.support import Run, Started
from transforms.inputs import AxialWindow
from transforms.pipelines import training_preprocessing
from workflows.data.find_cases import find_cases
from workflows.data.reader import CaseReader
from workflows.image_files.nifti_files import axial_slices, check_geometry, load_image, read_voxels
from workflows.messages.errors import DatasetError
from workflows.prediction.predict import predict

TYPES = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64"]
NRRD = b"NRRD0004\ntype: short\ndimension: 3\nsizes: 2 3 4\nendian: little\nencoding: raw\n"
META = (
    b"ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nCompressedData = False\n"
    b"Offset = 1 2 3\nElementSpacing = 1 2 3\nDimSize = 2 3 4\nElementType = MET_SHORT\nElementDataFile = LOCAL\n"
)
VOXELS = np.arange(24, dtype="<i2").tobytes()


@pytest.fixture(autouse=True, scope="module")
def quiet() -> None:
    sitk.ProcessObject.SetGlobalWarningDisplay(False)


def oblique(voxels: np.ndarray) -> sitk.Image:
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing((1.5, 2, 3))
    image.SetOrigin((4, -5, 6))
    image.SetDirection(Rotation.from_euler("xyz", [10, 20, 30], degrees=True).as_matrix().ravel())
    return image


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("ending", ["mha", "mhd", "nrrd", "nhdr"])
def test_voxels_and_place_are_those_of_the_same_image_as_nifti(ending: str, packed: bool, tmp_path: Path):
    for kind in TYPES:
        voxels = (np.random.default_rng(0).random((5, 6, 7)) * 100).astype(kind)
        for name in ("image.nii.gz", f"image.{ending}"):
            sitk.WriteImage(oblique(voxels), tmp_path / name, packed)
        image, same = load_image(tmp_path / f"image.{ending}"), load_image(tmp_path / "image.nii.gz")
        assert read_voxels(image).dtype == kind
        assert np.array_equal(read_voxels(image), read_voxels(same))
        assert np.allclose(image.affine, same.affine, atol=1e-5)
        assert axial_slices(tmp_path / f"image.{ending}") == pytest.approx(axial_slices(tmp_path / "image.nii.gz"))


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("big.mha", META.replace(b"MSB = False", b"MSB = True")),
        ("long.mha", META.replace(b"SHORT", b"LONG").replace(b"DimSize = 2 3 4", b"DimSize = 2 3 2")),
        ("old.mha", META.replace(b"Offset", b"Position").replace(b"ElementSpacing", b"ElementSize")),
        ("windows.mha", META.replace(b"\n", b"\r\n")),
        ("four_axes.mha", META.replace(b"NDims = 3", b"NDims = 4").replace(b"3 4\nElementT", b"3 4 1\nElementT")
         .replace(b"Offset = 1 2 3", b"Offset = 1 2 3 0").replace(b"1 2 3\nDim", b"1 2 3 1\nDim")),
        ("big.nrrd", NRRD.replace(b"little", b"big") + b"spacings: 1 2 3\n\n"),
        ("ras.nrrd", NRRD + b"space: right-anterior-superior\nspace directions: (1,0,0) (0,0,2) (0,3,0)\n"
         b"space origin: (4,5,6)\n\n"),
        ("las.nrrd", NRRD + b"space: LAS\nspace directions: (1,0,0) (0,-2,0) (0,0,3)\nspace origin: (4,5,6)\n\n"),
        ("windows.nrrd", (NRRD + b"# a comment\nspace: LPS\nspace directions: (1,0,0) (0,2,0) (0,0,3)\n\n")
         .replace(b"\n", b"\r\n")),
    ],
)  # fmt: skip
def test_headers_of_other_programs_mean_what_simpleitk_takes_them_for(name: str, header: bytes, tmp_path: Path):
    (tmp_path / name).write_bytes(header + VOXELS)
    image, theirs = load_image(tmp_path / name), sitk.ReadImage(tmp_path / name)
    size, theirs = theirs.GetSize()[:3], theirs[..., 0] if theirs.GetDimension() == 4 else theirs
    assert np.array_equal(read_voxels(image), sitk.GetArrayFromImage(theirs).T)
    for index in ((0, 0, 0), tuple(length - 1 for length in size)):
        left, posterior, superior = theirs.TransformIndexToPhysicalPoint(index)
        assert nib.affines.apply_affine(image.affine, index) == pytest.approx((-left, -posterior, superior))


def test_a_header_without_directions_states_no_orientation(tmp_path: Path):
    for name, header in (("none.nrrd", NRRD + b"spacings: 1 2 3\n\n"), ("none.mha", META)):
        (tmp_path / name).write_bytes(header + VOXELS)
        image = load_image(tmp_path / name)
        assert (int(image.header["sform_code"]), int(image.header["qform_code"])) == (0, 0)
        assert np.array_equal(np.diag(image.affine), (-1, -2, 3, 1))


def changed(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 255]) + content[at + 1 :]


FAULTS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda _: b"", "is empty; fetch it again"),
    "pointer": (lambda _: b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
    "web page": (lambda _: b"<!DOCTYPE html>", "is a web page, not an image"),
    "text": (lambda _: b"hello", "is not a MetaImage or NRRD image"),
    "cut": (lambda content: content[:-300], "is cut short or damaged"),
    "one byte changed": (lambda content: changed(content, len(content) - 300), "is cut short or damaged"),
    "header only": (lambda content: content[:40], "(its header is invalid|is not a MetaImage)"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("ending", ["mha", "nrrd"])
def test_a_damaged_file_is_called_so(fault: str, ending: str, tmp_path: Path):
    file = tmp_path / f"image.{ending}"
    sitk.WriteImage(oblique(np.random.default_rng(0).integers(0, 9, (12, 12, 12)).astype(np.int16)), file, True)
    change, says = FAULTS[fault]
    file.write_bytes(change(file.read_bytes()))
    with pytest.raises(DatasetError, match=rf"image\.{ending}: {says}"):
        load_image(file)


@pytest.mark.parametrize(
    ("name", "header", "says"),
    [
        ("a.mha", META.replace(b"2 3 4", b"30000 30000 30000"), "announces 30000×30000×30000 voxels of 2 bytes"),
        ("a.nrrd", NRRD.replace(b"2 3 4", b"30000 30000 30000") + b"\n", "announces 30000×30000×30000 voxels"),
        ("a.mha", META.replace(b"2 3 4", b"400 400 400"), "is cut short, 48 of 128000000 bytes"),
        ("a.mha", META.replace(b"Data = False", b"Data = True").replace(b"2 3 4", b"400 400 400"), "48 packed of"),
        ("a.nrrd", NRRD.replace(b"raw", b"gzip").replace(b"2 3 4", b"400 400 400") + b"\n", "48 packed of"),
        ("a.mha", META.replace(b"2 3 4", b"2 3 0"), "its shape 2×3×0 is not that of a volume"),
        ("a.mha", META.replace(b"DimSize = 2 3 4\n", b""), "it has no dimsize"),
        ("a.nrrd", NRRD.replace(b"sizes: 2 3 4\n", b"") + b"\n", "it has no sizes"),
        ("a.mha", META.replace(b"ElementType = MET_SHORT\n", b"ElementNumberOfChannels = 3\nElementType = MET_CHAR\n")
         .replace(b"2 3 4", b"2 2 4"), "holds 3 values per voxel; one volume per file is expected"),
        ("a.nrrd", NRRD.replace(b"3\nsizes: 2 3 4", b"4\nsizes: 3 2 2 2")
         + b"space directions: none (1,0,0) (0,1,0) (0,0,1)\n\n", "holds 3 values per voxel"),
        ("a.mha", META.replace(b"NDims = 3", b"NDims = 2").replace(b"2 3 4", b"6 4").replace(b"1 2 3", b"1 2"),
         "its shape 6×4 is not that of a volume"),
        ("a.nrrd", NRRD.replace(b"3\nsizes: 2 3 4", b"2\nsizes: 6 4") + b"\n", "its shape 6×4 is not that of a volume"),
        ("a.nrrd", NRRD.replace(b"raw", b"ascii") + b"\n", "encoding ascii or skipped bytes"),
        ("a.mha", META.replace(b"BinaryData = True", b"BinaryData = False"), "its voxels are text"),
        ("a.mha", META.replace(b"MET_SHORT", b"MET_OTHER"), "voxels of the type MET_OTHER, which are no intensities"),
        ("a.nrrd", NRRD.replace(b"short", b"block") + b"\n", "voxels of the type block"),
        ("a.mhd", META.replace(b"LOCAL", b"slice%03d.raw 1 4 1"), "its voxels lie in several files"),
        ("a.mhd", META.replace(b"LOCAL", b"missing.raw"), "missing.raw: no such file"),
        ("a.mhd", META.replace(b"LOCAL", b"/etc/passwd"), "passwd: no such file"),
        ("a.nhdr", NRRD + b"data file: ../other/b.raw\n", "b.raw: no such file"),
        ("a.nrrd", NRRD + b"space: LPS\nspace directions: (1,0,0) (0,1,0) (nan,0,1)\n\n", "does not describe a volume"),
        ("a.mha", META.replace(b"Spacing = 1 2 3", b"Spacing = 1 2 0"), "does not describe a volume"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_named_before_memory_is_taken(name: str, header: bytes, says: str, tmp_path: Path):
    (tmp_path / name).write_bytes(header + VOXELS)
    with pytest.raises(DatasetError) as refused:
        check_geometry(load_image(tmp_path / name), tmp_path / name)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_voxels_of_a_header_that_was_moved_from_windows_lie_beside_it(tmp_path: Path):
    (tmp_path / "a.mhd").write_bytes(META.replace(b"LOCAL", b"C:\\scans\\a.raw"))
    (tmp_path / "a.raw").write_bytes(VOXELS)
    assert read_voxels(load_image(tmp_path / "a.mhd"))[1, 0, 0] == 1


def test_no_change_of_a_few_bytes_ends_in_another_error(tmp_path: Path):
    for ending in ("mha", "nrrd"):
        file = tmp_path / f"image.{ending}"
        sitk.WriteImage(oblique(np.arange(8 * 8 * 8, dtype=np.int16).reshape(8, 8, 8)), file, True)
        sound = file.read_bytes()
        for seed in range(400):
            draw = random.Random(seed)
            content = bytearray(sound)
            for _ in range(3):
                content[draw.randrange(min(len(content), 700))] = draw.choice(b"0123456789 -:=\n.()axz\x00\xff")
            file.write_bytes(content)
            try:
                image = load_image(file)
                check_geometry(image, file)
            except DatasetError:
                continue
            assert read_voxels(image).size == np.prod(image.shape)


# ---------------------------------------------------------------------------------------------------------------------
# Cases


@pytest.fixture(scope="module")
def copies(phantom_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first phantom, its modalities in three formats, in a data folder of its own."""
    folder = tmp_path_factory.mktemp("copies")
    for modality, ending in (("flair", "mha"), ("t1ce", "nrrd"), ("seg", "mhd")):
        for file in (phantom_dir / "BraTS20_Training_001").glob(f"*_{modality}.nii.gz"):
            name = file.name.removesuffix(".nii.gz")
            (folder / "BraTS20_Training_001").mkdir(exist_ok=True)
            sitk.WriteImage(sitk.ReadImage(file), folder / "BraTS20_Training_001" / f"{name}.{ending}", True)
    return folder


def test_a_copy_in_another_format_is_audited_without_a_word(copies: Path, command: Callable[..., Started]):
    ended = command("audit", copies, "--workers", 1)
    assert ended.status == 0, ended.stdout
    assert "1 case" in ended.stdout


def test_a_copy_in_another_format_is_predicted_voxel_for_voxel(
    copies: Path, phantom_dir: Path, tiny_run: Run, tmp_path: Path
):
    maps = []
    for data in (copies, phantom_dir / "BraTS20_Training_001"):
        out = tmp_path / data.name
        given: dict[str, Any] = {"checkpoint": str(tiny_run.checkpoint), "patient_dir": str(data)}
        predict([], {**given, "output_dir": str(out), "device": "cpu", "report": False})
        maps.append(nib.load(out / "BraTS20_Training_001" / "BraTS20_Training_001_seg.nii.gz"))
    ours, theirs = (np.asarray(label_map.dataobj) for label_map in maps)
    assert ours.any()
    assert np.array_equal(ours, theirs)
    assert np.allclose(maps[0].affine, maps[1].affine)


def test_a_copy_in_another_format_is_trained_on_bit_for_bit(copies: Path, phantom_cases: list[dict[str, Any]]):
    chain = training_preprocessing(AxialWindow(size_px=64), {0: 0, 1: 1, 2: 2, 4: 3}, reader=CaseReader())
    case = find_cases(copies).cases[0]
    copy = {"case": case.id, "image": [str(case.images[m]) for m in ("flair", "t1ce")], "label": str(case.segmentation)}
    one, other = chain(copy), chain(phantom_cases[0])
    assert all(np.array_equal(one[key], other[key]) for key in ("image", "label"))
