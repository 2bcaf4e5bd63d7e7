"""MONAI's tracking by MLflow: a run's figures and settings come back from its database, and nothing lies elsewhere."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from monai.bundle import ConfigWorkflow

from tests.support import REPOSITORY, TINY_SETTINGS, Run, Started, listing
from workflows.messages.errors import ConfigurationError, root_cause
from workflows.settings.overrides import monai_options, refuse_misspelt, tracking_settings

Python = Callable[..., Started]
TRAIN = REPOSITORY / "bundle" / "configs" / "train.json"
TINY = [f"--{name}={value}" for name, value in {**TINY_SETTINGS, "slices_per_step": 64, "max_epochs": 2}.items()]
LISTENING = """
import atexit, os, runpy, sys
import requests

for name in list(os.environ):
    if not name.startswith(("PATH", "PYTHONPATH", "HOME", "TMPDIR", "LANG", "LD_", "MLFLOW_DISABLE", "TEST_NO_TRACK")):
        del os.environ[name]  # with one of many, of test programs and of CI, MLflow stays silent by itself
if os.environ.pop("TEST_NO_TRACK", ""):
    os.environ["DO_NOT_TRACK"] = "true"
requests.get = requests.post = requests.Session.request = lambda *arguments, **options: print("SENT", flush=True)

def tell():
    from mlflow.telemetry.utils import is_telemetry_disabled

    print("SILENT" if is_telemetry_disabled() else "OPEN")

atexit.register(tell)
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""
"""A program that runs a module, prints a line instead of each message to the Internet, and says at its end whether
MLflow may send any."""


@pytest.fixture(scope="module")
def mlflow() -> Any:
    return pytest.importorskip("mlflow", reason="MLflow is not installed: pip install -e '.[mlflow]'")


def tracked_runs(mlflow: Any, database: Path, experiment: str = "monai_experiment") -> tuple[Any, list[Any]]:
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{database}")
    return client, list(client.search_runs([client.get_experiment_by_name(experiment).experiment_id]))


def log_rows(run: Path) -> list[dict[str, str]]:
    with (run / "training.log").open() as log:
        return list(csv.DictReader(log))


@pytest.fixture(scope="module")
def tracked(mlflow: Any, phantom_dir: Path, tmp_path_factory: pytest.TempPathFactory, python: Python) -> Run:
    """Two epochs by the command, tracked."""
    folder = tmp_path_factory.mktemp("tracked")
    before = listing(phantom_dir)
    named = ("--dataset-dir", phantom_dir, "--out", "run", "--tracking", "mlflow")
    ended = python("-m", "workflows", "train", *named, *TINY, cwd=folder)
    assert ended.status == 0, ended.stderr
    return Run(phantom_dir, folder / "run", ended.stdout + ended.stderr, before)


def test_the_figures_of_every_epoch_are_those_of_the_training_log(mlflow: Any, tracked: Run):
    client, runs = tracked_runs(mlflow, tracked.folder / "mlruns.db")
    (run,) = runs
    assert (run.info.run_name, run.info.status) == ("run", "FINISHED")
    rows = log_rows(tracked.folder)
    assert [row["epoch"] for row in rows] == ["1", "2"]
    for figure in ("loss", "val_loss", "val_wt_dice", "lr"):
        history = client.get_metric_history(run.info.run_id, figure)
        assert {point.step: point.value for point in history} == {
            int(row["epoch"]): pytest.approx(float(row[figure])) for row in rows
        }, figure
        assert len(history) == 2, figure


def test_the_loss_of_every_tenth_step_is_kept(mlflow: Any, tracked: Run):
    client, (run,) = tracked_runs(mlflow, tracked.folder / "mlruns.db")
    steps = [point.step for point in client.get_metric_history(run.info.run_id, "train_loss")]
    assert steps and steps == list(range(1, steps[-1] + 1, 10))


def test_the_settings_are_parameters_and_the_whole_configuration_is_kept(mlflow: Any, tracked: Run):
    _, (run,) = tracked_runs(mlflow, tracked.folder / "mlruns.db")
    parameters = run.data.params
    assert (parameters["max_epochs"], parameters["input.size_px"], parameters["network_def.width"]) == ("2", "64", "4")
    (kept,) = (tracked.folder / "mlruns").rglob("config.json")
    configuration = (tracked.folder / "config.json").read_text()
    assert kept.read_text() == configuration
    assert json.loads(configuration)["max_epochs"] == 2


def test_nothing_is_written_beside_the_run_or_into_the_data_or_the_bundle(tracked: Run):
    assert [path.name for path in tracked.folder.parent.iterdir()] == ["run"]
    assert listing(tracked.data) == tracked.data_before
    assert not (REPOSITORY / "bundle" / "eval").exists()
    assert not list(tracked.folder.glob("config_*.json"))


def test_a_continued_run_is_tracked_on_without_saying_so_and_not_twice(mlflow: Any, tracked: Run, python: Python):
    """One that ended is tracked under its name again; MLflow's runs are closed for good."""
    more = ("--tracking", "mlflow")
    ended = python(*("-m", "workflows", "train", "--resume", "--out", "run", *more), cwd=tracked.folder.parent)
    assert ended.status == 0, ended.stderr
    assert "changed since" not in ended.stdout + ended.stderr
    handlers = json.loads((tracked.folder / "config.json").read_text())["train"]["handlers"]
    assert [handler["_target_"] for handler in handlers].count("MLFlowHandler") == 1


def test_monais_own_command_tracks_too_under_the_names_given(
    mlflow: Any, phantom_dir: Path, tmp_path: Path, python: Python
):
    named = ("--dataset_dir", phantom_dir, "--run_dir", tmp_path / "run", "--tracking", "mlflow")
    more = ("--experiment_name", "phantoms", "--run_name", "first", "--val_interval", 2)
    command = ("-m", "monai.bundle", "run", "training", "--config_file", TRAIN)
    ended = python(*command, *named, *more, *TINY, cwd=tmp_path)
    assert ended.status == 0, ended.stderr
    client, (run,) = tracked_runs(mlflow, tmp_path / "run" / "mlruns.db", "phantoms")
    assert run.info.run_name == "first"
    assert [point.step for point in client.get_metric_history(run.info.run_id, "loss")] == [1, 2]
    assert [point.step for point in client.get_metric_history(run.info.run_id, "val_loss")] == [2]
    assert [path.name for path in tmp_path.iterdir()] == ["run"] and not (REPOSITORY / "bundle" / "eval").exists()


def test_a_prediction_is_tracked_in_its_output_folder(mlflow: Any, tracked: Run, tmp_path: Path, python: Python):
    patient = tracked.data / "BraTS20_Training_001"
    named = ("predict", patient, "--out", "out", "--checkpoint", tracked.checkpoint, "--no-report", "--device", "cpu")
    ended = python("-m", "workflows", *named, "--tracking", "mlflow", cwd=tmp_path)
    assert ended.status == 0, ended.stderr
    _, (run,) = tracked_runs(mlflow, tmp_path / "out" / "mlruns.db")
    assert run.info.status == "FINISHED"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


OURS = ("workflows", "train", "--out", "run")
MONAIS = ("monai.bundle", "run", "training", "--config_file", TRAIN, "--run_dir", "run")


@pytest.mark.parametrize(
    ("program", "environment", "sent"),
    [
        (OURS, {}, False),
        (MONAIS, {}, False),
        (OURS, {"MLFLOW_DISABLE_TELEMETRY": "false"}, True),
        (OURS, {"MLFLOW_DISABLE_TELEMETRY": "false", "TEST_NO_TRACK": "yes"}, False),
    ],
    ids=["brats-unet", "monai.bundle", "allowed", "allowed-to-no-program"],
)
def test_mlflow_sends_nothing_to_its_makers_unless_the_user_allows_it(
    phantom_dir: Path,
    tmp_path: Path,
    python: Python,
    program: tuple[object, ...],
    environment: dict[str, str],
    sent: bool,
):
    pytest.importorskip("mlflow", reason="MLflow is not installed: pip install -e '.[mlflow]'")
    (tmp_path / "listening.py").write_text(LISTENING)
    named = ("--dataset_dir", phantom_dir, "--tracking", "mlflow", *TINY[:-1], "--max_epochs", 1)
    ended = python("listening.py", *program, *named, cwd=tmp_path, **environment)
    assert ended.status == 0, ended.stderr
    assert ended.stdout.splitlines()[-1] == (
        "OPEN" if sent else "SILENT"
    )  # the last message may come too late to be seen
    assert sent or "SENT" not in ended.stdout


def test_monais_own_record_of_the_configuration_lies_in_the_run_folder_if_wanted(phantom_dir: Path, tmp_path: Path):
    settings = {"dataset_dir": str(phantom_dir), "tracking": "mlflow", "save_execute_config": True}
    ConfigWorkflow(str(TRAIN), **settings, run_dir=str(tmp_path / "run"))
    (record,) = tmp_path.rglob("*.json")
    assert record.parent == tmp_path / "run" and record.name.startswith("config_")
    before = listing(phantom_dir)
    with pytest.raises(RuntimeError) as refusal:
        ConfigWorkflow(str(TRAIN), **settings, run_dir=str(phantom_dir / "run"))
    assert "lies in the data folder" in str(root_cause(refusal.value))
    assert listing(phantom_dir) == before


@pytest.mark.slow
def test_two_processes_are_tracked_as_one_run(mlflow: Any, phantom_dir: Path, tmp_path: Path, python: Python):
    named = ("--dataset-dir", phantom_dir, "--all-cases", "--out", "run", "--config", "multi_gpu_train")
    ranks = ("-m", "torch.distributed.run", "--nproc_per_node=2", "-m", "workflows", "train")
    ended = python(*ranks, *named, *TINY, "--tracking", "mlflow", cwd=tmp_path)
    assert ended.status == 0, ended.stderr
    client, (run,) = tracked_runs(mlflow, tmp_path / "run" / "mlruns.db")
    points = [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, "loss")]
    assert points == [(int(row["epoch"]), pytest.approx(float(row["loss"]))) for row in log_rows(tmp_path / "run")]


# ---------------------------------------------------------------------------------------------------------------------
# What may be said


def test_a_misspelt_setting_is_refused_beside_tracking_by_both_commands(tmp_path: Path, python: Python):
    more = ("--tracking", "mlflow", "--run_nam", "first")
    for command in (
        ("-m", "workflows", "train"),
        ("-m", "monai.bundle", "run", "training", "--config_file", TRAIN),
    ):
        ended = python(*command, *more, cwd=tmp_path)
        assert ended.status == 1
        assert ended.last_line == "error: no setting is called 'run_nam'; did you mean run_name?"
    assert not list(tmp_path.iterdir())


def test_what_mlflow_is_told_is_unknown_without_tracking():
    refuse_misspelt({"tracking": "mlflow", "experiment_name": "phantoms"}, ["max_epochs"])
    with pytest.raises(ConfigurationError, match=r"^no setting is called 'experiment_name'; "):
        refuse_misspelt({"experiment_name": "phantoms"}, ["max_epochs"])


def test_tracking_by_an_unknown_name_says_what_there_is():
    with pytest.raises(
        ConfigurationError, match=r"^tracking is 'mlfow'; give mlflow, or a JSON file of MONAI's tracking"
    ):
        tracking_settings("mlfow")


def test_without_mlflow_one_line_says_how_to_install_it(tmp_path: Path, python: Python):
    hiding = "import sys; sys.modules['mlflow'] = None\nfrom workflows.cli import main\nmain()"
    (tmp_path / "hiding.py").write_text(hiding)
    ended = python("hiding.py", "train", "--tracking", "mlflow", "--out", "run", cwd=tmp_path)
    assert ended.status == 1
    assert ended.last_line == "error: tracking needs MLflow, which is not installed: pip install -e '.[mlflow]'"
    assert not (tmp_path / "run").exists()


def test_monais_options_are_those_it_documents():
    assert monai_options() == {
        *("run_id", "init_id", "final_id", "meta_file", "logging_file", "tracking", "args_file"),
        *("workflow_type", "workflow_name", "properties_path"),
    }


@pytest.mark.parametrize("module", ["workflows", "monai.bundle"])
def test_monais_options_are_taken_by_both_commands(module: str, tmp_path: Path, python: Python):
    """What the files hold shows in what happens: a version, a form of log line, a setting, steps."""
    steps = {name: [f"$print('step {name}')"] for name in ("prepare", "training", "tidy")}
    steps["+imports"] = ["$import workflows.settings.overrides as overrides"]
    steps["training"] += ["$overrides.check_settings()", "$print('version', @_meta_#version)", "$print(@max_epochs)"]
    steps["training"] += ["$__import__('logging').getLogger('workflows').info('logged')"]
    files = {
        "mine.json": steps,
        "metadata.json": {"version": "9.9"},
        "arguments.json": {"max_epochs": 77},
        "properties.json": {"train": {}, "meta": {}},
        "tracking.json": {
            "handlers_id": {"trainer": {"id": "train#trainer", "handlers": "train#handlers"}},
            "configs": {
                "my_server": "sqlite:///none.db",
                "trainer": {"_target_": "MLFlowHandler", "tracking_uri": "@my_server"},
            },
        },
    }
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    own = TRAIN.with_name("logging.conf").read_text()
    (tmp_path / "logging.conf").write_text(own.replace("format=", "format=MINE "))
    command: tuple[object, ...] = ("train", "--config", "mine.json")
    if module == "monai.bundle":
        command = ("run", "training", "--config_file", f"['{TRAIN}','mine.json']")
    options = (
        "--init_id",
        "prepare",
        "--final_id",
        "tidy",
        "--meta_file",
        "metadata.json",
        "--args_file",
        "arguments.json",
    )
    more = ("--logging_file", "logging.conf", "--tracking", "tracking.json", "--properties_path", "properties.json")
    last = ("--workflow_type", "training", "--workflow_name", "monai.bundle.workflows.ConfigWorkflow")
    ended = python("-m", module, *command, *options, *more, *last, cwd=tmp_path)
    assert ended.status == 0, ended.stderr
    said = [line for line in ended.stdout.splitlines() if line.startswith(("step", "version", "77"))]
    assert any(line.startswith("MINE ") and line.endswith(" logged") for line in ended.stdout.splitlines())
    assert said == ["step prepare", "step training", "version 9.9", "77", "step tidy"]
