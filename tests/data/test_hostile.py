"""Data run no code, take no memory unasked, and lead to no path outside the output folder; see SECURITY.md."""

from __future__ import annotations

import ast
import gzip
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from networks.unet import UNet2D
from tests.support import REPOSITORY, Run, Started
from workflows.data.case import check_case_id
from workflows.data.find_cases import find_cases
from workflows.image_files.nifti_files import load_image
from workflows.messages.errors import ConfigurationError, DatasetError, printable
from workflows.pack import pack_bundle
from workflows.settings.checkpoints import settings_beside
from workflows.settings.overrides import literal_path
from workflows.settings.weights import read_weights
from workflows.splits.datalist import read_datalist

Command = Callable[..., Started]
AXIAL = "transforms.inputs.AxialWindow"
CODE = [file for package in ("transforms", "networks", "workflows") for file in (REPOSITORY / package).rglob("*.py")]


class Bomb:
    """Unpickled, it makes a folder called `exploded` in the working directory."""

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("exploded",)


@pytest.fixture(autouse=True)
def nothing_explodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    yield
    assert not (tmp_path / "exploded").exists()


# ---------------------------------------------------------------------------------------------------------------------
# Checkpoints


def test_the_bomb_does_explode_where_a_pickle_is_trusted(tmp_path: Path):
    pickle.loads(pickle.dumps(Bomb()))
    assert (tmp_path / "exploded").is_dir()
    (tmp_path / "exploded").rmdir()


@pytest.mark.parametrize("as_torch", [True, False])
def test_a_pickle_bomb_is_refused_by_every_command(as_torch: bool, command: Command, tiny_run: Run, tmp_path: Path):
    bomb = tmp_path / "bomb.pt"
    if as_torch:
        torch.save({"network": {"classify.bias": Bomb()}}, bomb)
    else:
        bomb.write_bytes(pickle.dumps(Bomb()))
    for arguments in (("predict", tiny_run.data, "--out", tmp_path / "out"), ("pack", tmp_path / "bundle.zip")):
        ended = command(*arguments, "--checkpoint", bomb)
        assert ended.status == 1
        assert ended.stderr.startswith(f"error: {bomb}: is no PyTorch checkpoint, or holds more than tensors")
    assert [path.name for path in tmp_path.iterdir()] == ["bomb.pt"]


@pytest.mark.parametrize("content", [[1, 2], {"network": 3}, {"a": "text"}, torch.zeros(2)])
def test_what_is_no_table_of_tensors_is_refused(content: object, tmp_path: Path):
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(ConfigurationError, match="holds more than tensors"):
        read_weights(tmp_path / "model.pt")


def test_nothing_of_ours_unpickles_or_evaluates():
    forbidden = {"eval", "exec", "pickle", "marshal", "yaml", "shelve", "compile", "__import__"}
    for file in CODE:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                assert name.split(".")[0] not in forbidden, f"{file.name}: {name}"
                if name.endswith("torch.load"):
                    assert {k.arg: ast.unparse(k.value) for k in node.keywords}["weights_only"] == "True", file.name
                assert "allow_pickle" not in {k.arg for k in node.keywords}, file.name


def test_safetensors_hold_the_same_weights(tmp_path: Path):
    safetensors = pytest.importorskip("safetensors.torch", reason="safetensors is an extra and not installed")
    network = UNet2D(width=4, depth=2)
    safetensors.save_file(network.state_dict(), tmp_path / "model.safetensors")
    read = read_weights(tmp_path / "model.safetensors")
    assert all(torch.equal(read[name], tensor) for name, tensor in network.state_dict().items())
    pack_bundle(tmp_path / "b.zip", tmp_path / "model.safetensors")
    shutil.unpack_archive(tmp_path / "b.zip", tmp_path)
    assert read_weights(tmp_path / "b" / "models" / "model.pt").keys() == read.keys()
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "model.safetensors").read_bytes()[:100])
    with pytest.raises(ConfigurationError, match=r"cut\.safetensors: is no safetensors file, or is cut short"):
        read_weights(tmp_path / "cut.safetensors")


# ---------------------------------------------------------------------------------------------------------------------
# What lies beside a checkpoint


@pytest.mark.parametrize(
    ("setting", "code"),
    [
        ({"input": {"_target_": AXIAL, "size_px": "$__import__('os').mkdir('exploded')"}}, "$__import__"),
        ({"input": {"_target_": "os.mkdir", "path": "exploded"}}, "os.mkdir"),
        ({"input": {"_target_": AXIAL, "modalities": ["$__import__('os').mkdir('exploded')"]}}, "$__import__"),
        ({"network_def": {"_target_": "os.mkdir", "path": "exploded"}}, "os.mkdir"),
        (
            {"network_def": {"_target_": "networks.unet.UNet2D", "width": {"_target_": "os.mkdir", "path": "x"}}},
            "os.mkdir",
        ),
        ({"network_def": "%/etc/hostname"}, "%/etc/hostname"),
        ({"network_def": {"_target_": "BasicUNet", "_mode_": "debug"}}, "_mode_"),
    ],
)
def test_settings_beside_a_checkpoint_run_nothing(setting: dict, code: str, tmp_path: Path):
    (tmp_path / "config.json").write_text(json.dumps(setting))
    with pytest.raises(ConfigurationError) as refusal:
        settings_beside(tmp_path / "model.pt")
    assert code in str(refusal.value) and "not run unasked" in str(refusal.value)
    assert settings_beside(tmp_path / "model.pt", named=list(setting)) == (
        {} if "input" in setting else {"input": {"_target_": AXIAL}}
    )


@pytest.mark.parametrize("target", ["networks.unet.UNet2D", "BasicUNet", "monai.networks.nets.UNet"])
def test_networks_of_ours_and_of_monai_are_built_unasked(target: str, tmp_path: Path):
    settings = {"network_def": {"_target_": target, "in_channels": "$len(@modalities)"}, "size_px": 32}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    assert settings_beside(tmp_path / "model.pt") == {
        "input": {"_target_": AXIAL, "size_px": 32},
        "network_def": {"_target_": target, "in_channels": "@in_channels"},
    }


# ---------------------------------------------------------------------------------------------------------------------
# Names


@pytest.mark.parametrize("name", ["$__import__('os').mkdir('exploded')", "@evaluator", "%inference.json", "a#b::c"])
def test_a_folders_name_is_never_more_than_text(name: str, command: Command, tiny_run: Run, tmp_path: Path):
    source = tiny_run.data / "BraTS20_Training_001"
    (tmp_path / name).mkdir()
    for modality in ("flair", "t1ce"):
        os.link(source / f"{source.name}_{modality}.nii.gz", tmp_path / name / f"{name}_{modality}.nii.gz")
    ended = command("predict", name, "--out", "out", "--checkpoint", tiny_run.checkpoint, "--device", "cpu")
    assert ended.status == 0, ended.stderr
    assert (tmp_path / "out" / name / f"{name}_seg.nii.gz").is_file()


def test_a_datalist_that_looks_like_code_stays_text(command: Command, tiny_run: Run, tmp_path: Path):
    split = json.loads((tiny_run.folder / "split.json").read_text())
    name = "$__import__('os').mkdir('exploded')"
    split["testing"][0] |= {"case": name, "grade": "$__import__('os').mkdir('exploded')"}
    (tmp_path / "split.json").write_text(json.dumps(split))
    ended = command(
        *("evaluate", "--checkpoint", tiny_run.checkpoint, "--out", "out", "--device", "cpu"),
        *("--dataset-dir", tiny_run.data, "--split", tmp_path / "split.json"),
    )
    assert ended.status == 0, ended.stderr
    assert (tmp_path / "out" / name / f"{name}_seg.nii.gz").is_file()


@pytest.mark.parametrize("name", ["..", ".", "", "../up", "a/b", "a\\b", " ", "\x1b[2J", "a\nb", "\udcff", "x" * 201])
def test_a_case_that_cannot_name_a_folder_of_its_own_is_refused(name: str):
    with pytest.raises(DatasetError):
        check_case_id(name)


@pytest.mark.parametrize("case", ["../../up", "/tmp/up", "..", "a\\..\\b", ""])
def test_a_datalist_leads_to_no_path_outside_the_output_folder(case: str, tiny_run: Run, tmp_path: Path):
    split = json.loads((tiny_run.folder / "split.json").read_text())
    split["testing"][0]["case"] = case
    (tmp_path / "split.json").write_text(json.dumps(split))
    with pytest.raises(DatasetError, match="is no case"):
        read_datalist(tmp_path / "split.json", tiny_run.data)


def test_a_decathlon_file_with_dots_for_a_name_is_refused(tmp_path: Path, command: Command, tiny_run: Run):
    shutil.copy(next(tiny_run.data.glob("*_001/*_flair.nii.gz")), tmp_path / "...nii.gz")
    content = {"modality": {"0": "FLAIR", "1": "T1gd"}, "training": ["...nii.gz"]}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    assert [case.id for case in find_cases(tmp_path).cases] == [".."]
    ended = command("predict", tmp_path, "--out", tmp_path.with_name("a") / "out", "--checkpoint", tiny_run.checkpoint)
    assert (ended.status, "is no name for a case" in ended.stderr) == (1, True)
    assert not tmp_path.with_name("a").exists()


def test_a_json_file_that_nests_too_deep_is_one_line(tmp_path: Path):
    (tmp_path / "dataset.json").write_text("[" * 200_000)
    with pytest.raises(DatasetError, match=r"dataset\.json: cannot be read as JSON"):
        find_cases(tmp_path)


def test_escape_sequences_do_not_reach_a_terminal():
    assert printable("\x1b[31mred\x07 \udcff Müller") == "\\x1b[31mred\\x07 \\udcff Müller"


def test_a_path_is_taken_literally(tmp_path: Path):
    from monai.bundle import ConfigParser

    for name in ("plain", "$import os", "a#b", "a::b", "@x", "a@#b"):
        assert ConfigParser({"dir": literal_path(tmp_path / name)}).get_parsed_content("dir") == str(tmp_path / name)


# ---------------------------------------------------------------------------------------------------------------------
# Memory


def test_a_gzip_bomb_is_not_unpacked_beyond_what_its_header_announces(tmp_path: Path):
    import nibabel as nib

    image = gzip.compress(nib.Nifti1Image(np.ones((8, 8, 8), np.uint8), np.eye(4)).to_bytes())
    bomb = tmp_path / "bomb.nii.gz"
    with bomb.open("wb") as file:
        file.write(image)  # a second member of 256 MB follows, which no header speaks of
        with gzip.GzipFile(fileobj=file, mode="wb", compresslevel=9) as more:
            for _ in range(4):
                more.write(bytes(2**26))
    assert bomb.stat().st_size < 1e6
    import tracemalloc

    tracemalloc.start()
    assert load_image(bomb).shape == (8, 8, 8)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2e6
