"""What only a GPU can show: the same results there, a state that continues, and steps for which nothing waits."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from monai.bundle import ConfigWorkflow
from torch import Tensor, nn

from tests.support import TINY_SETTINGS, Run
from transforms.inputs import AxialWindow, BrainCube
from transforms.pipelines import training_preprocessing
from workflows.messages.errors import ConfigurationError
from workflows.prediction.predict import predict
from workflows.scoring.pixel_sums import dice
from workflows.settings.bundle_files import config_files
from workflows.training.cuda_graphs import Replayed
from workflows.training.train import train
from workflows.training_data.slice_dataset import SliceDataset

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU that PyTorch can use")

ON_GPU = {**TINY_SETTINGS, "device": "cuda:0", "tumour_free_share": None}


def trainer_of(run: Run, folder: Path, variants: tuple[str, ...] = (), **changed: Any) -> Any:
    """The trainer of `train.json` on the GPU, not run."""
    (folder / "run").mkdir(parents=True, exist_ok=True)
    paths = {"dataset_dir": str(run.data), "split_file": str(run.folder / "split.json"), "run_dir": str(folder / "run")}
    settings = {**ON_GPU, **paths, **changed}
    if "seed" in variants:
        settings = {**settings, "input": {**settings["input"], "normalisation": "window_maximum"}}
    workflow = ConfigWorkflow(config_files("train", variants), workflow_type="train", **settings)
    workflow.initialize()
    workflow.parser.get_parsed_content("early_stop").set_trainer(workflow.parser.get_parsed_content("train#trainer"))
    if ema := workflow.parser.get_parsed_content("ema"):
        ema.attach(workflow.parser.get_parsed_content("train#trainer"))
    return workflow.parser.get_parsed_content("train#trainer")


@pytest.mark.parametrize("in_cube", [False, True])
def test_slices_gathered_on_the_gpu_are_those_gathered_on_the_cpu(phantom_cases: list[dict[str, Any]], in_cube: bool):
    values = {0: 0, 1: 1, 2: 2, 4: 3}
    input = BrainCube(size_px=64) if in_cube else AxialWindow(size_px=64)
    chain = training_preprocessing(input, values)
    here, there = (SliceDataset(phantom_cases, chain, input, device=device) for device in ("cpu", "cuda:0"))
    assert here.slices_per_case == there.slices_per_case
    indices = list(range(0, len(here), 17))
    batch, on_gpu = here.__getitems__(indices), there.__getitems__(indices)
    assert on_gpu["image"].is_cuda and on_gpu["label"].is_cuda
    for key, values_here in batch.items():
        assert torch.equal(values_here, on_gpu[key].cpu()), key


@pytest.mark.parametrize("variant", [None, "seed"])
def test_no_step_waits_for_the_gpu(tiny_run: Run, tmp_path: Path, variant: str | None):
    trainer = trainer_of(tiny_run, tmp_path, (variant,) if variant else (), max_epochs=4)
    watched = []

    def forbid(engine: Engine) -> None:
        step = engine.state.iteration + 1
        if step > 1 and step % 10:  # the first builds the optimiser's state and records, every tenth writes its loss
            torch.cuda.set_sync_debug_mode("error")
            watched.append(step)

    trainer.add_event_handler(Events.GET_BATCH_STARTED, forbid)
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: torch.cuda.set_sync_debug_mode("default"))
    try:
        trainer.run()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(watched) >= 3
    assert trainer.state.output["pred"].dtype is torch.bfloat16 and not trainer.scaler.is_enabled()


def test_training_on_the_gpu_leaves_weights_for_a_cpu_and_its_figures(tiny_run: Run, tmp_path: Path):
    run = tmp_path / "run"
    overrides = {"dataset_dir": str(tiny_run.data), "run_dir": str(run), "max_epochs": 3, **ON_GPU}
    train([], overrides)
    rows = (run / "training.log").read_text().splitlines()
    assert len(rows) == 4
    losses = [float(row.split(",")[2]) for row in rows[1:]]
    assert losses[-1] < losses[0]
    weights = torch.load(run / "model.pt", map_location="cpu", weights_only=True)
    assert all(torch.isfinite(value).all() for value in weights.values())


def test_a_scaler_of_float16_continues_with_the_run(tiny_run: Run, tmp_path: Path):
    """Stopped after one epoch of two and continued: the scaler's factor and its count of good steps are kept."""
    half = {"train#trainer#amp_kwargs#dtype": "$torch.float16", "max_epochs": 2}
    first = trainer_of(tiny_run, tmp_path, **half)
    first.add_event_handler(Events.EPOCH_COMPLETED(once=1), lambda engine: engine.terminate())
    first.run()
    kept = torch.load(tmp_path / "run" / "last.pt", map_location="cpu", weights_only=True)["scaler"]
    assert kept == first.scaler.state_dict() and kept["_growth_tracker"] > 0
    second = trainer_of(tiny_run, tmp_path, **half, resume=True)
    found: dict[str, Any] = {}
    second.add_event_handler(Events.EPOCH_STARTED(once=2), lambda engine: found.update(engine.scaler.state_dict()))
    second.run()
    assert found == kept and second.state.epoch == 2


def test_a_prediction_on_the_gpu_is_that_of_the_cpu_but_for_rounding(tiny_run: Run, tmp_path: Path):
    patient = tiny_run.data / "BraTS20_Training_001"
    label_maps = []
    for device in ("cpu", "cuda:0"):
        out = tmp_path / device.replace(":", "")
        named = {"patient_dir": str(patient), "checkpoint": str(tiny_run.checkpoint), "output_dir": str(out)}
        predict([], {**named, "report": False, "largest_component_only": False, "device": device})
        label_maps.append(np.asarray(nib.load(out / patient.name / f"{patient.name}_seg.nii.gz").dataobj) > 0)
    ours, theirs = (torch.as_tensor(label_map) for label_map in label_maps)
    both = (ours & theirs).sum().double()
    assert float(dice(both, ours.sum().double(), theirs.sum().double())) > 0.97


def passes(module: nn.Module, batches: list[Tensor]) -> tuple[list[Tensor], dict[str, Tensor]]:
    """A module's answers to batches and the gradients of its weights, and its buffers at the end."""
    found = []
    for batch in batches:
        module.zero_grad()
        answer = module(batch)
        answer.square().mean().backward()
        found += [answer.detach().clone(), *(weight.grad.clone() for weight in module.parameters())]
    return found, dict(module.named_buffers())


def test_a_replayed_module_answers_and_learns_as_itself_and_other_batches_reach_it_as_they_are():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(2, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3)).cuda()
    same = copy.deepcopy(module)
    replayed, calls = Replayed(module), []
    module[3].register_forward_hook(lambda *_: calls.append(1))
    batches = [torch.randn(slices, 2, 32, 32, device="cuda") for slices in (4, 4, 3, 4, 4)]
    (ours, buffers), (theirs, expected) = passes(replayed, batches), passes(same, batches)
    assert len(calls) == 3 + 1 + 1  # to warm up, to record, and the odd batch; the others are replayed
    for value, of_same in zip(ours, theirs, strict=True):
        torch.testing.assert_close(value, of_same)
    for name, value in expected.items():
        torch.testing.assert_close(buffers[f"module.{name}"], value)
    with torch.no_grad():
        torch.testing.assert_close(replayed(batches[0]), same(batches[0]))


def test_a_recording_takes_the_weights_as_they_are_at_each_step_in_bfloat16_too():
    torch.manual_seed(0)
    module = nn.Conv2d(2, 4, 3).cuda()
    replayed, batch = Replayed(module), torch.randn(4, 2, 32, 32, device="cuda")
    for _ in range(4):
        with torch.autocast("cuda", torch.bfloat16):
            answer, expected = replayed(batch), module(batch)
        assert answer.dtype is torch.bfloat16
        torch.testing.assert_close(answer, expected)
        with torch.no_grad():
            module.weight.mul_(2)
    assert replayed.recorded


def test_a_replay_drops_out_anew_and_a_recording_draws_nothing():
    replayed, batch = Replayed(nn.Sequential(nn.Dropout(), nn.Conv2d(2, 4, 3)).cuda()), torch.ones(4, 2, 8, 8).cuda()
    torch.manual_seed(1)
    recorded, again = replayed(batch).clone(), replayed(batch).clone()
    torch.manual_seed(1)
    assert torch.equal(replayed(batch), recorded) and not torch.equal(recorded, again)


def test_gradients_that_add_up_are_those_of_the_module():
    module = nn.Conv2d(2, 4, 3).cuda()
    same, batch = copy.deepcopy(module), torch.randn(4, 2, 8, 8).cuda()
    for one in (Replayed(module), same):
        for _ in range(3):
            one.zero_grad()
            for _ in range(3):
                one(batch).square().mean().backward()
    torch.testing.assert_close(module.weight.grad, same.weight.grad)


def test_what_cannot_be_recorded_is_said_in_one_line():
    class Waiting(nn.Module):
        def forward(self, batch: Tensor) -> Tensor:
            return batch * float(batch.sum())

    waiting, batch = Replayed(Waiting()), torch.ones(2, 2, device="cuda", requires_grad=True)
    with pytest.raises(ConfigurationError, match=r"^Waiting cannot be recorded .*; train with --cuda_graphs False\.$"):
        waiting(batch)


def test_a_training_with_cuda_graphs_is_that_without_but_for_rounding(tiny_run: Run, tmp_path: Path):
    losses: dict[bool, list[Tensor]] = {True: [], False: []}
    for graphs, of_steps in losses.items():
        trainer = trainer_of(tiny_run, tmp_path / str(graphs), max_epochs=2, cuda_graphs=graphs)
        trainer.add_event_handler(
            Events.ITERATION_COMPLETED,
            lambda engine, kept=of_steps: kept.append(engine.state.output["loss"].detach().clone()),
        )
        trainer.run()
        assert isinstance(trainer.loss_function, Replayed) is graphs
        assert graphs is False or (trainer.inferer.replayed.recorded and trainer.loss_function.recorded)
    with_graphs, without = (torch.stack(losses[graphs]).cpu() for graphs in (True, False))
    assert with_graphs[-1] < with_graphs[0]
    torch.testing.assert_close(with_graphs, without, rtol=0.02, atol=0)
