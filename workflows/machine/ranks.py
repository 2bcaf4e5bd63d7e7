"""One run in several processes, called ranks, on one machine or several: who does what, and what they tell each other.

`torchrun` starts the ranks, PyTorch's DistributedDataParallel averages their gradients, and they talk by Ignite's
`idist`. Here is what these lack: shares of cases, errors of the first rank told to all, one line if a rank has ended.
Rank 0, the first, writes and prints. A process alone is the first of one, and imports neither torch nor Ignite here.
"""

from __future__ import annotations

import atexit
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar, cast

from workflows.messages.errors import BratsError, ConfigurationError

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

Value = TypeVar("Value")

LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "NCCL communicator was aborted")
"""What PyTorch says where another rank has ended."""
GLOO_FREES_S = 0.5
"""Seconds that Gloo's thread is given to free the last message; it takes microseconds once it is scheduled."""
_words: Any = None
"""The group over which ranks talk, on the CPU whatever they compute on; None in a process alone."""


def rank() -> int:
    """The number of this process among those of the run, from 0."""
    return 0 if _words is None else _idist().get_rank()


def number_of_ranks() -> int:
    """How many processes the run has."""
    return 1 if _words is None else _idist().get_world_size()


def ranks_on_this_machine() -> int:
    """How many ranks share its memory, as `torchrun` says: Ignite 0.5.5 asks Slurm, which counts what it started."""
    return 1 if _words is None else int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def is_first() -> bool:
    """Whether this process writes and prints for all."""
    return rank() == 0


def _idist() -> ModuleType:
    """What Ignite has for ranks; it imports torch, which a process alone can do without."""
    import ignite.distributed

    return ignite.distributed


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

    Ranks that compute on CPUs talk by Gloo, those on GPUs by NCCL.
    """
    global _words
    if _words is not None or int(os.environ.get("WORLD_SIZE", 1)) == 1:
        return
    import torch

    on_gpu = torch.device(device).type == "cuda"
    if on_gpu:
        torch.cuda.set_device(device)
    # Not `idist.initialize`: Ignite 0.5.5 gives every rank a GPU if there are any, one that computes on the CPU too.
    torch.distributed.init_process_group("nccl" if on_gpu else "gloo")
    _idist().sync()
    _words = _idist().new_group(list(range(_idist().get_world_size())), backend="gloo")
    atexit.register(end)
    if not is_first():  # what it has to say the first says too, but for its share
        logging.getLogger("workflows").setLevel(logging.WARNING)
        logger.setLevel(logging.INFO)


def end() -> None:
    """Leave the other ranks.

    A thread of Gloo frees the last message after it was received, for which it needs Python's lock. If Python ends
    meanwhile, the process is aborted; if the group is destroyed meanwhile, each waits for the other for ever. While
    this thread sleeps, the other one gets the lock.
    """
    global _words
    if _words is not None:
        time.sleep(GLOO_FREES_S)
        _idist().finalize()
        _words = None


@contextmanager
def naming_lost_ranks() -> Iterator[None]:
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
    if _words is None:
        return [value]
    with naming_lost_ranks():  # in a list, for Ignite makes a tensor on the GPU of a number or a text
        return [of_one for (of_one,) in _idist().all_gather([value], group=_words)]


def joined(values: Sequence[Value]) -> list[Value]:
    """The lists of all ranks, one after the other."""
    return [value for of_one in gathered(list(values)) for value in of_one]


def from_first(work: Callable[[], Value]) -> Value:
    """What `work` returns on the first rank, which alone does it; if it fails, the others end by `SystemExit`."""
    told: tuple[bool, Value | None] = (False, None)
    try:
        if is_first():
            told = (True, work())
    finally:
        done, result = gathered(told)[0]
    if not done:
        raise SystemExit(1)
    return cast(Value, result)


def wait_for_all() -> None:
    """Return when every rank has come here."""
    if _words is not None:
        with naming_lost_ranks():
            _idist().barrier()


def largest(number: int) -> int:
    """The largest of the ranks' numbers."""
    return max(gathered(number))


def check_equal_steps(steps: int | None) -> None:
    """Raises `ConfigurationError` where ranks would wait for each other for ever."""
    every = gathered(steps)
    if len(set(every)) > 1:
        raise ConfigurationError(
            f"the processes' epochs have {', '.join(map(str, every))} steps; name multi_gpu_train after other overlays."
        )


def bounds(cases: int, rank: int, ranks: int) -> tuple[int, int]:
    """The first case of a rank among all, and the one after its last; shares differ by one case at most."""
    return cases * rank // ranks, cases * (rank + 1) // ranks


def share(datalist: Mapping[str, Any], section: str) -> list[Any]:
    """The cases of a section that this rank reads: consecutive ones, so that the shares in order are all in order.

    Raises:
        ConfigurationError: if there are some, but fewer than ranks.
    """
    cases, ranks = datalist[section], number_of_ranks()
    if 0 < len(cases) < ranks:
        raise ConfigurationError(
            f"{len(cases)} {section} cases are too few for {ranks} processes; start {len(cases)} at most."
        )
    first, after = bounds(len(cases), rank(), ranks)
    if ranks > 1:
        logger.info(f"rank {rank()} of {ranks}: {after - first} of {len(cases)} {section} cases")
    return list(cases[first:after])


def first_of_share(datalist: Mapping[str, Any], section: str) -> int:
    """How many cases of a section the ranks before this one have."""
    return bounds(len(datalist[section]), rank(), number_of_ranks())[0]


def everyone(datalist: Mapping[str, Any], section: str) -> list[str]:
    """The names of a section's cases on all ranks, for a handler that shows what was gathered."""
    return [case["case"] for case in datalist[section]]


def own_seed(seed: int) -> int:
    """A seed for what ranks must draw differently; the first keeps the run's."""
    from workflows.machine.seeds import draw_seed

    return seed if is_first() else draw_seed(seed, rank())


def continue_command(run_dir: str | Path) -> str:
    """How a person continues a run with as many ranks."""
    if number_of_ranks() == 1:
        return f"brats-unet train --resume --out {run_dir}"
    machines = number_of_ranks() // ranks_on_this_machine()
    several = f"--nnodes={machines} … " if machines > 1 else ""
    return f"torchrun {several}--nproc_per_node={ranks_on_this_machine()} -m workflows train --resume --out {run_dir}"
