"""MLflow: what MONAI's option `tracking` adds to a training, made to fit it, and the run's settings beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from monai.handlers import MLFlowHandler

from workflows.files.run_folder import RUN_CONFIGURATION, run_configuration
from workflows.monitoring.tensorboard_handlers import hyperparameters

STEPS_BETWEEN_LOSSES = 10


def fitted(handlers: Sequence[Any], run_dir: str | Path) -> list[Any]:
    """The trainer's handlers; those for MLflow log what this trainer gives, and the settings in `RUN/config.json`.

    MONAI's default tracking expects a list of slices from each step, and writes the loss of every step, for which a GPU
    would have to wait. Here a step gives one batch, and every tenth loss is written.
    """
    tracking = [handler for handler in handlers if isinstance(handler, MLFlowHandler)]
    for handler in tracking:
        handler.output_transform = lambda output: output["loss"]
        handler.iteration_log = lambda _, step: step % STEPS_BETWEEN_LOSSES == 1
    return [*handlers, *(TrackedSettings(handler, run_dir) for handler in tracking)]


class TrackedSettings:
    """Writes a run's settings into MLflow: those that may differ between runs as parameters, all as `config.json`.

    MLflow does not let the parameters of a run change. Attach it to the trainer after MONAI's handler.
    """

    def __init__(self, handler: MLFlowHandler, run_dir: str | Path) -> None:
        self.handler, self.configuration = handler, Path(run_dir) / RUN_CONFIGURATION

    def attach(self, engine: Engine) -> None:
        """To the trainer."""
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self) -> None:
        """Write the settings of the run that begins."""
        tracked: Any = self.handler.cur_run  # MONAI declares the None that it is before its own handler began
        client, run = self.handler.client, tracked.info.run_id
        known = client.get_run(run).data.params
        for name, value in hyperparameters(run_configuration(self.configuration)).items():
            if name not in known:
                client.log_param(run, name, value)
        client.log_artifact(run, str(self.configuration))
