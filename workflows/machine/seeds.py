"""Seeds of random generators."""

from __future__ import annotations

import numpy as np


def draw_seed(*numbers: int) -> int:
    """One seed below 2 ** 32 from several numbers; similar numbers give seeds that have nothing in common."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
