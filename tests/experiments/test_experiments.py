"""The experiments' harness: what is merged, what is scored, what is not done twice."""

from __future__ import annotations

import json
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from experiments.differences import paired_difference, verdict
from experiments.folds import FOLDS, SECTION, fold_split
from experiments.overlay import load_experiment, names
from experiments.page import cost_of_training
from experiments.result_files import RESULTS, read_experiment, write_fold
from experiments.runs import rescore, run_fold, run_folds
from experiments.scores import false_positive_ml, largest_component
from tests.support import REPOSITORY
from workflows.messages.errors import ConfigurationError, DatasetError
from workflows.settings.bundle_files import config_files
from workflows.settings.overrides import refuse_unknown


def keys_of(name: str) -> set[str]:
    return set(json.loads((REPOSITORY / "bundle" / "configs" / f"{name}.json").read_text()))


# ---------------------------------------------------------------------------------------------------------------------
# What is committed


def test_the_14_cases_in_four_folds_are_the_shuffle_that_their_seed_gives():
    committed = json.loads(FOLDS.read_text())
    cases = sorted(case for fold in committed["folds"] for case in fold)
    assert len(set(cases)) == 14
    random.Random(committed["seed"]).shuffle(cases)
    assert committed["folds"] == [sorted(cases[fold::4]) for fold in range(4)]


def test_every_experiment_overrides_settings_that_there_are():
    for name in names():
        experiment = load_experiment(name)
        assert experiment.change.endswith("."), name
        refuse_unknown(experiment.train, keys_of("train"))
        refuse_unknown(experiment.evaluate, keys_of("inference"))


def parsed(name: str, experiment: Any) -> Any:
    """What an experiment's configuration gives for a name."""
    from monai.bundle import ConfigParser

    parser = ConfigParser(ConfigParser.load_config_files(config_files("train", experiment.config)))
    for changed, value in experiment.train.items():
        parser[changed] = value
    return ConfigParser({n: parser[n] for n in ("input", "in_channels", "network_def")}).get_parsed_content(name)


def network_of(experiment: Any) -> torch.nn.Module:
    network: torch.nn.Module = parsed("network_def", experiment)
    return network


def test_the_baseline_has_half_a_million_parameters():
    network = network_of(load_experiment("plain"))
    assert sum(weights.numel() for weights in network.parameters()) == pytest.approx(0.5e6, rel=0.1)
    assert any(module.__class__.__name__ == "InstanceNorm2d" and module.affine for module in network.modules())


def test_every_experiment_has_a_network_for_its_slices():
    for experiment in map(load_experiment, names()):
        if experiment.command:
            continue
        with torch.no_grad():
            network = network_of(experiment).eval()
            scores = network(torch.zeros(1, parsed("in_channels", experiment), 64, 64))
        assert scores.shape == (1, 4, 64, 64), experiment.name


def test_what_differs_in_its_network_is_trained_anew(small_experiments: Path):
    write_experiment(small_experiments, "flips", change="Flips.", based_on="plain", weights_of="plain")
    write_experiment(small_experiments, "residual", change="Residual.", based_on="flips", config=["residual_unet"])
    residual = load_experiment("residual")
    assert (residual.config, residual.weights_of) == (["residual_unet"], None)


def test_wide_is_the_baselines_network_with_twice_the_features():
    networks = [network_of(load_experiment(name)) for name in ("plain", "wide")]
    first = [next(network.parameters()).shape[0] for network in networks]
    assert type(networks[0]) is type(networks[1]) and first == [16, 32]


def test_figures_that_are_committed_belong_to_an_experiment_and_to_the_cases_of_their_fold():
    folds = json.loads(FOLDS.read_text())["folds"]
    for file in RESULTS.rglob("*.json"):
        for fold, figures in json.loads(file.read_text()).items():
            assert (file.stem, fold) == (figures["experiment"], str(figures["fold"]))
            assert figures["experiment"] in names()
            assert sorted(figures["cases"]) == folds[figures["fold"]]


# ---------------------------------------------------------------------------------------------------------------------
# Merging


@pytest.fixture
def small_experiments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for experiments, `plain` among them."""
    folder = tmp_path / "overlays"
    folder.mkdir()
    monkeypatch.setattr("experiments.overlay.OVERLAYS", folder)
    monkeypatch.setattr("experiments.folds.FOLDS", folder.with_name("folds.json"))
    write_experiment(folder, "plain", change="Plain.", train={"max_epochs": 3, "input#size_px": 32})
    return folder


def write_experiment(folder: Path, name: str, **content: Any) -> None:
    (folder / f"{name}.json").write_text(json.dumps(content))


def test_an_experiment_has_the_settings_of_what_it_is_based_on_but_for_its_own(small_experiments: Path):
    write_experiment(small_experiments, "longer", change="Longer.", based_on="plain", train={"max_epochs": 5})
    write_experiment(small_experiments, "flips", change="Flips.", based_on="longer", evaluate={"test_time_flips": True})
    longer, flips = load_experiment("longer"), load_experiment("flips")
    assert longer.train == flips.train == {"max_epochs": 5, "input#size_px": 32}
    assert (longer.evaluate, flips.evaluate) == ({}, {"test_time_flips": True})


def test_what_differs_in_the_prediction_of_a_prediction_keeps_the_weights(small_experiments: Path):
    write_experiment(small_experiments, "flips", change="F.", based_on="plain", weights_of="plain", evaluate={"a": 1})
    write_experiment(small_experiments, "more", change="M.", based_on="flips", evaluate={"b": 2})
    more = load_experiment("more")
    assert (more.weights_of, more.evaluate) == ("plain", {"a": 1, "b": 2})


def test_an_unknown_experiment_lists_those_there_are(small_experiments: Path):
    with pytest.raises(ConfigurationError, match=r"^no experiment 'plan'; there are plain\.$"):
        load_experiment("plan")


def test_what_another_program_measures_is_not_run_and_its_command_named(small_experiments: Path, tmp_path: Path):
    write_experiment(small_experiments, "other", change="Other.", command="python other.py")
    with pytest.raises(ConfigurationError, match=r"^other is no configuration of ours; run: python other\.py$"):
        run_fold(load_experiment("other"), 0, tmp_path, tmp_path, tmp_path)


def test_minutes_on_a_gpu_stand_beside_those_of_the_cpu():
    training = {"cpu_seconds": 600, "wall_seconds": 150}
    assert cost_of_training({0: {"training": training, "device": "NVIDIA"}}) == "10 and 2.5 of GPU"
    assert cost_of_training({0: {"training": training}}) == "10"


def test_folds_finished_at_the_same_time_all_stand_in_the_file_of_their_experiment_in_order(tmp_path: Path):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda fold: write_fold({"experiment": "a", "fold": fold}, tmp_path), reversed(range(12))))
    assert list(json.loads((tmp_path / "a.json").read_text())) == [str(fold) for fold in range(12)]
    write_fold({"experiment": "a", "fold": 3, "epochs": 9}, tmp_path)
    written = read_experiment("a", tmp_path)
    assert [fold for fold, figures in written.items() if "epochs" in figures] == [3] and len(written) == 12


# ---------------------------------------------------------------------------------------------------------------------
# Scores


def test_false_positives_are_counted_on_slices_without_tumour_alone():
    reference, prediction = np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4, 3), np.uint8)
    reference[0, 0, 1] = 2
    prediction[:, :, 1] = 1  # a slice with tumour, however wrong
    prediction[:2, 0, 2] = 3
    assert false_positive_ml(prediction, reference, (1.0, 2.0, 5.0)) == pytest.approx(0.02)


def test_the_largest_tumour_alone_is_left_and_the_prediction_itself_unchanged():
    prediction = np.zeros((5, 5, 5), np.uint8)
    prediction[0, 0, :2], prediction[3:, 3:, 3:] = 1, 2
    prediction[4, 4, 4] = 3
    left = largest_component(prediction)
    assert np.bincount(left.ravel()).tolist() == [117, 0, 7, 1]
    assert np.count_nonzero(prediction) == 10


def cases_with(*dice: float) -> dict[str, dict[str, Any]]:
    return {
        f"C{number}": {region: {"dice": value} for region in ("WT", "TC", "ET")} for number, value in enumerate(dice)
    }


def test_a_change_that_helps_every_case_by_a_tenth_is_better():
    difference = paired_difference(cases_with(0.6, 0.8), cases_with(0.5, 0.7))
    assert difference == pytest.approx((0.1, 0.1, 0.1))
    assert verdict(difference) == "better"
    assert verdict(tuple(-value for value in difference)) == "worse"


def test_a_change_that_helps_one_case_and_harms_another_is_open():
    mean, low, high = paired_difference(cases_with(0.9, 0.5), cases_with(0.5, 0.7))
    assert (mean, low, high) == pytest.approx((0.1, -0.2, 0.4))
    assert verdict((mean, low, high)) == "open"


# ---------------------------------------------------------------------------------------------------------------------
# The whole way


HELD_OUT = "BraTS20_Training_001"
TINY = {"input#size_px": 64, "network_def#width": 4, "max_epochs": 1}


@pytest.fixture
def tiny_and_flips(small_experiments: Path) -> list[Any]:
    """Two experiments with the same weights, and folds of the generated patients, of which 0 holds `HELD_OUT`."""
    folds = [[HELD_OUT], ["BraTS20_Training_002", "BraTS20_Training_003"]]
    small_experiments.with_name("folds.json").write_text(json.dumps({"seed": 0, "folds": folds}))
    write_experiment(small_experiments, "tiny", change="Tiny.", config=["axial"], train=TINY)
    write_experiment(
        small_experiments, "flips", change="F.", based_on="tiny", weights_of="tiny", evaluate={"test_time_flips": True}
    )
    return [load_experiment(name) for name in ("tiny", "flips")]


@pytest.mark.slow
def test_a_fold_is_trained_scored_and_not_done_again(tiny_and_flips: list[Any], phantom_dir: Path, tmp_path: Path):
    tiny, flips = tiny_and_flips
    runs, results = tmp_path / "runs", tmp_path / "results"
    run_fold(tiny, 0, phantom_dir, runs, results)
    figures = read_experiment("tiny", results)[0]
    assert list(figures["cases"]) == [HELD_OUT]
    assert 0 <= figures["cases"][HELD_OUT]["WT"]["dice"] <= 1
    assert (figures["epochs"], figures["train"]) == (1, TINY)
    assert figures["training"]["cpu_seconds"] > 0

    trained = (runs / "tiny-fold0" / "model.pt").stat().st_mtime_ns
    run_fold(flips, 0, phantom_dir, runs, results)
    assert read_experiment("flips", results)[0]["weights_of"] == "tiny"
    assert (runs / "tiny-fold0" / "model.pt").stat().st_mtime_ns == trained
    record = json.loads((runs / "flips-fold0" / "evaluation" / HELD_OUT / f"{HELD_OUT}_seg.json").read_text())
    assert record["settings"]["test_time_flips"] is True


@pytest.mark.slow
def test_folds_run_at_the_same_time_share_weights_and_are_scored_later(
    tiny_and_flips: list[Any], phantom_dir: Path, tmp_path: Path
):
    runs, results = tmp_path / "runs", tmp_path / "results"
    run_folds(tiny_and_flips, [0], phantom_dir, runs, results, jobs=2, scored=False)
    found = {name: read_experiment(name, results)[0] for name in ("tiny", "flips")}
    assert [figures["cases"] for figures in found.values()] == [{}, {}]
    assert found["tiny"]["at_a_time"] == 2 and found["tiny"]["training"] == found["flips"]["training"]
    rescore(phantom_dir, runs, results)
    assert list(read_experiment("flips", results)[0]["cases"]) == [HELD_OUT]


def test_a_folder_without_a_fold_s_case_is_refused_by_name(small_experiments: Path, phantom_dir: Path):
    small_experiments.with_name("folds.json").write_text('{"seed": 0, "folds": [["BraTS20_Training_001"], ["P9"]]}')
    with pytest.raises(DatasetError, match=r": has no case P9, which folds\.json names\.$"):
        fold_split(0, phantom_dir)


def test_a_fold_is_held_out_and_all_others_are_trained_on(small_experiments: Path, phantom_dir: Path):
    folds = [["BraTS20_Training_001"], ["BraTS20_Training_002"], ["BraTS20_Training_003"]]
    small_experiments.with_name("folds.json").write_text(json.dumps({"seed": 0, "folds": folds}))
    split = fold_split(1, phantom_dir)
    assert [entry["case"] for entry in split[SECTION]] == folds[1]
    assert [entry["case"] for entry in split["training"]] == folds[0] + folds[2]
