"""Cases are found under every name in use, labels are understood once per data set, bad files are named."""

from __future__ import annotations

import gzip
import json
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from transforms.labels import ENHANCING, NECROTIC_CORE, OEDEMA
from workflows.data.case import Case, load_entry
from workflows.data.convention_of_cases import decide_label_convention
from workflows.data.find_cases import find_cases
from workflows.data.label_conventions import BRATS_FROM_2023, BRATS_TO_2022, DECATHLON, LabelConvention
from workflows.image_files import nifti_files
from workflows.image_files.file_content import MAX_VOXELS
from workflows.image_files.nifti_files import load_image, read_voxels
from workflows.messages.errors import DatasetError

SHAPE = (8, 9, 10)
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 2147483\n"
NAMES_TO_2022 = ("_flair", "_t1ce", "_t1", "_t2")
NAMES_FROM_2023 = ("-t2f", "-t1c", "-t1n", "-t2w")


def write_image(file: Path, voxels: np.ndarray | None = None) -> Path:
    """A NIfTI file gzipped at most once, as hosts do that append a second `.gz`."""
    voxels = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE) if voxels is None else voxels
    content = nib.Nifti1Image(voxels, LPS).to_bytes()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(gzip.compress(content, mtime=0) if ".gz" in file.name else content)
    return file


def label_map(*values: int, dtype: type = np.uint8) -> np.ndarray:
    """One voxel of each value."""
    voxels = np.zeros(SHAPE, dtype)
    voxels.flat[: len(values)] = values
    return voxels


def write_case(
    folder: Path,
    suffixes: tuple[str, ...] = ("_flair", "_t1ce"),
    seg: str | None = "_seg",
    extension: str = ".nii",
    labels: np.ndarray | None = None,
) -> None:
    for suffix in suffixes:
        write_image(folder / f"{folder.name}{suffix}{extension}")
    if seg:
        write_image(folder / f"{folder.name}{seg}{extension}", label_map(1, 2, 4) if labels is None else labels)


def write_decathlon(root: Path, **changes: object) -> None:
    for name in ("imagesTr/BRATS_001", "imagesTs/BRATS_485"):
        channels = np.stack([np.full(SHAPE, channel, np.int16) for channel in range(4)], axis=-1)
        write_image(root / f"{name}.nii.gz", channels)
    write_image(root / "labelsTr/BRATS_001.nii.gz", label_map(1, 2, 3))
    content = {
        "modality": {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"},
        "labels": {"0": "background", "1": "edema", "2": "non-enhancing tumor", "3": "enhancing tumour"},
        "training": [{"image": "./imagesTr/BRATS_001.nii.gz", "label": "./labelsTr/BRATS_001.nii.gz"}],
        "test": ["./imagesTs/BRATS_485.nii.gz"],
    }
    (root / "dataset.json").write_text(json.dumps({**content, **changes}))


def only_case(root: Path, **options: object) -> Case:
    (case,) = find_cases(root, **options).cases
    return case


# Finding cases


@pytest.mark.parametrize("extension", [".nii", ".nii.gz", ".nii.gz.gz"])
@pytest.mark.parametrize(("suffixes", "seg"), [(NAMES_TO_2022, "_seg"), (NAMES_FROM_2023, "-seg")])
def test_every_name_and_ending_in_use_is_found_and_read(
    tmp_path: Path, suffixes: tuple[str, ...], seg: str, extension: str
) -> None:
    write_case(tmp_path / "P1", suffixes, seg, extension)
    case = only_case(tmp_path)
    assert (case.id, case.modalities) == ("P1", ("flair", "t1ce", "t1", "t2"))
    assert [file.name for file in case.images.values()] == [f"P1{suffix}{extension}" for suffix in suffixes]
    assert case.segmentation and read_voxels(load_image(case.segmentation)).sum() == 7
    assert all(load_image(file).shape == SHAPE for file in case.images.values())


@pytest.mark.parametrize("suffix", ["_t1gd", "-t1gd"])
def test_t1ce_may_be_called_t1gd_after_gadolinium(tmp_path: Path, suffix: str) -> None:
    write_case(tmp_path / "P1", ("_flair", suffix))
    assert only_case(tmp_path).images["t1ce"] == tmp_path / "P1" / f"P1{suffix}.nii"


def test_the_kaggle_copy_is_found_though_nested_twice_and_its_stray_files_are_named(tmp_path: Path) -> None:
    inner = tmp_path / "BraTS2020_TrainingData" / "MICCAI_BraTS2020_TrainingData"
    validation = tmp_path / "BraTS2020_ValidationData" / "MICCAI_BraTS2020_ValidationData"
    write_case(inner / "BraTS20_Training_002")
    write_case(inner / "BraTS20_Training_001")
    write_case(validation / "BraTS20_Validation_001", seg=None)
    (inner / "survival_info.csv").write_text("Brats20ID\n")
    found = find_cases(tmp_path)
    ids = [case.id for case in found.cases]
    assert ids == ["BraTS20_Training_001", "BraTS20_Training_002", "BraTS20_Validation_001"]
    assert found.cases[2].segmentation is None
    assert found.stray == (inner / "survival_info.csv",)


def test_the_segmentation_of_case_355_is_found_under_its_other_name_and_said_so(tmp_path: Path) -> None:
    write_case(tmp_path / "BraTS20_Training_355", seg=None)
    other = write_image(tmp_path / "BraTS20_Training_355" / "W39_1998.09.19_Segm.nii", label_map(1, 2, 4))
    found = find_cases(tmp_path)
    assert found.cases[0].segmentation == other
    assert other.name in found.cases[0].notes[0]
    assert found.stray == ()


def test_another_name_is_not_taken_for_a_segmentation_in_an_incomplete_case_or_twice(tmp_path: Path) -> None:
    write_case(tmp_path / "A", suffixes=("_flair",), seg=None)
    write_image(tmp_path / "A" / "old_segm.nii")
    write_case(tmp_path / "B", seg=None)
    write_image(tmp_path / "B" / "first_segm.nii")
    write_image(tmp_path / "B" / "second_segm.nii")
    found = find_cases(tmp_path)
    assert [case.segmentation for case in found.cases] == [None, None]
    assert [file.name for file in found.stray] == ["old_segm.nii", "first_segm.nii", "second_segm.nii"]


def test_a_patients_own_folder_and_a_flat_folder_are_data_folders_too(tmp_path: Path) -> None:
    write_case(tmp_path / "P1")
    assert only_case(tmp_path / "P1").id == "P1"
    for suffix in ("A_flair", "A_t1ce", "B_flair", "B_t1ce", "A_seg"):
        write_image(tmp_path / "flat" / f"{suffix}.nii.gz")
    write_case(tmp_path / "flat" / "C")
    found = find_cases(tmp_path / "flat").cases
    assert [(case.id, case.segmentation is not None) for case in found] == [("A", True), ("B", False), ("C", True)]


def test_files_without_an_id_take_the_folders_name(tmp_path: Path) -> None:
    write_image(tmp_path / "anna" / "flair.nii.gz")
    write_image(tmp_path / "anna" / "t1ce.nii.gz")
    assert only_case(tmp_path).id == "anna"


def test_of_an_image_that_is_there_twice_the_unpacked_one_is_used_and_said_so(tmp_path: Path) -> None:
    write_case(tmp_path / "P1", extension=".nii.gz")
    write_case(tmp_path / "P1", extension=".nii")
    found = find_cases(tmp_path)
    assert found.cases[0].images["flair"].name == "P1_flair.nii"
    assert len(found.stray) == len(found.cases[0].notes) == 3


def test_what_macos_adds_to_a_zip_is_no_case(tmp_path: Path) -> None:
    write_case(tmp_path / "P1")
    write_case(tmp_path / "__MACOSX" / "P1")
    (tmp_path / "P1" / "._P1_flair.nii").write_bytes(b"\0\5\26\7")
    found = find_cases(tmp_path)
    assert len(found.cases) == 1
    assert {file.name for file in found.stray} == {"__MACOSX", "._P1_flair.nii"}


def test_linked_case_folders_are_followed_and_a_circle_ends(tmp_path: Path) -> None:
    write_case(tmp_path / "elsewhere" / "P1")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "P1").symlink_to(tmp_path / "elsewhere" / "P1")
    (tmp_path / "data" / "circle").symlink_to(tmp_path / "data")
    assert only_case(tmp_path / "data").id == "P1"


def test_a_folder_without_cases_is_an_error_that_says_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "archive.zip").touch()
    with pytest.raises(DatasetError, match=r"no case found.*_flair\.nii.*-t2f\.nii.*dataset\.json.*archive\.zip"):
        find_cases(tmp_path)
    with pytest.raises(DatasetError, match="no such folder"):
        find_cases(tmp_path / "missing")


def test_a_missing_modality_is_named_with_the_names_tried(tmp_path: Path) -> None:
    write_case(tmp_path / "P1", suffixes=("_flair",))
    with pytest.raises(
        DatasetError, match=r"P1: no T1CE image in .*; looked for \*_t1ce\.nii, \*-t1c\.nii and \*-t1gd\.nii"
    ):
        load_entry(only_case(tmp_path), ("flair", "t1ce"), tmp_path)


def test_an_entry_holds_relative_paths_by_modality(tmp_path: Path) -> None:
    write_case(tmp_path / "a" / "P1")
    entry = load_entry(only_case(tmp_path), ("t1ce", "flair"), tmp_path)
    paths = {"t1ce": "a/P1/P1_t1ce.nii", "flair": "a/P1/P1_flair.nii", "label": "a/P1/P1_seg.nii"}
    assert entry == {"case": "P1", **paths}


# Medical Segmentation Decathlon


def test_decathlon_channels_are_loaded_by_modality_like_any_other_case(tmp_path: Path) -> None:
    write_decathlon(tmp_path / "Task01_BrainTumour")
    train, test = find_cases(tmp_path).cases
    assert (train.id, train.modalities) == ("BRATS_001", ("flair", "t1ce", "t1", "t2"))
    assert test.segmentation is None
    entry = load_entry(train, ("flair", "t1ce"), tmp_path)
    assert entry["t1ce"] == "Task01_BrainTumour/imagesTr/BRATS_001.nii.gz#2"
    values = [read_voxels(load_image(train.source(modality))).max() for modality in ("flair", "t1", "t1ce", "t2")]
    assert values == [0, 1, 2, 3]


def test_decathlon_has_its_own_label_order(tmp_path: Path) -> None:
    write_decathlon(tmp_path)
    convention = decide_label_convention(find_cases(tmp_path).cases)
    assert convention is DECATHLON
    assert convention.classes == {0: 0, 1: OEDEMA, 2: NECROTIC_CORE, 3: ENHANCING}


def test_another_order_stated_in_dataset_json_is_followed_or_refused(tmp_path: Path) -> None:
    write_decathlon(tmp_path, labels={"0": "background", "1": "necrosis", "2": "oedema", "3": "enhancing"})
    assert decide_label_convention(find_cases(tmp_path).cases) is BRATS_FROM_2023
    write_decathlon(tmp_path, labels={"1": "enhancing tumour", "2": "edema", "3": "non-enhancing tumor"})
    stated = decide_label_convention(find_cases(tmp_path).cases)
    assert stated.classes == {0: 0, 1: ENHANCING, 2: OEDEMA, 3: NECROTIC_CORE}
    write_decathlon(tmp_path, labels={"1": "tumour", "2": "edema", "3": "liver"})
    with pytest.raises(DatasetError, match=r"'labels' is not understood.*--labels"):
        find_cases(tmp_path)


def test_channels_in_another_order_are_followed(tmp_path: Path) -> None:
    write_decathlon(tmp_path, modality={"1": "FLAIR", "0": "T1gd", "2": "T2", "3": "T1"})
    assert find_cases(tmp_path).cases[0].channels == ("t1ce", "flair", "t2", "t1")
    write_decathlon(tmp_path, modality={"0": "CT"})
    with pytest.raises(DatasetError, match=r"'channel_names' or 'modality' must number .*CT"):
        find_cases(tmp_path)


@pytest.mark.parametrize(
    "path", ["../outside.nii.gz", "/etc/passwd", "a/../../b.nii.gz", r"..\b.nii", r"C:\b.nii", "", 3]
)
def test_dataset_json_may_not_name_files_outside_its_folder(tmp_path: Path, path: object) -> None:
    write_decathlon(tmp_path, training=[{"image": path}])
    with pytest.raises(DatasetError, match=r"dataset\.json: .*(leaves the data folder|is not a path)"):
        find_cases(tmp_path)


def test_a_dataset_json_of_another_kind_is_stray_and_a_broken_one_an_error(tmp_path: Path) -> None:
    write_case(tmp_path / "P1")
    (tmp_path / "dataset.json").write_text('{"channel_names": {}, "numTraining": 3}')
    assert [file.name for file in find_cases(tmp_path).stray] == ["dataset.json"]
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(DatasetError, match=r"dataset\.json: cannot be read as JSON"):
        find_cases(tmp_path)


# Which label is enhancing tumour


@pytest.mark.parametrize(
    ("per_case", "suffixes", "expected"),
    [
        (((1, 2, 4), (1, 2)), ("_flair", "_t1ce"), BRATS_TO_2022),
        (((1, 2, 3), (1, 2)), ("-t2f", "-t1c"), BRATS_FROM_2023),
        (((), ()), ("_flair", "_t1ce"), BRATS_TO_2022),
        (((1, 2), ()), ("-t2f", "-t1c"), BRATS_FROM_2023),
    ],
)
def test_enhancing_tumour_is_decided_once_for_a_data_set(
    tmp_path: Path, per_case: tuple[tuple[int, ...], ...], suffixes: tuple[str, ...], expected: LabelConvention
) -> None:
    for number, values in enumerate(per_case):
        write_case(tmp_path / f"P{number}", suffixes, labels=label_map(*values))
    assert decide_label_convention(find_cases(tmp_path).cases) is expected


def test_a_mixture_of_3_and_4_is_an_error_naming_a_case_of_each(tmp_path: Path) -> None:
    write_case(tmp_path / "old", labels=label_map(1, 2, 4))
    write_case(tmp_path / "young", labels=label_map(1, 2, 3))
    with pytest.raises(DatasetError, match=r"old holds 4 .* young holds 3"):
        decide_label_convention(find_cases(tmp_path).cases)


def test_decathlon_beside_brats_is_an_error(tmp_path: Path) -> None:
    write_decathlon(tmp_path / "Task01")
    write_case(tmp_path / "brats" / "P1", labels=label_map(1, 2, 3))
    with pytest.raises(DatasetError, match="mixes label conventions"):
        decide_label_convention(find_cases(tmp_path).cases)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float32])
def test_label_maps_of_every_type_in_use_are_understood(tmp_path: Path, dtype: type) -> None:
    write_case(tmp_path / "P1", labels=label_map(1, 2, 4, dtype=dtype))
    assert decide_label_convention(find_cases(tmp_path).cases) is BRATS_TO_2022


def test_an_image_in_place_of_a_label_map_is_named(tmp_path: Path) -> None:
    write_case(tmp_path / "P1", labels=np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE))
    with pytest.raises(DatasetError, match=r"P1_seg\.nii: holds 720 different values"):
        decide_label_convention(find_cases(tmp_path).cases)


# Reading


def test_content_decides_whatever_the_ending_says(tmp_path: Path) -> None:
    plain = write_image(tmp_path / "a.nii").read_bytes()
    (tmp_path / "b.nii.gz").write_bytes(plain)
    (tmp_path / "c.nii").write_bytes(gzip.compress(plain, mtime=0))
    (tmp_path / "d.nii.gz.gz").write_bytes(gzip.compress(gzip.compress(plain), mtime=0))
    for file in sorted(tmp_path.iterdir()):
        np.testing.assert_array_equal(read_voxels(load_image(file)).ravel(), np.arange(720))


def test_geometry_and_scaling_are_those_nibabel_reads(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.linspace(0, 1, 720).reshape(SHAPE), LPS @ np.diag([1, 1, 3, 1]))
    image.set_data_dtype(np.int16)  # forces a scale factor into the header
    image.set_sform(None, code=0)
    image.set_qform(image.affine, code=2)
    nib.save(image, tmp_path / "a.nii.gz")
    ours, theirs = load_image(tmp_path / "a.nii.gz"), nib.load(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(ours.affine, theirs.affine)
    np.testing.assert_array_equal(read_voxels(ours), theirs.get_fdata())
    assert (int(ours.header["sform_code"]), int(ours.header["qform_code"])) == (0, 2)


def test_nifti_2_and_a_fourth_axis_of_one_are_read(tmp_path: Path) -> None:
    nib.save(nib.Nifti2Image(np.ones((*SHAPE, 1), np.int16), LPS), tmp_path / "a.nii.gz")
    assert load_image(tmp_path / "a.nii.gz").shape == SHAPE


def header_announcing(*shape: int, kind: type = np.float32) -> bytes:
    header = nib.Nifti1Header()
    header.set_data_dtype(kind)
    header["dim"][: len(shape) + 1] = (len(shape), *shape)
    header["magic"], header["vox_offset"] = b"n+1", 352
    return header.binaryblock + bytes(4)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (gzip.compress(b"", mtime=0), "is empty"),
        (LFS_POINTER, "Git LFS pointer.*git lfs pull"),
        (b"<!DOCTYPE html><html>Sign in</html>", "web page"),
        (b"PK\3\4" + bytes(1000), "not a NIfTI image"),
        (header_announcing(240, 240, 155), "cut short, 352 of"),
        (header_announcing(512, 512, 352, kind=np.float64), "cut short, 352 of 738197856 bytes"),  # not too large
        (header_announcing(512, 512, 513, kind=np.float64), "convert it to float32 and at most 134 million voxels"),
        (header_announcing(30000, 30000, 30000), "more than any scan has"),
        (gzip.compress(header_announcing(2000, 2000, 2000), mtime=0), "more than any scan has"),
        (header_announcing(240, 240), "not that of a volume"),
        (header_announcing(0, 240, 155), "not that of a volume"),
        (header_announcing(2, 2, 2, 2, 2), "not that of a volume"),
    ],
)
def test_a_bad_file_is_named_with_what_is_wrong(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "P1_flair.nii.gz"
    file.write_bytes(content)
    with pytest.raises(DatasetError, match=rf"P1_flair\.nii\.gz: .*{message}"):
        load_image(file)


def damage_header(position: int, kind: str, value: float) -> Callable[[bytes], bytes]:
    def damage(content: bytes) -> bytes:
        changed = bytearray(gzip.decompress(content))
        struct.pack_into(kind, changed, position, value)
        return gzip.compress(changed, mtime=0)

    return damage


DAMAGED_STREAMS = [
    lambda content: content[: len(content) // 2],
    lambda content: content[:5],
    lambda content: content[:-8] + bytes(8),  # the checksum
    lambda content: content[:-4] + bytes(4),  # the length
    lambda content: content[:100] + bytes(50) + content[150:],
    lambda content: content + b"something else",
    lambda content: gzip.compress(content[: len(content) // 2]),
]


@pytest.mark.parametrize(
    "damage",
    [
        *DAMAGED_STREAMS,
        damage_header(70, "<h", 128),  # data type RGB
        damage_header(70, "<h", 32),  # complex
        damage_header(70, "<h", 9999),
        damage_header(108, "<f", 0),
        damage_header(108, "<f", float("nan")),  # offset of the voxels
        damage_header(108, "<f", -1e30),
        damage_header(108, "<f", 1e30),
    ],
)
def test_damage_is_a_dataset_error_of_one_line(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    noise = np.random.default_rng(0).integers(0, 1000, SHAPE, dtype=np.int16)
    file = write_image(tmp_path / "P1_flair.nii.gz", noise)
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(DatasetError, match=r"P1_flair\.nii\.gz: .") as caught:
        read_voxels(load_image(file))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", DAMAGED_STREAMS)
def test_the_faster_gzip_refuses_in_the_words_of_pythons_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[bytes], bytes]
) -> None:
    pytest.importorskip("isal", reason="isal is an extra and not installed")
    file = write_image(tmp_path / "P1_flair.nii.gz", np.random.default_rng(0).integers(0, 1000, SHAPE, dtype=np.int16))
    file.write_bytes(damage(file.read_bytes()))
    said = []
    for way in (nifti_files.FastGzipFile, gzip.GzipFile):
        monkeypatch.setattr(nifti_files, "FastGzipFile", way)
        with pytest.raises(DatasetError) as caught:
            load_image(file)
        said.append(str(caught.value))
    assert said[0] == said[1]


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nii.gz.gz"])
def test_without_the_faster_gzip_the_same_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    file = write_image(tmp_path / name)
    if name.endswith(".gz.gz"):
        file.write_bytes(gzip.compress(file.read_bytes()))
    read = load_image(file)
    monkeypatch.setattr(nifti_files, "FastGzipFile", gzip.GzipFile)
    again = load_image(file)
    assert read_voxels(read).tobytes() == read_voxels(again).tobytes() and read.header == again.header


def test_a_fourth_axis_of_one_with_an_affine_of_nan_is_refused(
    tmp_path: Path,
) -> None:  # found by tests/data/fuzzing.py
    image = nib.Nifti1Image(np.ones((*SHAPE, 1), np.int16), LPS)
    content = bytearray(image.to_bytes())
    struct.pack_into("<f", content, 280, float("nan"))  # srow_x
    (tmp_path / "a.nii").write_bytes(content)
    with pytest.raises(DatasetError, match=r"a\.nii: its NIfTI header is invalid \(.*\); fetch") as caught:
        load_image(tmp_path / "a.nii")
    assert "\n" not in str(caught.value)


def test_a_missing_file_a_folder_and_a_missing_channel_are_named(tmp_path: Path) -> None:
    (tmp_path / "folder.nii").mkdir()
    write_image(tmp_path / "a.nii")
    for name, message in {
        "b.nii": "no such file",
        "folder.nii": "is a folder or device, not a file",
        "a.nii#1": "has no channel 1",
    }.items():
        with pytest.raises(DatasetError, match=message):
            load_image(tmp_path / name)


def test_the_limit_leaves_room_for_a_case_of_four_channels() -> None:
    assert 4 * 240 * 240 * 155 < MAX_VOXELS <= 2**31 // 8


def test_start_up_needs_neither_torch_nor_monai() -> None:
    modules = "workflows.data.find_cases, workflows.audit.dataset_checks, workflows.audit.table, workflows.splits.split"
    check = f"import sys, {modules}; sys.exit(bool({{'torch', 'monai'}} & sys.modules.keys()))"
    subprocess.run([sys.executable, "-c", check], check=True, cwd=Path(__file__).parents[2])
