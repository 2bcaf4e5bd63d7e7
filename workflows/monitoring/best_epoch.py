"""The best epoch of a run so far: the one answer for the weights kept, early stopping, the table and TensorBoard."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ignite.engine import Engine, Events


class BestEpoch:
    """Knows which validated epoch is the best so far: the first with the best `figure` in `engine.state.metrics`.

    Attach it to the validator before those who ask it.
    """

    def __init__(self, figure: str, lower_is_better: bool = False) -> None:
        self.figure, self.sign = figure, -1.0 if lower_is_better else 1.0
        self.forget()

    def attach(self, engine: Engine) -> None:
        """Compare at the end of the validator's epochs."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._compare)

    def score(self, engine: Engine) -> float:
        """The figure now, the higher the better; NaN, which compares with nothing, is worse than any number."""
        score = self.sign * engine.state.metrics[self.figure]
        return -math.inf if math.isnan(score) else score

    def forget(self) -> None:
        """The next epoch is the best there is."""
        self.epoch, self.best_score = 0, -math.inf

    def state_dict(self) -> dict[str, Any]:
        """The best epoch and its score; epoch 0 where there is none yet."""
        return {"epoch": self.epoch, "score": self.best_score}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.epoch, self.best_score = state_dict["epoch"], state_dict["score"]

    def _compare(self, engine: Engine) -> None:
        if not self.epoch or self.score(engine) > self.best_score:
            self.epoch, self.best_score = engine.state.epoch, self.score(engine)
