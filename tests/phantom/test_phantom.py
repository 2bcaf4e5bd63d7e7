"""The generated data set: its layout, its anatomy, and that it is no toy."""

from __future__ import annotations

import gzip
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from transforms.labels import MODALITIES, NECROTIC_CORE, OEDEMA
from workflows.messages.errors import DatasetError
from workflows.phantom import phantom
from workflows.phantom.anatomy import Brain, Grid
from workflows.phantom.tumour import ENHANCING, draw_tumour

CASES = 8
SMALL_VOXEL_ML = 0.004
LABELS = {0, NECROTIC_CORE, OEDEMA, ENHANCING}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return phantom.generate_dataset(tmp_path_factory.mktemp("phantom"), CASES, seed=0, size="small", workers=2)


@pytest.fixture(scope="module")
def cases(folders: list[Path]) -> list[phantom.Case]:
    return [{name: _voxels(folder, name) for name in (*MODALITIES, "seg")} for folder in folders]


def _voxels(folder: Path, name: str) -> np.ndarray:
    return np.asarray(nib.load(folder / f"{folder.name}_{name}.nii.gz").dataobj)


def _files(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def label_map(seed: int, index: int, size: phantom.Size) -> np.ndarray:
    """The label map that `generate_case` gives, in a third of the time."""
    rng = np.random.default_rng([seed, index]).spawn(3)[0]
    _, labels = phantom._head(rng, Grid.regular(phantom.SPACING_MM[size]), seed, index, False)
    return phantom._on_full_grid(labels, size)


def test_a_case_holds_four_modalities_and_a_segmentation_under_brats_names(folders):
    assert [f.name for f in folders] == [f"BraTS20_Training_{n:03d}" for n in range(1, CASES + 1)]
    for folder in folders:
        expected = {f"{folder.name}_{name}.nii.gz" for name in ("flair", "t1ce", "t1", "t2", "seg")}
        assert {f.name for f in folder.iterdir()} == expected


def test_small_images_cover_the_field_of_view_of_brats(folders):
    image = nib.load(folders[0] / f"{folders[0].name}_flair.nii.gz")
    assert image.shape == (120, 120, 155)
    assert image.get_data_dtype() == np.int16
    assert image.header.get_xyzt_units()[0] == "mm"
    np.testing.assert_array_equal(image.affine, nib.load(folders[0] / f"{folders[0].name}_seg.nii.gz").affine)
    edges = nib.affines.apply_affine(image.affine, [[-0.5, -0.5, -0.5], [119.5, 119.5, 154.5]])
    np.testing.assert_allclose(edges, [[0.5, 239.5, -0.5], [-239.5, -0.5, 154.5]])


def test_the_full_affine_is_that_of_brats():
    expected = [[-1, 0, 0, 0], [0, -1, 0, 239], [0, 0, 1, 0], [0, 0, 0, 1]]
    np.testing.assert_array_equal(phantom.affine("full"), expected)


def test_background_is_zero_and_the_brain_is_as_large_as_real_ones(cases):
    for case in cases:
        assert set(np.unique(case["seg"])) <= LABELS
        for modality in MODALITIES:
            assert case[modality].min() == 0
            assert 1100 < np.count_nonzero(case[modality]) * SMALL_VOXEL_ML < 1800  # ml
            assert not case[modality][:10].any()
            assert not case[modality][..., 150:].any()
        outside = (case["flair"] == 0) & (case["seg"] > 0)
        assert np.count_nonzero(outside) <= 0.02 * np.count_nonzero(case["seg"])


def test_the_seed_decides_the_bytes_whatever_the_number_of_workers(tmp_path):
    one = phantom.generate_dataset(tmp_path / "one", 2, seed=7, size="small", workers=1)
    phantom.generate_dataset(tmp_path / "two", 2, seed=7, size="small", workers=2)
    assert _files(tmp_path / "one") == _files(tmp_path / "two")
    assert _files(one[0]).values() != _files(one[1]).values()
    other = phantom.generate_case(8, 0, "small")["seg"]
    assert not np.array_equal(other, _voxels(one[0], "seg"))


def test_gzip_carries_neither_time_nor_name(folders):
    head = (folders[0] / f"{folders[0].name}_t1.nii.gz").read_bytes()[:10]
    assert head[3:8] == bytes(5)  # flags, time


def _mean(image: np.ndarray, mask: np.ndarray) -> float:
    return float(image[mask].mean())


@pytest.fixture(scope="module")
def healthy_head() -> tuple[Brain, phantom.Case]:
    grid = Grid.regular(phantom.SPACING_MM["small"])
    brain, _ = phantom._head(np.random.default_rng([0, 0]).spawn(3)[0], grid, 0, 0, True)
    return brain, phantom.generate_case(0, 0, "small", healthy=True)


def test_tissue_contrast_is_right_in_each_modality(healthy_head):
    brain, case = healthy_head
    tissues = {
        "fluid": brain.ventricle > 0.99,
        "grey": (brain.grey > 0.95) & (brain.fluid < 0.05),
        "white": (brain.grey < 0.05) & (brain.fluid < 0.05) & (brain.depth_mm > 10),
    }
    on_grid = {k: phantom._on_full_grid(v.astype(np.int16), "small") > 0 for k, v in tissues.items()}
    darkest_first = {
        "flair": ["fluid", "white", "grey"],
        "t1ce": ["fluid", "grey", "white"],
        "t1": ["fluid", "grey", "white"],
        "t2": ["white", "grey", "fluid"],
    }
    for modality, order in darkest_first.items():
        assert sorted(on_grid, key=lambda t, m=modality: _mean(case[m], on_grid[t])) == order, modality


def test_oedema_is_bright_on_flair_and_t2(cases):
    for case in cases:
        brain, oedema = (case["seg"] == 0) & (case["flair"] > 0), case["seg"] == OEDEMA
        assert _mean(case["flair"], oedema) > 1.2 * np.median(case["flair"][brain])
        assert _mean(case["t2"], oedema) > 1.1 * np.median(case["t2"][brain])


def test_the_rim_is_bright_on_t1ce_only_and_the_core_is_dark(cases):
    for case in cases:
        core, oedema, rim = (case["seg"] == c for c in (NECROTIC_CORE, OEDEMA, ENHANCING))
        if np.count_nonzero(rim) * SMALL_VOXEL_ML < 1 or not oedema.any():
            continue
        assert _mean(case["t1ce"], rim) > 1.2 * _mean(case["t1ce"], oedema)
        assert _mean(case["t1"], rim) < 1.15 * _mean(case["t1"], oedema)
        assert _mean(case["t1ce"], core) < 0.8 * _mean(case["t1ce"], rim)


def test_a_rim_that_is_large_enough_encloses_the_necrosis(cases):
    checked = 0
    for case in cases:
        core, rim = case["seg"] == NECROTIC_CORE, case["seg"] == ENHANCING
        if rim.sum() < 0.7 * (core.sum() + rim.sum()):
            continue
        open_to = ndimage.binary_dilation(core) & ~core & ~rim
        assert open_to.sum() < 0.02 * core.sum() + 5
        checked += 1
    assert checked


@pytest.fixture(scope="module")
def class_volumes_ml() -> np.ndarray:
    """(24, 3) ml of necrosis, oedema, enhancing tumour, by case."""
    maps = (label_map(1, index, "small") for index in range(24))
    return np.array([[(m == c).sum() * SMALL_VOXEL_ML for c in (NECROTIC_CORE, OEDEMA, ENHANCING)] for m in maps])


def test_tumour_sizes_follow_the_real_ones(class_volumes_ml):
    whole = class_volumes_ml.sum(axis=1)
    # Medians and quartiles of 368 BraTS 2020 label maps; 20 % either way for a set of two dozen.
    np.testing.assert_allclose(np.percentile(whole, [25, 50, 75]), [50.2, 89.7, 144.4], rtol=0.2)
    shares = class_volumes_ml / whole[:, None]
    np.testing.assert_allclose(np.median(shares, axis=0), [0.135, 0.611, 0.194], atol=0.06)


def test_rare_kinds_of_tumour_occur_about_as_often_as_in_reality():
    drawn = [draw_tumour(np.random.default_rng(i), 0, i) for i in range(400)]
    assert 0.05 < np.mean([t.enhancing_share == 0 for t in drawn]) < 0.10
    assert 0.05 < np.mean([t.satellite_ml > 0 for t in drawn]) < 0.10
    assert 0.01 < np.mean([t.core_share == 1 for t in drawn]) < 0.05


def test_a_satellite_lies_apart_from_the_main_tumour():
    index = next(i for i in range(100) if draw_tumour(np.random.default_rng(i), 0, i).satellite_ml > 0)
    pieces, count = ndimage.label(label_map(0, index, "small"), np.ones((3, 3, 3)))
    sizes_ml = np.sort(np.bincount(pieces.ravel())[1:])[::-1] * SMALL_VOXEL_ML
    assert count >= 2
    assert sizes_ml[1] > 0.8


def test_no_single_flair_threshold_finds_the_whole_tumour(cases):
    thresholds = np.arange(0.8, 3.0, 0.05)
    dice = np.zeros((len(cases), len(thresholds)))
    for row, case in zip(dice, cases, strict=True):
        relative, tumour = case["flair"] / case["flair"][case["flair"] > 0].mean(), case["seg"] > 0
        found = [relative > t for t in thresholds]
        row[:] = [2 * np.count_nonzero(f & tumour) / (f.sum() + tumour.sum()) for f in found]
    best = dice.mean(axis=0).max()
    assert 0.4 < best < 0.85  # fourteen real cases: 0.64


def test_one_seed_is_one_patient_at_both_sizes():
    small = label_map(3, 0, "small") > 0
    full = label_map(3, 0, "full") > 0
    shrunk = full.reshape(120, 2, 120, 2, 155).mean(axis=(1, 3)) >= 0.5
    assert 2 * (small & shrunk).sum() / (small.sum() + shrunk.sum()) > 0.95


def test_the_last_patients_are_healthy(tmp_path):
    folders = phantom.generate_dataset(tmp_path, 2, size="small", healthy=1, workers=1)
    assert [bool(_voxels(folder, "seg").any()) for folder in folders] == [True, False]


def test_kaggle_quirks(tmp_path):
    folders = phantom.generate_dataset(tmp_path, 2, size="small", kaggle_quirks=True, workers=2)
    training = tmp_path / "MICCAI_BraTS2020_TrainingData"
    assert [f.name for f in folders] == ["BraTS20_Training_001", "BraTS20_Training_355"]
    assert not (folders[1] / "BraTS20_Training_355_seg.nii.gz").exists()
    stray = nib.load(folders[1] / "W39_1998.09.19_Segm.nii")
    assert set(np.unique(stray.dataobj)) <= LABELS
    mapping = (training / "name_mapping.csv").read_text().splitlines()
    assert mapping[0].startswith("Grade,BraTS_2017_subject_ID,") and mapping[1].endswith(",BraTS20_Training_001")
    survival = (training / "survival_info.csv").read_text().splitlines()
    assert survival[0] == "Brats20ID,Age,Survival_days,Extent_of_Resection"
    unlabelled = tmp_path / "MICCAI_BraTS2020_ValidationData" / "BraTS20_Validation_001"
    assert len(list(unlabelled.iterdir())) == len(MODALITIES)
    assert not list(unlabelled.glob("*seg*"))


def _interrupted_while_writing(monkeypatch: pytest.MonkeyPatch, out: Path) -> None:
    written = []

    def nifti(*arguments: object, **options: object) -> bytes:
        written.append(1)
        if len(written) == 8:  # the third file of the second case
            raise KeyboardInterrupt
        return b"image"

    with monkeypatch.context() as patch:
        patch.setattr(phantom, "_nifti", nifti)
        patch.setattr(phantom, "generate_case", lambda *_: dict.fromkeys((*MODALITIES, "seg")))
        with pytest.raises(KeyboardInterrupt):
            phantom.generate_dataset(out, 3, size="small", workers=1)


def test_an_interrupted_run_leaves_whole_cases_only_and_can_be_finished(tmp_path, monkeypatch):
    _interrupted_while_writing(monkeypatch, tmp_path)
    assert [f.name for f in tmp_path.iterdir() if f.is_dir()] == ["BraTS20_Training_001"]
    (tmp_path / f"{phantom.PARTIAL_PREFIX}killed").mkdir()  # what SIGKILL leaves
    monkeypatch.setattr(phantom, "generate_case", lambda *_: {"seg": np.zeros((120, 120, 155), np.int16)})
    assert len(phantom.generate_dataset(tmp_path, 3, size="small", workers=1)) == 3
    assert not list(tmp_path.glob(f"{phantom.PARTIAL_PREFIX}*"))


@pytest.mark.parametrize(("cases", "healthy", "seed"), [(0, 0, 0), (2, 3, 0), (2, -1, 0), (2, 0, -1)])
def test_impossible_numbers_are_refused(tmp_path, cases, healthy, seed):
    with pytest.raises(DatasetError, match="ask for"):
        phantom.generate_dataset(tmp_path / "out", cases, seed, "small", healthy)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_something_else_is_refused(tmp_path, folders):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(DatasetError, match="not empty"):
        phantom.generate_dataset(tmp_path, 1, size="small")
    with pytest.raises(DatasetError, match="other settings"):
        phantom.generate_dataset(folders[0].parent, CASES, seed=99, size="small")
    with pytest.raises(DatasetError, match="is a file"):
        phantom.generate_dataset(tmp_path / "thesis.txt", 1, size="small")


def test_the_default_data_set_is_generated_once_and_named_each_time(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(phantom, "DEFAULT_CASES", 1)
    folder = phantom.default_dataset()
    assert (folder / "BraTS20_Training_001").is_dir()
    assert [f.name for f in folder.parent.iterdir()] == [folder.name]  # nothing temporary left
    monkeypatch.setattr(phantom, "generate_dataset", None)
    assert phantom.default_dataset() == folder
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert all("--dataset_dir" in line and "phantom" in line and str(folder) in line for line in lines)


def test_a_slower_process_keeps_the_default_data_set_of_the_quicker(tmp_path):
    for name in ("slower", "quicker"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "case").write_text(name)
    phantom._move_unless_there(tmp_path / "slower", tmp_path / "quicker")
    assert (tmp_path / "quicker" / "case").read_text() == "quicker"


def test_importing_the_generator_does_not_import_torch():
    code = "import sys, workflows.phantom.phantom; sys.exit('torch' in sys.modules or 'monai' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
def test_twelve_full_cases_take_a_minute_on_two_cores(tmp_path):
    started = time.perf_counter()
    folders = phantom.generate_dataset(tmp_path, 12, workers=2)
    assert time.perf_counter() - started < 60
    content = gzip.decompress((folders[0] / f"{folders[0].name}_flair.nii.gz").read_bytes())
    assert len(content) == 352 + 2 * 240 * 240 * 155
