"""One run in several processes, called ranks, on one machine or several: who does what, and what they tell each other.

`torchrun` starts the ranks, PyTorch's DistributedDataParallel averages their gradients, and MONAI and Ignite gather
their figures. Rank 0, the first, writes and prints. A process that nobody started as one of several is the first of
one: every function here then does at once what it would without ranks, and torch.distributed is not touched.
"""

from __future__ import annotations

import atexit
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from workflows.messages.errors import BratsError, ConfigurationError

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

Value = TypeVar("Value")

LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "NCCL communicator was aborted")
"""What PyTorch says where another rank has ended."""
GLOO_FREES_S = 0.5
"""Seconds that Gloo's thread is given to free the last message; it takes microseconds once it is scheduled."""


@dataclass
class Ranks:
    """This process among those of its run.

    Attributes:
        on_this_machine: how many ranks share its memory.
        words: the group over which ranks talk, on the CPU whatever they compute on.
    """

    rank: int = 0
    number: int = 1
    on_this_machine: int = 1
    words: Any = None


_here = Ranks()


def rank() -> int:
    return _here.rank


def number_of_ranks() -> int:
    return _here.number


def ranks_on_this_machine() -> int:
    return _here.on_this_machine


def is_first() -> bool:
    """Whether this process writes and prints for all."""
    return _here.rank == 0


# ---------------------------------------------------------------------------------------------------------------------
# Beginning and end


def device() -> torch.device:
    """The GPU of this rank, each of a machine its own; the CPU where there is none.

    Raises:
        ConfigurationError: if there are more ranks than GPUs.
    """
    import torch

    if not torch.cuda.is_available():
        return torch.device("cpu")
    local, gpus = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
    if local >= gpus:
        raise ConfigurationError(f"--nproc_per_node is more than the {gpus} GPUs here; start one process per GPU.")
    return torch.device("cuda", local)


def begin(device: Any) -> None:
    """Join the other ranks, if `torchrun` has started this process as one of several; the first step of a run.

    Args:
        device: that this rank computes on; CPUs talk by Gloo, GPUs by NCCL.
    """
    if _here.number > 1 or int(os.environ.get("WORLD_SIZE", 1)) == 1:
        return
    import torch
    import torch.distributed as dist

    on_gpu = torch.device(device).type == "cuda"
    if on_gpu:
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if on_gpu else "gloo")
    _here.rank, _here.number = dist.get_rank(), dist.get_world_size()
    _here.on_this_machine = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    _here.words = dist.new_group(backend="gloo") if on_gpu else dist.group.WORLD
    atexit.register(end)
    if not is_first():  # what it has to say the first says too, but for its share
        logging.getLogger("workflows").setLevel(logging.WARNING)
        logger.setLevel(logging.INFO)


def end() -> None:
    """Leave the other ranks.

    A thread of Gloo frees the last message after it was received, for which it needs Python's lock: if Python ends
    meanwhile the process is aborted, and if the group is destroyed meanwhile each waits for the other for ever. It gets
    the lock as soon as this thread sleeps, and has nothing left to free when it wakes up.
    """
    import torch.distributed as dist

    if dist.is_initialized():
        time.sleep(GLOO_FREES_S)
        dist.destroy_process_group()
    _here.__init__()  # type: ignore[misc]


# ---------------------------------------------------------------------------------------------------------------------
# What ranks tell each other


@contextmanager
def _talking() -> Iterator[None]:
    """Say in one line that another rank has ended; why, it has said itself."""
    try:
        yield
    except RuntimeError as error:
        if not lost(error):
            raise
        raise BratsError(f"rank {rank()}: another process of this run has ended; its own message says why.") from error


def lost(error: BaseException | None) -> bool:
    """Whether a chain of exceptions began with the end of another rank."""
    while error is not None:
        if any(words in str(error) for words in LOST):
            return True
        error = error.__cause__ or error.__context__
    return False


def gathered(value: Value) -> list[Value]:
    """The values of all ranks, in their order, on every one of them."""
    if _here.number == 1:
        return [value]
    import torch.distributed as dist

    values: list[Any] = [None] * _here.number
    with _talking():
        dist.all_gather_object(values, value, group=_here.words)
    return values


def joined(values: Sequence[Value]) -> list[Value]:
    """The lists of all ranks, one after the other."""
    return [value for of_one in gathered(list(values)) for value in of_one]


def from_first(work: Callable[[], Value]) -> Value:
    """What `work` returns on the first rank, which alone does it; where it fails, the others end without a word.

    Raises:
        SystemExit: on the others, if it failed.
    """
    if _here.number == 1:
        return work()
    import torch.distributed as dist

    told: list[Any] = [False, None]
    try:
        if is_first():
            told = [True, work()]
    finally:
        with _talking():
            dist.broadcast_object_list(told, src=0, group=_here.words)
    if not told[0]:
        raise SystemExit(1)
    return told[1]


def wait_for_all() -> None:
    """Return when every rank has come here."""
    gathered(None)


def largest(number: int) -> int:
    """The largest of the ranks' numbers."""
    if _here.number == 1:
        return number
    import torch
    import torch.distributed as dist

    value = torch.tensor(number)
    with _talking():
        dist.all_reduce(value, dist.ReduceOp.MAX, group=_here.words)
    return int(value)


def check_equal_steps(steps: int | None) -> None:
    """Raises `ConfigurationError` where ranks would wait for each other for ever."""
    every = gathered(steps)
    if len(set(every)) > 1:
        raise ConfigurationError(
            f"the processes' epochs have {', '.join(map(str, every))} steps; name multi_gpu_train after other overlays."
        )


# ---------------------------------------------------------------------------------------------------------------------
# Who does what


def bounds(cases: int) -> tuple[int, int]:
    """The first case of this rank among all, and the one after its last; shares differ by one case at most."""
    return tuple(cases * edge // _here.number for edge in (_here.rank, _here.rank + 1))  # type: ignore[return-value]


def share(datalist: Mapping[str, Any], section: str) -> list[Any]:
    """The cases of a section that this rank reads: consecutive ones, so that the shares in order are all in order.

    Raises:
        ConfigurationError: if there are some, but fewer than ranks.
    """
    cases = datalist[section]
    if 0 < len(cases) < _here.number:
        raise ConfigurationError(
            f"{len(cases)} {section} cases are too few for {_here.number} processes; start {len(cases)} at most."
        )
    first, after = bounds(len(cases))
    if _here.number > 1:
        logger.info(f"rank {rank()} of {_here.number}: {after - first} of {len(cases)} {section} cases")
    return list(cases[first:after])


def first_of_share(datalist: Mapping[str, Any], section: str) -> int:
    """How many cases of a section the ranks before this one have."""
    return bounds(len(datalist[section]))[0]


@dataclass(frozen=True)
class Everyone:
    """The cases of all ranks by name, for a handler that shows what was gathered."""

    names: Sequence[str]


def everyone(datalist: Mapping[str, Any], section: str) -> Everyone:
    return Everyone([case["case"] for case in datalist[section]])


def own_seed(seed: int) -> int:
    """A seed for what ranks must draw differently; the first keeps the run's."""
    from workflows.machine.seeds import draw_seed

    return seed if is_first() else draw_seed(seed, rank())


def continue_command(run_dir: str | Path) -> str:
    """How a person continues a run with as many ranks."""
    if _here.number == 1:
        return f"brats-unet train --resume --out {run_dir}"
    machines = _here.number // _here.on_this_machine
    several = f"--nnodes={machines} … " if machines > 1 else ""
    return f"torchrun {several}--nproc_per_node={_here.on_this_machine} -m workflows train --resume --out {run_dir}"
