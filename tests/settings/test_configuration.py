"""Settings are found, overridden and checked by name; a run's settings are found beside its checkpoint."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import Run, Started, listing, start
from workflows.files.run_folder import run_configuration
from workflows.messages.errors import ConfigurationError, DatasetError
from workflows.settings import bundle_files
from workflows.settings.bundle_files import bundle_root, config_files, known_settings, overlays_of
from workflows.settings.checkpoints import settings_beside
from workflows.settings.overrides import parse_overrides, refuse_unknown, running_workflow
from workflows.settings.setting_checks import check_values
from workflows.training.train import datalist

AXIAL = "transforms.inputs.AxialWindow"
REPOSITORY = Path(__file__).resolve().parents[2]


def test_the_bundle_of_a_clone_is_its_bundle_folder_whatever_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    assert bundle_root() == str(REPOSITORY / "bundle")


def place_code_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_files, "__file__", str(folder / "workflows" / "settings" / "bundle_files.py"))


def test_the_bundle_of_packed_code_is_the_folder_that_holds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "configs").mkdir()
    place_code_in(tmp_path, monkeypatch)
    assert bundle_root() == str(tmp_path)


def test_code_without_a_bundle_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    place_code_in(tmp_path, monkeypatch)
    with pytest.raises(ConfigurationError, match=rf"^no bundle beside {re.escape(str(tmp_path))}: .*pip install -e \."):
        bundle_root()


@pytest.fixture
def small_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle with train.json, metadata.json and the overlays study.json and small.json."""
    configs = tmp_path / "bundle" / "configs"
    configs.mkdir(parents=True)
    for name, content in {
        "train": {"imports": [], "max_epochs": 3, "network_def": {"width": 16}, "_private": 1},
        "study": {"soft_labels": True, "network_def#width": 32, "+imports": []},
        "small": {"size_px": 32},
        "metadata": {"version": "0.1.0"},
    }.items():
        (configs / f"{name}.json").write_text(json.dumps(content))
    place_code_in(tmp_path, monkeypatch)
    return configs


def test_overlays_follow_their_base_in_the_order_named(small_bundle: Path):
    names = [Path(file).name for file in config_files("train", ["small", "study"])]
    assert names == ["train.json", "small.json", "study.json"]
    assert config_files("train") == [str(small_bundle / "train.json")]


def test_an_overlay_of_ones_own_is_named_by_its_path(small_bundle: Path, tmp_path: Path):
    mine = tmp_path / "mine.json"
    mine.write_text("{}")
    assert config_files("train", [str(mine)])[1] == str(mine)


def test_an_unknown_variant_lists_those_there_are(small_bundle: Path):
    with pytest.raises(ConfigurationError) as refusal:
        config_files("train", ["studdy"])
    assert str(refusal.value) == "no overlay 'studdy'; there are study."


@pytest.mark.parametrize(
    ("arguments", "overrides"),
    [
        (["--max-epochs", "6"], {"max_epochs": 6}),
        (["--size_px=128"], {"size_px": 128}),
        (["--modalities", "['flair', 't2']"], {"modalities": ["flair", "t2"]}),
        (["--slice_range=[60,135]", "--amp", "False"], {"slice_range": [60, 135], "amp": False}),
        (["--dataset-dir", "/data/BraTS-2020"], {"dataset_dir": "/data/BraTS-2020"}),
        (["--network_def#norm", "None"], {"network_def#norm": None}),
        (["--learning_rate=1e-3"], {"learning_rate": 0.001}),
        (["--loss=a=b"], {"loss": "a=b"}),
        (["--offset", "-1"], {"offset": -1}),
        ([], {}),
    ],
)
def test_overrides_are_read_as_python_values_where_they_are_ones(arguments: list[str], overrides: dict[str, object]):
    assert parse_overrides(arguments) == overrides


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["max_epochs", "6"], "'max_epochs' is not an option; override a setting by  --name value."),
        (["--max_epochs", "6", "7"], "'7' is not an option; override a setting by  --name value."),
        (["--max_epochs"], "--max_epochs has no value; override a setting by  --name value."),
    ],
)
def test_what_is_no_override_is_refused(arguments: list[str], message: str):
    with pytest.raises(ConfigurationError) as refusal:
        parse_overrides(arguments)
    assert str(refusal.value) == message


KNOWN = ("dataset_dir", "max_epochs", "network_def", "_meta_")


def test_a_misspelt_setting_names_the_nearest():
    with pytest.raises(ConfigurationError) as refusal:
        refuse_unknown(["max_epochs", "dataset_dirr"], KNOWN)
    assert str(refusal.value) == "no setting is called 'dataset_dirr'; did you mean dataset_dir?"


def test_a_setting_like_no_other_lists_those_that_are_not_private():
    with pytest.raises(ConfigurationError) as refusal:
        refuse_unknown(["zzz"], KNOWN)
    assert str(refusal.value) == "no setting is called 'zzz'; there are dataset_dir, max_epochs, network_def."


@pytest.mark.parametrize("name", ["max_epochs", "network_def#width", "network_def::width"])
def test_a_setting_is_known_by_the_part_before_its_separator(name: str):
    refuse_unknown([name], KNOWN)
    with pytest.raises(ConfigurationError):
        refuse_unknown([name], ["dataset_dir"])


def test_the_known_settings_are_those_of_all_configurations_but_the_metadata(small_bundle: Path):
    expected = {"_meta_", "_private", "max_epochs", "network_def", "soft_labels", "imports", "size_px"}
    assert known_settings(small_bundle.parent) == expected


def test_the_settings_beside_a_checkpoint_are_those_that_its_network_needs(tmp_path: Path):
    settings = {"input": {"_target_": "transforms.inputs.BrainCube", "size_px": 64}, "network_def": {"width": 8}}
    (tmp_path / "config.json").write_text(json.dumps({**settings, "max_epochs": 3, "dataset_dir": "/data"}))
    assert settings_beside(tmp_path / "model.pt") == settings
    assert run_configuration(tmp_path / "model.pt")["max_epochs"] == 3


def test_a_3d_network_beside_a_checkpoint_is_taken_and_foreign_code_inside_it_is_not(tmp_path: Path):
    definition = json.loads((REPOSITORY / "bundle" / "configs" / "unet3d.json").read_text())["network_def"]
    (tmp_path / "config.json").write_text(json.dumps({"network_def": definition}))
    assert settings_beside(tmp_path / "model.pt")["network_def"] == definition
    definition["network"]["_target_"] = "os.system"
    (tmp_path / "config.json").write_text(json.dumps({"network_def": definition}))
    with pytest.raises(ConfigurationError, match=r"network_def beside the weights holds the code 'os\.system'"):
        settings_beside(tmp_path / "model.pt")


def test_a_run_from_before_there_were_cubes_is_read_without_one(tmp_path: Path):
    (tmp_path / "config.json").write_text(json.dumps({"size_px": 96}))
    assert settings_beside(tmp_path / "model.pt") == {"input": {"_target_": AXIAL, "size_px": 96}}


def test_the_switches_of_a_run_from_before_there_were_inputs_become_one(tmp_path: Path):
    of_all = {"modalities": ["flair"], "size_px": 64, "slice_range": [60, 135], "normalisation": "zscore"}
    of_all |= {"neighbours": 0, "planes": ["axial"], "mirrored": True, "whole_brain": False, "crop_to_brain": False}
    network = {"_target_": "BasicUNet", "in_channels": "$len(@modalities) * (2 * @neighbours + 1)"}
    (tmp_path / "config.json").write_text(json.dumps({**of_all, "cube_mm": 160, "network_def": network}))
    cube = {"modalities": ["flair"], "edge_mm": 160, "size_px": 64, "planes": ["axial"], "mirrored": True}
    assert settings_beside(tmp_path / "model.pt") == {
        "input": {"_target_": "transforms.inputs.BrainCube", **cube},
        "network_def": {"_target_": "BasicUNet", "in_channels": "@in_channels"},
    }
    (tmp_path / "config.json").write_text(json.dumps({**of_all, "cube_mm": None}))
    window = {name: value for name, value in of_all.items() if name not in ("planes", "mirrored")}
    assert settings_beside(tmp_path / "model.pt") == {"input": {"_target_": AXIAL, **window}}


def test_a_checkpoint_alone_brings_no_settings(tmp_path: Path):
    assert settings_beside(tmp_path / "model.pt") == {}


def test_a_damaged_configuration_beside_a_checkpoint_is_named(tmp_path: Path):
    (tmp_path / "config.json").write_text('{"size_px": ')
    with pytest.raises(ConfigurationError, match=rf"^{re.escape(str(tmp_path / 'config.json'))}: is not valid JSON"):
        settings_beside(tmp_path / "model.pt")


def test_an_expression_finds_the_configuration_that_it_stands_in(tmp_path: Path):
    from monai.bundle import ConfigWorkflow

    file = tmp_path / "ask.json"
    asking = {
        "imports": ["$import workflows.settings.overrides as overrides"],
        "size_px": 64,
        "run": ["$overrides.running_workflow().parser.get('size_px')"],
    }
    file.write_text(json.dumps(asking))
    assert running_workflow() is None
    workflow = ConfigWorkflow(str(file), meta_file=None, logging_file=False, workflow_type="train")
    assert workflow.run() == [64]


# ---------------------------------------------------------------------------------------------------------------------
# What a setting may be


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_epochs": "six"}, "max_epochs is 'six'; it must be a whole number."),
        ({"max_epochs": 1.5}, "max_epochs is 1.5; it must be a whole number."),
        ({"max_epochs": 0}, "max_epochs is 0; it must be greater than 0."),
        ({"slices_per_step": "all"}, "slices_per_step is 'all'; it must be a whole number or None."),
        ({"learning_rate": "fast"}, "learning_rate is 'fast'; it must be a number."),
        ({"soft_labels": "maybe"}, "soft_labels is 'maybe'; it must be True or False."),
        ({"dataset_dir": 2020}, "dataset_dir is 2020; it must be text."),
        (
            {"input": {"_target_": AXIAL, "slice_range": [60]}},
            "input: slice_range is [60]; give the first slice and the one after the last.",
        ),
        (
            {"input": {"_target_": AXIAL, "slice_range": [135, 60]}},
            "input: slice_range is [135, 60]; it holds no slice.",
        ),
        (
            {"input#modalities": ["flair", "pet"]},
            "input: modalities is ['flair', 'pet']; choose from flair, t1ce, t1, t2.",
        ),
        (
            {"input": {"_target_": AXIAL, "normalisation": "minmax"}},
            "input: unknown normalisation 'minmax': choose zscore or window_maximum.",
        ),
        (
            {"network_def#_target_": "networks.unet.UNet3D"},
            "network_def: no network is called 'networks.unet.UNet3D'; did you mean networks.unet.UNet2D?",
        ),
        ({"network_def#_target_": "BasicUNt"}, "network_def: no network is called 'BasicUNt'; did you mean BasicUNet?"),
        (
            {"network_def#widht": 8},
            "network_def: networks.packed.PackedUNet has no argument 'widht'; did you mean width?",
        ),
        ({"network_def#out_channels": 3}, "network_def: the network has 3 classes; the labels have 4."),
    ],
)
def test_a_setting_that_cannot_be_meant_is_refused(settings: dict[str, object], message: str):
    with pytest.raises(ConfigurationError) as refusal:
        check_values(parser_of("train", settings), bundle_root())
    assert str(refusal.value) == message


@pytest.mark.parametrize("name", ["train", "inference"])
def test_the_bundles_own_settings_and_overlays_pass(name: str):
    configs = Path(bundle_root()) / "configs"
    for overlay in (None, *overlays_of(name, configs)):
        check_values(parser_of(name, {}, *([overlay] if overlay else [])), bundle_root())


@pytest.mark.parametrize(
    "settings",
    [
        {"learning_rate": 1},
        {"slices_per_step": None},
        {"input": {"_target_": AXIAL, "slice_range": (0, 155)}},
        {"seed": "$1 + 1"},
        {"input#size_px": "@seed"},
    ],
)
def test_a_setting_of_a_fitting_kind_or_an_expression_passes(settings: dict[str, object]):
    check_values(parser_of("train", settings), bundle_root())


def parser_of(name: str, settings: dict[str, object], *overlays: str):
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    parser.read_config(config_files(name, overlays))
    parser.update(settings)
    return parser


@pytest.mark.parametrize("lost", [{"_target_": "workflows.handlers.SaveCheckpoint"}, "$import workflows.handlers as h"])
def test_a_run_begun_with_code_that_is_gone_is_not_continued_but_its_weights_still_predict(
    tiny_run: Run, tmp_path: Path, command: Callable[..., Started], lost: object
):
    run = tmp_path / "run"
    shutil.copytree(tiny_run.folder, run)
    configuration = json.loads((run / "config.json").read_text())
    configuration["train"]["handlers"].append(lost)
    (run / "config.json").write_text(json.dumps(configuration))
    before = listing(run)
    ended = command("train", "--resume", "--out", run)
    assert ended.status == 1 and ended.stderr.count("\n") == 1
    assert f"{run}/config.json: names workflows.handlers" in ended.stderr
    assert f"brats-unet predict PATIENT --checkpoint {run}/model.pt" in ended.stderr
    assert listing(run) == before
    patient, out = tiny_run.data / "BraTS20_Training_001", tmp_path / "out"
    predicted = command("predict", patient, "--checkpoint", run / "model.pt", "--out", out, "--no-report")
    assert predicted.status == 0, predicted.stderr


def test_a_wrong_setting_ends_the_bundle_before_any_work(tmp_path: Path, tiny_run: Run):
    arguments = ("run", "training", "--config_file", REPOSITORY / "bundle" / "configs" / "train.json")
    wrong = ("--max_epochs", "six", "--dataset_dir", tiny_run.data, "--run_dir", "run")
    ended = start("-m", "monai.bundle", *arguments, *wrong, cwd=tmp_path, PYTHONPATH=str(REPOSITORY))
    assert ended.status == 1
    assert ended.last_line == "error: max_epochs is 'six'; it must be a whole number."
    assert not (tmp_path / "run").exists()


def test_a_window_outside_a_volume_is_refused_by_its_header(tiny_run: Run):
    from transforms.inputs import AxialWindow
    from workflows.training.train import check_window

    split = datalist(tiny_run.data, ["flair", "t1ce"], str(tiny_run.folder / "split.json"), tiny_run.folder, 0)
    check_window(split, AxialWindow())
    with pytest.raises(DatasetError, match=r"^BraTS20_Training_00\d: slice range 60 to 156 .* within 0 to 155\.$"):
        check_window(split, AxialWindow(slice_range=[60, 156]))
