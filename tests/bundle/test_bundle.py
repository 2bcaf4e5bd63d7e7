"""The bundle is one that other MONAI applications can load, check, export and run."""

from __future__ import annotations

import configparser
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow, onnx_export, verify_metadata, verify_net_in_out

from tests.support import REPOSITORY, Run, Started
from transforms.inputs import AxialWindow
from workflows.comparing.compare_networks import NETWORKS
from workflows.settings.bundle_files import config_files, overlays_of

CUBE = {"_target_": "transforms.inputs.BrainCube", "size_px": 64}
CONFIGS = REPOSITORY / "bundle" / "configs"
METADATA = CONFIGS / "metadata.json"

DIFFERENT_BETWEEN_TRAINING_AND_INFERENCE = {
    "imports",  # each names the modules whose functions it calls
    "amp",  # in training, on a processor that has instructions for it too
    "output_dir",  # of a training the run's folder
    "dataset_dir",  # generated cases to train on; to predict, the patient named
    "preprocessing",  # training adds the label map and keeps a window of slices
    "run",
}
LONGEST_EXPRESSION = 160
IN_INFERENCE = ("evaluate", "figures", "inference", "measure_prediction", "multi_gpu_evaluate", "tune")


def read(name: str) -> dict[str, Any]:
    return json.loads((CONFIGS / f"{name}.json").read_text())


def strings(value: Any) -> Iterator[str]:
    """Every text in a nested configuration."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from strings(item)
    elif isinstance(value, str):
        yield value


def training(run: Run, folder: Path, variants: tuple[str, ...] = (), **overrides: Any) -> ConfigWorkflow:
    """`train.json` with overlays, initialised and not run."""
    workflow = ConfigWorkflow(
        config_files("train", variants),
        workflow_type="train",
        dataset_dir=str(run.data),
        split_file=str(run.folder / "split.json"),
        run_dir=str(folder / "run"),
        **overrides,
    )
    workflow.initialize()
    return workflow


# ---------------------------------------------------------------------------------------------------------------------
# What MONAI asks of a bundle


def test_training_has_all_properties_that_monai_applications_use(
    tiny_run: Run, tiny_settings: dict[str, Any], tmp_path: Path
):
    workflow = training(tiny_run, tmp_path, **tiny_settings)
    assert workflow.check_properties() == []
    assert workflow.trainer.network is workflow.parser.get_parsed_content("network")
    assert {name for name in workflow.properties if getattr(workflow, name) is None} == {
        "train_postprocessing",  # scores are computed from what the network gives
        "val_postprocessing",
    }


def test_inference_has_all_properties_that_monai_applications_use(tiny_run: Run, tiny_settings: dict[str, Any]):
    workflow = ConfigWorkflow(
        config_files("inference"),
        workflow_type="infer",
        patient_dir=str(tiny_run.data / "BraTS20_Training_001"),
        checkpoint=str(tiny_run.checkpoint),
        **tiny_settings,
    )
    workflow.initialize()
    assert workflow.check_properties() == []
    assert {name for name in workflow.properties if getattr(workflow, name) is None} == {"key_metric"}  # no reference


def test_run_and_training_are_the_same():
    assert read("train")["training"] == "%run"
    workflow = ConfigWorkflow(config_files("train"), workflow_type="train")
    workflow.initialize()
    assert workflow.parser["training"] == workflow.parser["run"] != []


def test_keys_of_both_configurations_have_equal_values():
    train, inference = read("train"), read("inference")
    shared = train.keys() & inference.keys()
    assert {key for key in shared if train[key] != inference[key]} == DIFFERENT_BETWEEN_TRAINING_AND_INFERENCE
    assert {"network_def", "network", "input", "modalities", "in_channels", "reader"} <= shared


@pytest.mark.skipif("MONAI_META_SCHEMA" not in os.environ, reason="MONAI_META_SCHEMA names no copy of MONAI's schema")
def test_the_metadata_follow_monais_schema(tmp_path: Path):
    copy = shutil.copy(os.environ["MONAI_META_SCHEMA"], tmp_path / "schema.json")
    verify_metadata(meta_file=str(METADATA), filepath=str(copy))


@pytest.mark.parametrize("n", [1, 2, 5])
def test_the_network_takes_and_gives_what_the_metadata_say(n: int):
    verify_net_in_out("network_def", meta_file=str(METADATA), config_file=config_files("inference"), device="cpu", n=n)


# ---------------------------------------------------------------------------------------------------------------------
# Export


def tiny_network(run: Run) -> torch.nn.Module:
    from networks.packed import PackedUNet

    network = PackedUNet(2, 4, width=4).eval()
    network.load_state_dict(torch.load(run.checkpoint, weights_only=True))
    return network


def test_torchscript_exported_from_another_folder_gives_the_networks_scores(
    tiny_run: Run, tmp_path: Path, python: Callable[..., Started]
):
    exported = tmp_path / "model.ts"
    ended = python(
        *("-m", "monai.bundle", "ckpt_export", "network_def", "--filepath", exported, "--config_file"),
        *(CONFIGS / "inference.json", "--meta_file", METADATA, "--ckpt_file", tiny_run.checkpoint),
        *("--network_def#width", 4, "--input#mirrored", False),
        cwd=tmp_path,
    )
    assert ended.status == 0, ended.stderr
    images = torch.randn(3, 2, 96, 64)  # neither the size nor the number of slices is fixed
    with torch.no_grad():
        expected = tiny_network(tiny_run)(images)
        torch.testing.assert_close(torch.jit.load(exported)(images), expected, rtol=0, atol=1e-5)


def test_onnx_exported_gives_the_networks_scores(tiny_run: Run, tmp_path: Path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra [export] is not installed")
    exported = tmp_path / "model.onnx"
    onnx_export(
        "network_def",
        filepath=str(exported),
        config_file=config_files("inference"),
        ckpt_file=str(tiny_run.checkpoint),
        input_shape=[1, 2, 64, 64],
        use_trace=True,
        converter_kwargs={"dynamo": False},
        **{"network_def#width": 4, "input#mirrored": False},
    )
    images = torch.randn(1, 2, 64, 64)
    onnx = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    scores = onnx.run(None, {onnx.get_inputs()[0].name: images.numpy()})[0]
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(scores), tiny_network(tiny_run)(images), rtol=0, atol=1e-4)


# ---------------------------------------------------------------------------------------------------------------------
# Variants


def test_seed_is_the_studys_recipe(tiny_run: Run, tmp_path: Path):
    workflow = training(tiny_run, tmp_path, variants=("seed",), device="cpu")
    content = workflow.parser.get_parsed_content
    assert sum(parameter.numel() for parameter in content("network_def").parameters()) == 7_759_908
    assert type(content("loss")) is torch.nn.CrossEntropyLoss
    optimizer, scheduler = content("optimizer"), content("lr_scheduler")
    assert (type(optimizer), optimizer.defaults["lr"], optimizer.defaults["eps"]) == (torch.optim.Adam, 1e-3, 1e-7)
    assert type(scheduler) is torch.optim.lr_scheduler.ReduceLROnPlateau
    assert (scheduler.mode, scheduler.factor, scheduler.patience, scheduler.min_lrs) == ("min", 0.2, 1, [1e-6])
    assert workflow.max_epochs == content("train#trainer").state.max_epochs == 35
    assert content("train#dataloader").batch_sampler.slices_per_batch is None  # one patient per batch
    assert content("augmentation") is None


def test_seed_dice_differs_from_seed_in_the_loss_only():
    assert read("seed")["loss"] == {"_target_": "torch.nn.CrossEntropyLoss"}
    assert read("seed_dice") == {"based_on": "seed", "loss": {"_target_": "DiceLoss", "softmax": True}}
    names = [Path(file).stem for file in config_files("train", ["seed_dice"])]
    assert names == ["train", "seed", "seed_dice"]
    assert [Path(file).stem for file in config_files("train", ["seed", "seed_dice"])] == names


def test_seed_dice_without_seed_is_refused_in_one_line(tiny_run: Run, tmp_path: Path, python: Callable[..., Started]):
    files = f"['{CONFIGS / 'train.json'}','{CONFIGS / 'seed_dice.json'}']"
    named = ("--dataset_dir", tiny_run.data, "--run_dir", tmp_path / "run")
    ended = python("-m", "monai.bundle", "run", "training", "--config_file", files, *named, cwd=tmp_path)
    assert ended.status == 1
    assert ended.last_line == "error: an overlay changes the recipe seed; name seed.json before it."
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("variant", sorted(file.stem for file in CONFIGS.glob("*.json")))
def test_every_overlay_changes_settings_that_exist(variant: str):
    if variant == "metadata":
        pytest.skip("describes the bundle and configures nothing")
    known = read("inference" if variant in IN_INFERENCE else "train")
    added = {
        "evaluate": {"split_file", "section", "datalist", "scores", "soft_labels", "rules", "hd95"},
        "tune": {"section", "scores"},
        "measure_steps": {"steps"},
        "measure_prediction": {"cost"},
        "multi_gpu_evaluate": {"evaluation"},
        "figures": {
            *("cases", "count", "figure_seed", "plane", "slice_index", "slices_per_case", "caption", "figures"),
        },
    }.get(variant, set())
    assert {key.lstrip("+").split("#")[0] for key in read(variant)} <= known.keys() | added


def test_demo_and_basic_unet_are_built(tiny_run: Run, tmp_path: Path):
    demo = training(tiny_run, tmp_path, variants=("demo",), **{"input#size_px": 64}).parser
    assert (demo.get_parsed_content("network_def").classify.in_channels, demo["max_epochs"]) == (8, 20)
    basic = training(tiny_run, tmp_path, variants=("basic_unet",), input=CUBE).parser
    network = basic.get_parsed_content("network_def")
    assert type(network).__name__ == "BasicUNet"
    assert network(torch.zeros(1, 4, 32, 32)).shape == (1, 4, 32, 32)  # with mirror images


def test_the_networks_by_name_are_the_studys_the_bundles_own_and_seven_more():
    assert read("study_unet")["network_def"] == read("seed")["network_def"] | {"in_channels": "@in_channels"}
    assert read("packed_unet") == {"network_def": read("train")["network_def"]}
    assert set(NETWORKS) == {name for name in overlays_of("train", CONFIGS) if "network_def" in read(name)} - {
        *("demo", "seed", "deep_supervision"),  # recipes
    }


@pytest.mark.parametrize("neighbours", [0, 1])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_scores_four_classes_of_a_slice(name: str, neighbours: int):
    channels = AxialWindow(neighbours=neighbours).in_channels
    settings = {"in_channels": channels}
    definition = {"network_def": read(name)["network_def"]}
    network = ConfigParser({**settings, **definition}).get_parsed_content("network_def").eval()
    with torch.no_grad():
        assert network(torch.zeros(1, channels, 64, 64)).shape == (1, 4, 64, 64)


def test_steps_are_measured_in_the_training_itself():
    own = ("$@steps.attach(@train#trainer)", "$@steps.write(@run_state)")
    measured = [step for step in read("measure_steps")["run"] if step not in own]
    assert measured == [step for step in read("train")["run"] if step in measured]
    assert "$@train#trainer.run()" in measured


# ---------------------------------------------------------------------------------------------------------------------
# Text


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.json")), ids=lambda file: file.name)
def test_expressions_are_one_line_and_no_path_is_absolute(file: Path):
    for text in strings(json.loads(file.read_text())):
        assert "\n" not in text
        if text.startswith("$"):
            assert len(text) <= LONGEST_EXPRESSION, text
            assert ";" not in text, text
        # A name joined to another, as in  @run_dir + '/last.pt',  is relative to it.
        assert not re.search(r"^[/~]|[A-Za-z]:\\|(?<!\+ )'/|/(home|root|work|Users|tmp|mnt)/", text), text


def test_no_handler_is_addressed_by_its_number():
    for file in CONFIGS.glob("*.json"):
        assert not re.search(r"handlers[#:]+\d", file.read_text()), file.name


def test_metadata_and_package_have_one_version():
    package = configparser.ConfigParser()
    package.read(REPOSITORY / "setup.cfg")
    metadata = read("metadata")
    assert metadata["version"] == package["metadata"]["version"]
    assert metadata["version"] in metadata["changelog"]


def test_the_metadata_name_the_tested_versions():
    constraints = REPOSITORY / "constraints.txt"
    if not constraints.exists():
        pytest.skip("there is no constraints.txt")
    lines = [line.partition("#")[0].partition(";")[0].strip() for line in constraints.read_text().splitlines()]
    tested = {canonical(name): version for name, equals, version in (line.partition("==") for line in lines) if equals}
    metadata = read("metadata")
    named = {name: metadata[f"{key}_version"] for name, key in (("monai", "monai"), ("torch", "pytorch"))}
    named |= {"numpy": metadata["numpy_version"], **metadata["required_packages_version"]}
    assert named == {name: tested.get(canonical(name), "not in constraints.txt") for name in named}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


# ---------------------------------------------------------------------------------------------------------------------
# MONAI's own command line


@pytest.mark.parametrize(
    ("run", "configuration", "misspelt", "meant"),
    [("training", "train", "dataset_dirr", "dataset_dir"), ("run", "inference", "patient_dirr", "patient_dir")],
)
def test_a_misspelt_override_of_the_bundle_ends_in_one_line_before_any_work(
    run: str, configuration: str, misspelt: str, meant: str, tmp_path: Path, python: Callable[..., Started]
):
    ended = python(
        *("-m", "monai.bundle", "run", run, "--config_file", CONFIGS / f"{configuration}.json", f"--{misspelt}", "x"),
        cwd=tmp_path,
        XDG_CACHE_HOME=str(tmp_path / "cache"),
        MPLCONFIGDIR=str(tmp_path.parent),
    )
    assert ended.status == 1
    assert ended.last_line == f"error: no setting is called '{misspelt}'; did you mean {meant}?"
    assert "Traceback" not in ended.stderr
    assert list(tmp_path.rglob("*")) == []


def test_configurations_are_ascii_since_monai_reads_them_in_the_terminals_encoding():
    assert [file.name for file in CONFIGS.iterdir() if not file.read_bytes().isascii()] == []
