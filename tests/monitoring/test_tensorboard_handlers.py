"""What TensorBoard shows of a run: read back from its event files, and served by a real TensorBoard."""

from __future__ import annotations

import io
import json
import logging
import re
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata
from torch.utils.tensorboard import SummaryWriter

from tests.support import Run
from transforms.inputs import AxialWindow
from transforms.pipelines import training_preprocessing
from workflows.monitoring.best_epoch import BestEpoch
from workflows.monitoring.tensorboard_handlers import (
    CASES_NAMED,
    CHARTS,
    FallenCases,
    RunDescription,
    hyperparameters,
    side_by_side,
    watched_slices,
)
from workflows.pictures.colours import CLASS_COLOURS
from workflows.training.train import datalist
from workflows.training_data.slice_dataset import SliceDataset

OPACITY = 0.6
SECONDS_TO_LOAD = 120
READ_EVERYTHING = {"images": 0, "tensors": 0}


def read(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder), size_guidance=READ_EVERYTHING).Reload()


@pytest.fixture(scope="module")
def events(tiny_run: Run) -> EventAccumulator:
    return read(tiny_run.folder)


def texts(events: EventAccumulator, tag: str) -> dict[int, str]:
    return {event.step: event.tensor_proto.string_val[0].decode() for event in events.Tensors(f"{tag}/text_summary")}


def validation_case(run: Run) -> dict[str, Any]:
    sections = datalist(run.data, ("flair", "t1ce"), str(run.folder / "split.json"), run.folder, seed=0)
    preprocess = training_preprocessing(AxialWindow(size_px=64), sections["label_values"])
    return preprocess(sections["validation"][0])


# ---------------------------------------------------------------------------------------------------------------------
# In the event files of a run


def test_every_watched_slice_has_one_tag_and_a_picture_of_every_epoch(events: EventAccumulator, tiny_run: Run):
    split = json.loads((tiny_run.folder / "split.json").read_text())
    case = split["validation"][0]["case"]
    tags = events.Tags()["images"]
    assert len(tags) == 4
    assert all(re.fullmatch(rf"validation_slices/{case}_\d+_of_75", tag) for tag in tags)
    assert {tag: [image.step for image in events.Images(tag)] for tag in tags} == {tag: [1, 2] for tag in tags}


def test_the_right_panel_is_the_scan_with_the_reference_of_that_slice_in_the_classes_colours(
    events: EventAccumulator, tiny_run: Run
):
    labels = validation_case(tiny_run)["label"]
    classes_seen = set()
    for tag in events.Tags()["images"]:
        position = int(tag.rpartition("_of_")[0].rpartition("_")[2]) - 1
        reference = labels[position, 0].numpy().T
        with Image.open(io.BytesIO(events.Images(tag)[-1].encoded_image_string)) as file:
            picture = np.asarray(file.convert("RGB"), float)
        assert picture.shape == (64, 3 * 64, 3)
        scan, right = picture[:, :64], picture[:, 128:]
        assert np.ptp(scan, axis=2).max() == 0  # grey
        for index, colour in CLASS_COLOURS.items():
            expected = (1 - OPACITY) * scan + OPACITY * np.array(colour)
            assert np.abs(right - expected)[reference == index].max(initial=0) <= 2
        assert np.array_equal(right[reference == 0], scan[reference == 0])
        classes_seen |= set(np.unique(reference))
    assert classes_seen == {0, 1, 2, 3}


def test_figures_speed_and_learning_rate_are_scalars_of_every_epoch(events: EventAccumulator):
    regions = [f"{prefix}{name}_dice" for prefix in ("", "val_") for name in ("wt", "tc", "et", "mean_region")]
    for tag in ("slices_per_second", "lr", "loss", "val_loss", *regions):
        assert [scalar.step for scalar in events.Scalars(tag)] == [1, 2], tag
    assert all(scalar.value > 0 for scalar in events.Scalars("slices_per_second"))


def test_every_chart_of_training_against_validation_names_scalars_that_exist(events: EventAccumulator):
    scalars = set(events.Tags()["scalars"])
    assert {f"{prefix}{name}" for names in CHARTS.values() for name in names for prefix in ("", "val_")} <= scalars
    assert "custom_scalars__config__" in events.Tags()["tensors"]


def test_the_graph_is_that_of_the_network(events: EventAccumulator):
    names = {node.name for node in events.Graph().node}
    assert any("PackedUNet" in name and "PixelUnshuffle" in name for name in names)
    assert any("BasicUNet" in name for name in names)


def test_the_settings_are_those_of_the_run_without_places_and_expressions(events: EventAccumulator, tiny_run: Run):
    (start,) = [
        metadata.parse_session_start_info_plugin_data(content)
        for tag, content in events.PluginTagToContent("hparams").items()
        if tag == metadata.SESSION_START_INFO_TAG
    ]
    settings = {name: value.number_value or value.string_value for name, value in start.hparams.items()}
    given = {
        name: settings[name] for name in ("input.size_px", "max_epochs", "network_def", "network_def.width", "loss")
    }
    assert given == {
        "input.size_px": 64,
        "max_epochs": 2,
        "network_def": "PackedUNet",
        "network_def.width": 4,
        "loss": "DiceCELoss",
    }
    assert settings["input.slice_range"] == "60, 135"
    assert not any(str(value).startswith(("$", "@")) or str(tiny_run.data) in str(value) for value in settings.values())
    assert metadata.SESSION_END_INFO_TAG in events.PluginTagToContent("hparams")


def test_the_pictures_colours_are_told_in_words_and_the_cases_that_fell_in_every_epoch(events: EventAccumulator):
    (legend,) = texts(events, "validation_slices").values()
    assert "scan, prediction, reference" in legend and "| oedema | #56B4E9 |" in legend
    fallen = texts(events, "cases_that_fell")
    assert list(fallen) == [1, 2]
    assert fallen[1].startswith("Epoch 1 is the best so far")


# ---------------------------------------------------------------------------------------------------------------------
# One by one


def stack(*tumour_pixels: int) -> dict[str, Any]:
    """A patient whose slices have so many pixels of tumour."""
    label = torch.zeros(len(tumour_pixels), 1, 4, 4, dtype=torch.uint8)
    for row, count in zip(label, tumour_pixels, strict=True):
        row.view(-1)[:count] = 2
    return {"image": torch.zeros(len(tumour_pixels), 1, 4, 4, dtype=torch.float16), "label": label}


def dataset_of(*patients: Sequence[int]) -> SliceDataset:
    data = [{"case": f"P{number}", "tumour": tumour} for number, tumour in enumerate(patients)]
    return SliceDataset(data, lambda patient: stack(*patient["tumour"]))


def test_of_many_patients_the_slice_with_most_tumour_is_watched():
    dataset = dataset_of([0, 3, 1], [9, 0, 0], [0, 0, 0, 5], [1, 2])
    assert watched_slices(dataset, 2) == [(0, 1), (2, 3)]
    assert watched_slices(dataset, 4) == [(0, 1), (1, 0), (2, 3), (3, 1)]


def test_of_one_patient_every_part_of_the_stack_gives_a_slice():
    assert watched_slices(dataset_of([0, 3, 1, 0, 0, 7]), 2) == [(0, 1), (0, 5)]
    assert watched_slices(dataset_of([4, 2]), 5) == [(0, 0), (0, 1)]


def test_anterior_is_on_top_and_the_patients_left_on_the_right():
    scan, labels = np.ones((2, 3)), np.zeros((2, 3), int)
    labels[1, 0] = 1  # left and anterior: axes grow to the left and to posterior
    picture = side_by_side(scan, [labels])
    assert picture.shape == (3, 3, 2 * 2)
    coloured = np.argwhere(np.ptp(picture, axis=0) > 0)
    assert coloured.tolist() == [[0, 3]]  # top row, right column of the second panel


def fallen_texts(folder: Path, figures: Sequence[float], dice: Sequence[Sequence[float]], lower: bool = False) -> Any:
    """What `FallenCases` writes for epochs with these figures, and this Dice of each case in all regions."""
    names = [f"P{number}" for number in range(len(dice[0]))]
    engine = Engine(lambda engine, batch: None)
    engine.state.metrics, engine.state.metric_details, engine.state.key_metric_name = {}, {}, "key"
    with SummaryWriter(str(folder)) as writer:
        best = BestEpoch("figure", lower)
        for handler in (best, FallenCases(writer, names, best)):
            handler.attach(engine)
        for epoch, (figure, cases) in enumerate(zip(figures, dice, strict=True), start=1):
            engine.state.epoch = epoch
            engine.state.metrics["figure"] = figure
            engine.state.metric_details["key"] = torch.tensor(cases)[:, None].expand(-1, 3)
            engine.fire_event(Events.EPOCH_COMPLETED)
    return texts(read(folder), "cases_that_fell")


def test_cases_are_compared_with_the_best_epoch_the_worst_first(tmp_path: Path):
    dice = [[0.1, 0.1, 0.1], [0.8, 0.9, 0.7], [0.7, 0.4, 0.9]]
    shown = fallen_texts(tmp_path, [0.1, 0.8, 0.6], dice)
    assert shown[2].startswith("Epoch 2 is the best so far (figure 0.8000)")
    assert re.findall(r"^\| (P\d) \| (\S+) \|", shown[3], re.MULTILINE) == [("P1", "-0.500"), ("P0", "-0.100")]
    assert "| 0.900 | 0.400 |" in shown[3]


def test_by_a_loss_the_lowest_epoch_is_best_and_no_more_cases_are_named_than_fit(tmp_path: Path):
    shown = fallen_texts(tmp_path, [0.2, 0.9], [[0.9] * 9, [0.1] * 9], lower=True)
    assert shown[1].startswith("Epoch 1 is the best so far (figure 0.2000)")
    assert shown[2].count("-0.800") == CASES_NAMED
    assert fallen_texts(tmp_path / "none", [0.9, 0.2], [[0.1], [0.2]])[2].startswith("No case is worse than in epoch 1")


class Untraceable(torch.nn.Linear):
    """A network that cannot be traced."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if torch.jit.is_tracing():
            raise RuntimeError("cannot be traced")
        return super().forward(x)


def test_a_network_without_a_graph_is_said_in_one_line_and_trains_on(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with SummaryWriter(str(tmp_path)) as writer, caplog.at_level(logging.WARNING, logger="workflows"):
        engine = Engine(lambda engine, batch: None)
        RunDescription(writer, Untraceable(4, 4), AxialWindow(size_px=4), tmp_path).attach(engine)
        engine.run([0], max_epochs=1)
    assert caplog.messages == ["TensorBoard gets no graph of Untraceable: cannot be traced"]


def test_only_what_differs_between_runs_is_a_hyperparameter():
    configuration = {
        "_meta_": {"version": "1"},
        "imports": ["$import x"],
        "dataset_dir": "/data",
        "size_px": 96,
        "amp": "$f()",
        "soft_labels": True,
        "gradient_norm": None,
        "modalities": ["flair", "t1ce"],
        "train": {"handlers": []},
        "loss": {"_target_": "torch.nn.CrossEntropyLoss", "weight": "@weights", "label_smoothing": 0.1},
    }
    assert hyperparameters(configuration) == {
        "size_px": 96,
        "soft_labels": "true",
        "modalities": "flair, t1ce",
        "loss": "CrossEntropyLoss",
        "loss.label_smoothing": 0.1,
    }


# ---------------------------------------------------------------------------------------------------------------------
# Served


@pytest.fixture(scope="module")
def server(tiny_run: Run) -> Iterator[str]:
    """The address of a TensorBoard started as a person does it, on a free port."""
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(tiny_run.folder), "--port", "0"]
    with subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--load_fast", "false"], stderr=subprocess.PIPE, text=True
    ) as started:
        assert started.stderr is not None
        address = next((m[0] for line in started.stderr if (m := re.search(r"http://127\.0\.0\.1:\d+", line))), None)
        try:
            assert address, "TensorBoard ended without saying where it is"
            yield address
        finally:
            started.terminate()
            started.communicate()


def fetch(server: str, path: str, body: dict[str, Any] | None = None, **query: Any) -> Any:
    url = f"{server}/data/plugin/{path}?{urllib.parse.urlencode(query)}"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        content = answer.read()
        return json.loads(content) if "json" in answer.headers["Content-Type"] else content


def loaded(server: str, tag: str) -> Any:
    """The tags of the scalars once the files are read, which TensorBoard does after it has started."""
    end = time.monotonic() + SECONDS_TO_LOAD
    while time.monotonic() < end:
        tags = fetch(server, "scalars/tags")
        if tag in tags.get(".", {}):
            return tags
        time.sleep(0.5)
    raise AssertionError(f"TensorBoard does not show {tag}")


def test_a_real_tensorboard_serves_scalars_pictures_texts_graph_and_settings(server: str, events: EventAccumulator):
    loaded(server, "mean_region_dice")
    served = fetch(server, "scalars/scalars", run=".", tag="val_wt_dice")
    assert [(step, value) for _, step, value in served] == [
        (scalar.step, pytest.approx(scalar.value)) for scalar in events.Scalars("val_wt_dice")
    ]
    tag = events.Tags()["images"][0]
    assert fetch(server, "images/tags")["."].keys() == set(events.Tags()["images"])
    pictures = fetch(server, "images/images", run=".", tag=tag, sample=0)
    assert [picture["step"] for picture in pictures] == [1, 2]
    png = fetch(server, "images/individualImage", **dict(urllib.parse.parse_qsl(pictures[1]["query"])))
    assert png == events.Images(tag)[1].encoded_image_string
    assert {"cases_that_fell/text_summary", "validation_slices/text_summary"} <= set(fetch(server, "text/tags")["."])
    (legend,) = fetch(server, "text/text", run=".", tag="validation_slices/text_summary")
    assert "<td>necrotic core</td>" in legend["text"]
    assert fetch(server, "graphs/info")["."]["run_graph"]
    assert b"PixelUnshuffle" in fetch(server, "graphs/graph", run=".", conceptual="false")
    charts = fetch(server, "custom_scalars/layout")["category"]
    assert [category["title"] for category in charts] == list(CHARTS)
    experiment = fetch(server, "hparams/experiment", {"experimentName": ""})
    assert "network_def.width" in {info["name"] for info in experiment["hparamInfos"]}
