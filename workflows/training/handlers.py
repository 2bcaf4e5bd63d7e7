"""Handlers of training: figures per case, checkpoints, the learning rate, gradients."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from ignite.engine import Engine, Events
from monai.engines import IterationEvents
from monai.handlers import IgniteMetricHandler, LrScheduleHandler

from transforms.inputs import Input, shown_itself
from transforms.regions import background_outside_brain
from workflows.machine.ranks import is_first
from workflows.messages.errors import ConfigurationError
from workflows.monitoring.best_epoch import BestEpoch
from workflows.scoring.pixel_sums import CaseSums, case_dice, training_scores
from workflows.settings.weights import write_checkpoint
from workflows.training.losses import finest
from workflows.training_data.slice_dataset import WHOLE_STACK


class CaseScores(IgniteMetricHandler):
    """Every figure of `training_scores`, computed per case however its slices were mixed into batches.

    Attach it under the name of one of them, the key metric; all appear in `engine.state.metrics`, and the cases' Dice,
    (cases, regions), in `engine.state.metric_details` under that name.

    Args:
        prefix: of the names, e.g. "val_".
        brain_only: score what would be predicted if nothing outside the brain could be tumour.
        first_case: the number of this rank's case 0 among the cases of all ranks.
    """

    def __init__(
        self, prefix: str = "", brain_only: bool = False, input: Input = WHOLE_STACK, first_case: int = 0
    ) -> None:
        super().__init__(metric_fn=CaseSums(), save_details=False)
        self.prefix, self.brain_only, self.input = prefix, brain_only, input
        self.first_case = first_case

    def state_dict(self) -> OrderedDict[str, Any]:
        """The sums of all ranks so far, for a run that stops within an epoch."""
        return OrderedDict(rows=self.metric_fn.get_buffer())

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue from saved sums."""
        self.metric_fn.reset()
        if is_first():  # else they would count once for every rank
            self.metric_fn.extend(state_dict["rows"])

    def iteration_completed(self, engine: Engine) -> None:
        """Add the sums of a batch."""
        state: Any = engine.state  # Ignite declares output and batch as integers
        output, case = state.output, state.batch["case"] + self.first_case
        probabilities = finest(output["pred"], output["label"]).detach().float().softmax(dim=1)
        if self.brain_only:
            image = shown_itself(self.input, output["image"])
            probabilities = background_outside_brain(probabilities, image, channel_dim=1)
        self.metric_fn(probabilities, output["label"], case=case)

    def completed(self, engine: Engine, name: str) -> None:
        """Put the figures of all ranks' cases into the engine's state."""
        state: Any = engine.state
        sums = self.metric_fn.aggregate()
        scores = training_scores(sums)
        state.metric_details[name] = torch.stack(list(case_dice(sums).values()), dim=1)
        engine.state.metrics.update({f"{self.prefix}{figure}": value for figure, value in scores.items()})
        if name not in engine.state.metrics:
            raise ValueError(f"no figure is called {name!r}; there are {', '.join(engine.state.metrics)}.")


class SaveCheckpoint:
    """Save a network's weights, as every MONAI application reads them, at the end of an engine's epochs.

    MONAI's `CheckpointSaver` writes in place, and Ignite's `DiskSaver` removes the old file before the new one. With
    `best`, attached before, only the best epochs are saved.
    """

    def __init__(self, path: str | Path, network: torch.nn.Module, best: BestEpoch | None = None) -> None:
        self.path, self.network, self.best = Path(path), network, best

    def attach(self, engine: Engine) -> None:
        """To the validator; where there is none, to the trainer."""
        engine.add_event_handler(Events.STARTED, self._look_for_file)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def _look_for_file(self) -> None:
        """Without the file of an earlier best epoch the next one is the best there is."""
        if self.best and not self.path.exists():
            self.best.forget()

    def __call__(self, engine: Engine) -> None:
        """Write the file, whole or not at all; the first rank does it for all."""
        if is_first() and (self.best is None or self.best.epoch == engine.state.epoch):
            write_checkpoint(self.path, self.network.state_dict())


def loss_of(output: Mapping[str, Any]) -> torch.Tensor:
    """The loss in what a trainer gives for a batch."""
    loss: torch.Tensor = output["loss"]
    return loss.detach()


def number_of_slices(output: Mapping[str, Any]) -> int:
    """The number of slices in a batch."""
    return len(output["pred"])


class ScheduleByValidation(LrScheduleHandler):
    """Steps a learning rate's schedule by a figure of the validator, after epochs that validated.

    MONAI's would step after the others too, by the figure of an earlier epoch or by none.

    Raises:
        ConfigurationError: when it is attached, if there is nothing to validate on.
    """

    def __init__(self, lr_scheduler: Any, validator: Engine, figure: str) -> None:
        super().__init__(lr_scheduler, print_lr=False, step_transform=lambda _: validator.state.metrics[figure])
        self.validator = validator

    def attach(self, engine: Engine) -> None:
        """Step after the epochs of a trainer."""
        if not self.validator.state.epoch_length:
            raise ConfigurationError(
                "the learning rate of this configuration follows the validation, for which there are no cases; "
                "leave out all_cases, or name another lr_schedule."
            )
        super().attach(engine)

    def __call__(self, engine: Engine) -> None:
        """Step, if this epoch was validated."""
        if self.validator.state.epoch == engine.state.epoch:
            super().__call__(engine)


class ClipGradients:
    """Limit the norm of the gradients before each step."""

    def __init__(self, max_norm: float | None) -> None:
        self.max_norm = max_norm

    def attach(self, engine: Engine) -> None:
        """None limits nothing."""
        if self.max_norm is not None:
            engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self)

    def __call__(self, engine: Any) -> None:
        """Clip the gradients of a trainer's network."""
        if engine.scaler is not None:
            engine.scaler.unscale_(engine.optimizer)
        torch.nn.utils.clip_grad_norm_(engine.network.parameters(), cast(float, self.max_norm))


class NoScalingOfBfloat16:
    """Switches off the gradient scaler that MONAI gives every trainer with mixed precision.

    bfloat16 has the range of float32, so that nothing is lost unscaled; and in every step the scaler would look at the
    gradients, for which the CPU waits. The trainer computes in bfloat16 only while it has a scaler, if an idle one.
    """

    def attach(self, engine: Engine) -> None:
        """Act when the trainer starts."""
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Any) -> None:
        """Replace the trainer's scaler, if it computes in bfloat16."""
        if engine.scaler is not None and engine.amp_kwargs.get("dtype") is torch.bfloat16:
            engine.scaler = torch.amp.GradScaler(enabled=False)
