"""What training reports and keeps, run by real engines on a network of twelve weights."""

from __future__ import annotations

import csv
import io
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events
from ignite.metrics import Average, Loss
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import ValidationHandler
from torch import nn

from workflows.monitoring.best_epoch import BestEpoch
from workflows.monitoring.training_log import TrainingLog
from workflows.scoring.pixel_sums import region_dice
from workflows.training.handlers import CaseScores, ClipGradients, SaveCheckpoint
from workflows.training_data.slice_dataset import prepare_batch

COLUMNS = (
    "epoch,lr,"
    "loss,accuracy,study_dice,study_mean_iou,precision,sensitivity,specificity,wt_dice,tc_dice,et_dice,"
    "val_loss,val_accuracy,val_study_dice,val_study_mean_iou,val_precision,val_sensitivity,val_specificity,"
    "val_wt_dice,val_tc_dice,val_et_dice"
)


def batches(count: int = 2) -> list[dict[str, torch.Tensor]]:
    """Batches of two slices of two patients."""
    generator = torch.Generator().manual_seed(0)
    return [
        {
            "image": torch.randn(2, 2, 4, 4, generator=generator),
            "label": torch.randint(0, 4, (2, 1, 4, 4), generator=generator).to(torch.uint8),
            "case": torch.tensor([0, 1]),
        }
        for _ in range(count)
    ]


def tiny_network() -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(2, 4, kernel_size=1)


def trainer_of(
    network: nn.Module, handlers: Sequence[Any] = (), max_epochs: int = 1, lr: float = 0.1
) -> SupervisedTrainer:
    return SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=max_epochs,
        train_data_loader=batches(),
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=lr),
        loss_function=nn.CrossEntropyLoss(),
        prepare_batch=prepare_batch,
        key_train_metric={"mean_region_dice": CaseScores()},
        additional_metrics={"loss": Average(output_transform=lambda output: output["loss"].detach())},
        train_handlers=list(handlers),
        decollate=False,
    )


def evaluator_of(network: nn.Module, data: Sequence[dict[str, torch.Tensor]], key: str = "val_mean_region_dice") -> Any:
    loss = Loss(nn.CrossEntropyLoss(), output_transform=lambda output: (output["pred"], output["label"]))
    return SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=data,
        network=network,
        prepare_batch=prepare_batch,
        key_val_metric={key: CaseScores(prefix="val_")},
        additional_metrics={"val_loss": loss},
        decollate=False,
    )


def run_with_log(path: Path, max_epochs: int, interval: int = 1) -> SupervisedTrainer:
    network = tiny_network()
    validator = evaluator_of(network, batches())
    trainer = trainer_of(network, [ValidationHandler(validator=validator, interval=interval)], max_epochs)
    TrainingLog(path, validator, trainer.optimizer).attach(trainer)
    trainer.run()
    return trainer


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text())))


# Figures per case


def test_region_dice_of_an_epoch_is_the_mean_over_cases_however_their_slices_are_mixed():
    generator = torch.Generator().manual_seed(1)
    called, true = torch.randint(0, 4, (2, 8, 1, 5, 5), generator=generator)
    case = torch.tensor([0, 1, 1, 0, 1, 0, 1, 1])
    logits = 50.0 * nn.functional.one_hot(called[:, 0], 4).movedim(-1, 1)
    data = [
        {"image": logits[rows], "label": true[rows].to(torch.uint8), "case": case[rows]}
        for rows in (slice(0, 3), slice(3, 7), slice(7, 8))
    ]
    evaluator = evaluator_of(nn.Identity(), data)
    evaluator.run()
    by_case = [region_dice(called[case == n].reshape(1, -1), true[case == n].reshape(1, -1)) for n in (0, 1)]
    for region in ("WT", "TC", "ET"):
        expected = (by_case[0][region] + by_case[1][region]) / 2
        assert evaluator.state.metrics[f"val_{region.lower()}_dice"] == pytest.approx(expected, abs=1e-12)
    assert evaluator.state.metrics["val_accuracy"] == pytest.approx((called == true).float().mean().item())
    assert evaluator.state.best_metric == evaluator.state.metrics["val_mean_region_dice"]


def test_figures_of_an_epoch_hold_nothing_of_the_epoch_before():
    evaluator = evaluator_of(tiny_network(), batches())
    evaluator.run()
    first = dict(evaluator.state.metrics)
    evaluator.run(global_epoch=2)
    assert evaluator.state.metrics == pytest.approx(first)


def test_a_key_metric_of_an_unknown_name_is_refused_with_the_names_there_are():
    evaluator = evaluator_of(tiny_network(), batches(), key="val_dice")
    with pytest.raises(ValueError, match=r"no figure is called 'val_dice'; there are .*val_mean_region_dice"):
        evaluator.run()


# training.log


def test_the_log_has_its_columns_in_this_order_and_one_row_per_epoch(tmp_path: Path):
    run_with_log(tmp_path / "run" / "training.log", max_epochs=3)
    lines = (tmp_path / "run" / "training.log").read_text().splitlines()
    assert lines[0] == COLUMNS
    assert [line.split(",")[0] for line in lines[1:]] == ["1", "2", "3"]
    assert all("" not in line.split(",") for line in lines)


def test_the_log_holds_the_figures_of_its_epoch_and_the_learning_rate_that_made_them(tmp_path: Path):
    trainer = run_with_log(tmp_path / "training.log", max_epochs=2)
    last = rows_of(tmp_path / "training.log")[-1]
    assert float(last["lr"]) == 0.1 == trainer.state.metrics["lr"]
    assert float(last["loss"]) == trainer.state.metrics["loss"]
    assert float(last["et_dice"]) == trainer.state.metrics["et_dice"]


def test_training_and_validation_figures_stand_in_their_own_columns(tmp_path: Path):
    run_with_log(tmp_path / "training.log", max_epochs=1)
    (row,) = rows_of(tmp_path / "training.log")
    network = tiny_network()
    trainer_of(network).run()
    validator = evaluator_of(network, batches())
    validator.run()
    assert float(row["val_loss"]) == pytest.approx(validator.state.metrics["val_loss"])
    assert float(row["val_wt_dice"]) == pytest.approx(validator.state.metrics["val_wt_dice"])
    assert row["loss"] != row["val_loss"]


def test_epochs_without_validation_leave_its_columns_empty(tmp_path: Path):
    run_with_log(tmp_path / "training.log", max_epochs=3, interval=2)
    rows = rows_of(tmp_path / "training.log")
    assert [row["val_loss"] != "" for row in rows] == [False, True, False]
    assert [row["val_et_dice"] != "" for row in rows] == [False, True, False]
    assert all(row["loss"] for row in rows)


def test_every_epoch_is_said_in_one_plain_line_with_the_time_left(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO, logger="workflows.monitoring.training_log"):
        run_with_log(tmp_path / "training.log", max_epochs=2)
    lines = [record.getMessage() for record in caplog.records if record.name == "workflows.monitoring.training_log"]
    row = rows_of(tmp_path / "training.log")[0]
    assert len(lines) == 2
    assert lines[0].startswith(
        f"epoch 1/2: loss {float(row['loss']):.3f}, val_loss {float(row['val_loss']):.3f}, val_wt"
    )
    assert lines[1].endswith("s per epoch, 0 s left")


# Checkpoints


class Epochs(nn.Module):
    """A network whose one weight is the number of the epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))


def run_scored(figures: Sequence[float], *handlers: BestEpoch | SaveCheckpoint, network: nn.Module) -> Engine:
    """An engine whose epochs end with these figures."""
    engine = Engine(lambda engine, batch: None)

    @engine.on(Events.EPOCH_COMPLETED)
    def score(engine: Engine) -> None:
        network.weight.data.fill_(engine.state.epoch)
        engine.state.metrics["figure"] = figures[engine.state.epoch - 1]

    for handler in handlers:
        handler.attach(engine)
    engine.run([0], max_epochs=len(figures))
    return engine


@pytest.mark.parametrize(
    ("figures", "lower_is_better", "kept"),
    [
        ([0.2, 0.8, 0.5], False, 2),
        ([0.2, 0.8, 0.5], True, 1),
        ([0.9, 0.3, 0.4], True, 2),
        ([0.5, 0.5, 0.1], False, 1),
        ([-3.0, -2.0, -1.0], False, 3),
        ([math.nan, 0.2, math.nan, 0.1], False, 2),
    ],
)
def test_the_weights_of_the_best_epoch_are_kept(tmp_path: Path, figures: list[float], lower_is_better: bool, kept: int):
    network = Epochs()
    best = BestEpoch("figure", lower_is_better)
    run_scored(figures, best, SaveCheckpoint(tmp_path / "model.pt", network, best), network=network)
    assert torch.load(tmp_path / "model.pt", weights_only=True) == {"weight": torch.tensor([float(kept)])}
    assert [file.name for file in tmp_path.iterdir()] == ["model.pt"]


def test_without_the_file_the_next_epoch_is_the_best_there_is(tmp_path: Path):
    network, best, file = Epochs(), BestEpoch("figure"), tmp_path / "model.pt"
    best.load_state_dict({"epoch": 7, "score": 0.9})
    run_scored([0.1, 0.3, 0.2], best, SaveCheckpoint(file, network, best), network=network)
    assert best.state_dict() == {"epoch": 2, "score": 0.3}
    assert torch.load(file, weights_only=True)["weight"] == 2


def test_without_a_figure_every_epoch_is_saved(tmp_path: Path):
    network, times = Epochs(), []
    engine = Engine(lambda engine, batch: None)
    SaveCheckpoint(tmp_path / "last.pt", network).attach(engine)
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: times.append((tmp_path / "last.pt").stat().st_mtime_ns))
    engine.add_event_handler(Events.EPOCH_STARTED, lambda engine: network.weight.data.fill_(engine.state.epoch))
    engine.run([0], max_epochs=3)
    assert len(set(times)) == 3
    assert torch.load(tmp_path / "last.pt", weights_only=True)["weight"] == 3


class Unwritable(nn.Module):
    """A network whose state `torch.save` cannot write."""

    def state_dict(self) -> dict[str, Any]:  # type: ignore[override]
        return {"weights": torch.zeros(100), "hook": lambda: None}


def test_a_save_that_fails_leaves_the_checkpoint_before(tmp_path: Path):
    network, file = Epochs(), tmp_path / "last.pt"
    run_scored([0.1], SaveCheckpoint(file, network), network=network)
    before = file.read_bytes()
    with pytest.raises(Exception, match=r"pickle|local object"):
        run_scored([0.1], SaveCheckpoint(file, Unwritable()), network=network)
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


# Gradients


def gradient_norm(network: nn.Module) -> float:
    return torch.cat([p.grad.flatten() for p in network.parameters()]).norm().item()


def test_gradients_above_the_limit_are_shortened_to_it_and_keep_their_direction():
    free, limited = tiny_network(), tiny_network()
    trainer_of(free, lr=0.0).run()
    trainer_of(limited, [ClipGradients(0.01)], lr=0.0).run()
    assert gradient_norm(free) > 0.02
    assert gradient_norm(limited) == pytest.approx(0.01, rel=1e-3)
    scale = gradient_norm(limited) / gradient_norm(free)
    torch.testing.assert_close(limited.weight.grad, free.weight.grad * scale)


def test_the_step_is_taken_with_the_shortened_gradients():
    network, before = tiny_network(), tiny_network()
    trainer = trainer_of(network, [ClipGradients(0.01)], lr=1.0)
    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=1), lambda engine: engine.terminate())
    trainer.run()
    changes = [(a - b).flatten() for a, b in zip(network.parameters(), before.parameters(), strict=True)]
    assert torch.cat(changes).norm().item() == pytest.approx(0.01, rel=1e-3)


def test_gradients_below_the_limit_are_left_as_they_are():
    free, limited = tiny_network(), tiny_network()
    trainer_of(free, lr=0.0).run()
    trainer_of(limited, [ClipGradients(100.0)], lr=0.0).run()
    assert torch.equal(limited.weight.grad, free.weight.grad)
