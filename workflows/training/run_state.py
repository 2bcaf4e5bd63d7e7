"""`last.pt`: the state from which an interrupted run continues, on the same CPU to the last bit."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from signal import Signals
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.handlers import EarlyStopHandler
from monai.utils import set_determinism

from workflows.machine.ranks import check_equal_steps, continue_command, is_first, largest, lost, number_of_ranks, rank
from workflows.machine.seeds import draw_seed
from workflows.machine.stopping import ECHO_S, StopRequest
from workflows.messages.errors import BratsError, ConfigurationError, root_cause
from workflows.settings.weights import write_checkpoint

logger = logging.getLogger(__name__)


class RunState:
    """Saves the state after every epoch, and within one when the run is asked to stop; continues from it.

    No random state is saved: what a step draws follows from `seed` and its number, the slices and their augmentation
    from `seed`, epoch and batch (`SliceBatches`). The first rank saves for all, and all continue from its file.

    Attach it to the trainer before all other handlers: they find the epoch it continues from.

    Args:
        objects: by name, what has a `state_dict`.
        metrics: the trainer's; their sums are saved within an epoch.
        keep_settings: called once the configuration has turned out to fit the state.
    """

    def __init__(
        self,
        path: str | Path,
        objects: Mapping[str, Any],
        metrics: Mapping[str, Any],
        seed: int,
        resume: bool = False,
        keep_settings: Callable[[], object] = lambda: None,
    ) -> None:
        self.path, self.objects, self.metrics = Path(path), dict(objects), dict(metrics)
        self.seed, self.resume, self.keep_settings = seed, resume, keep_settings
        self.stop = StopRequest(echo_s=ECHO_S if number_of_ranks() > 1 else 0)
        self.stopped_at = ""
        self._unfinished: dict[str, Any] = {}

    def attach(self, engine: Engine) -> None:
        """Restore the state when the trainer starts; save it after every epoch."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.EPOCH_STARTED, self._continue_sums)
        engine.add_event_handler(Events.ITERATION_STARTED, self._seed_step)
        engine.add_event_handler(Events.COMPLETED, self.stop.ignore)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._explain)

    def save(self, engine: Engine) -> None:
        """Write the state, whole or not at all; between two steps or after an epoch's other handlers."""
        state = {name: _stateful(thing).state_dict() for name, thing in self.objects.items()}
        state["trainer"] = engine.state_dict()
        if (scaler := getattr(engine, "scaler", None)) is not None and scaler.is_enabled():
            state["scaler"] = scaler.state_dict()
        if _steps_into_epoch(engine):
            state["metrics"] = {name: metric.state_dict() for name, metric in self.metrics.items()}
        if is_first():
            write_checkpoint(self.path, state)

    def _start(self, engine: Engine) -> None:
        check_equal_steps(engine.state.epoch_length)
        if self.resume and self.path.exists():
            self._restore(engine)
        # Only now, so that these come after every other handler: the averaging of weights is attached after this one.
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._stop_within_epoch)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._end_epoch)
        self.stop.listen()

    def _restore(self, engine: Engine) -> None:
        state = read_state(self.path)
        iteration, length = state["trainer"]["iteration"], state["trainer"]["epoch_length"]
        self._check_steps(state, length, engine)
        objects = {name: _stateful(thing) for name, thing in self.objects.items()}
        if (scaler := getattr(engine, "scaler", None)) is not None and "scaler" in state:  # not where a CPU saved it
            objects["scaler"] = scaler
        for name, thing in objects.items():
            self._load(name, thing, state)
        engine.state.iteration, engine.state.epoch = iteration, iteration // length
        self._unfinished = state.get("metrics", {})
        batches = getattr(getattr(engine, "data_loader", None), "batch_sampler", None)
        if batches is not None and hasattr(batches, "continue_from"):
            batches.continue_from(*divmod(iteration, length))
        if is_first():
            self.keep_settings()
        self._say_where(engine)

    def _check_steps(self, state: Mapping[str, Any], length: int, engine: Engine) -> None:
        if length != engine.state.epoch_length:
            raise ConfigurationError(
                f"{self.path}: its epochs have {length} steps, this configuration's {engine.state.epoch_length}: "
                "the training cases, their slices or the number of processes are others; resume with the same, or "
                "start a new run."
            )
        planned = state.get("lr_scheduler", {}).get("total_steps")
        wanted = getattr(self.objects.get("lr_scheduler"), "total_steps", None)
        if planned != wanted:
            raise ConfigurationError(
                f"{self.path}: its learning rate was planned over {planned} steps, this configuration's over {wanted}; "
                "resume with the same max_epochs, or start a new run."
            )

    def _load(self, name: str, thing: Any, state: Mapping[str, Any]) -> None:
        try:
            thing.load_state_dict(state[name])
        except (KeyError, ValueError, TypeError, RuntimeError, AttributeError) as error:
            why = "is not in it" if name not in state else f"does not fit the configuration ({error})"
            raise ConfigurationError(
                f"{self.path}: the state of {name} {why}; resume with the run's own configuration, or start a new run."
            ) from error

    def _say_where(self, engine: Engine) -> None:
        early_stop = _stateful(self.objects.get("early_stop"))
        patience, waited = getattr(early_stop, "patience", None), getattr(early_stop, "counter", 0)
        done, total = engine.state.epoch, engine.state.max_epochs or 0
        if done >= total or (patience is not None and waited >= patience):
            reason = "" if done >= total else f", stopped early after {waited} epochs without improvement"
            logger.info(f"nothing to resume: the run has ended after {done} of {total} epochs{reason}")
            engine.terminate()
        else:
            step = _steps_into_epoch(engine)
            logger.info(f"resuming in epoch {done + 1} of {total}" + (f" after step {step}" if step else ""))

    def _continue_sums(self) -> None:
        for name, sums in self._unfinished.items():
            self.metrics[name].load_state_dict(sums)
        self._unfinished = {}

    def _seed_step(self, engine: Engine) -> None:
        set_determinism(draw_seed(self.seed, engine.state.iteration))

    def _stop_within_epoch(self, engine: Engine) -> None:
        """After an epoch's last step it is too late: a state between training and validation could not be resumed."""
        if self._asked_to_stop() and (step := _steps_into_epoch(engine)):
            self.save(engine)
            self.stopped_at = f"in epoch {engine.state.epoch} after step {step} of {engine.state.epoch_length}"
            engine.terminate()

    def _end_epoch(self, engine: Engine) -> None:
        self.save(engine)
        if self._asked_to_stop():
            self.stopped_at = f"after epoch {engine.state.epoch} of {engine.state.max_epochs}"
            engine.terminate()

    def _asked_to_stop(self) -> bool:
        """A signal to one rank stops all of them after the same step."""
        number = largest(self.stop.signal or 0)
        if number:
            self.stop.signal = Signals(number)
        return number != 0

    def _explain(self, _engine: Engine, error: BaseException) -> None:
        self.stop.ignore()
        advice = _advice(error)
        if advice is None:
            raise error
        kept = f"{self.path} holds the state of the last save" if self.path.exists() else "nothing was saved yet"
        again = continue_command(self.path.parent)
        raise BratsError(f"{advice}; {kept}: continue with  {again}") from error


def identity_handler(handler: Any) -> Any:
    """The handler as it is: MONAI 1.6.1 checks the `_target_` of every entry in the trainer's list of handlers, and a
    plain reference such as "@run_state" has none.
    """
    return handler


def read_state(path: Path) -> dict[str, Any]:
    """A saved state on the CPU.

    Raises:
        ConfigurationError: if the file is no state of a run.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        state["trainer"]["iteration"]
    except Exception as error:  # pickle, zip and I/O errors alike
        raise ConfigurationError(f"{path}: is no state of a run; remove it to start afresh.") from error
    return dict(state)


def _stateful(thing: Any) -> Any:
    """What holds a thing's state: in MONAI 1.6.1's `EarlyStopHandler` Ignite's handler, which has no public name."""
    return thing._handler if isinstance(thing, EarlyStopHandler) else thing


def _steps_into_epoch(engine: Engine) -> int:
    """Steps done of an unfinished epoch."""
    return engine.state.iteration % (engine.state.epoch_length or 1)


def _advice(error: BaseException) -> str | None:
    """What a person can do about an error of the machine; None for any other error."""
    if ours := root_cause(error):
        return None if ours is error else str(ours).rstrip(".")
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, RuntimeError) and "DataLoader worker" in str(seen):
            return "a process that loads data was killed, often for want of memory; use fewer of them"
        if isinstance(seen, torch.OutOfMemoryError):
            return "the GPU has too little memory; take a smaller slices_per_step, or --cuda_graphs False"
        seen = seen.__cause__ or seen.__context__
    if lost(error):
        return f"rank {rank()}: another process of this run has ended, and its own message says why"
    return None
