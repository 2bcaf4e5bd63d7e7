"""The cases of a batch of patients that can be used, and why the others cannot: one bad file never stops the rest."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from ignite.engine import Engine, Events
from monai.data import DataLoader, list_data_collate
from torch.utils.data import Dataset

from transforms.intensity import UNUSUAL
from workflows.data.case import Case, check_case_id
from workflows.machine.background import Background
from workflows.machine.ranks import gathered, is_first, joined, number_of_ranks
from workflows.messages.errors import BratsError, DatasetError, about_case, printable

logger = logging.getLogger(__name__)

FAULT = "fault"
"""Under this key an entry of the data says, in one line, why its case cannot be used."""


@dataclass(frozen=True)
class Fault:
    """Why one case cannot be used, in one line that begins with its id."""

    case: str
    message: str


def entries_with_faults(cases: Sequence[Case], modalities: Sequence[str]) -> list[dict[str, Any]]:
    """The cases as MONAI's transforms take them, in their order; one entry for cases of one id, which have a fault.

    Two ids that differ by letter case only count as one: where file names ignore it, one would overwrite the other.
    """
    named: dict[str, list[Case]] = {}
    for case in cases:
        named.setdefault(case.id.casefold(), []).append(case)
    return [_entry(same, modalities) for same in named.values()]


def _entry(same: Sequence[Case], modalities: Sequence[str]) -> dict[str, Any]:
    case = same[0]
    try:
        check_case_id(case.id)
        if len(same) > 1:
            raise DatasetError(_there_twice(*same[:2]))
        return {"case": case.id, "image": [str(case.source(name)) for name in modalities]}
    except DatasetError as error:
        return {"case": case.id, FAULT: str(error)}


def _there_twice(one: Case, other: Case) -> str:
    if one.id == other.id:
        return f"{one.id}: is there twice, in {one.folder} and in {other.folder}; remove one."
    return f"{one.id}: differs from {other.id} by letter case only, which many file systems ignore; rename one."


class UsableCases(DataLoader):
    """MONAI's loader that leaves out the cases that cannot be read, and tells at the end which.

    Args:
        dataset: one item per case, {"case": id, …}; an item of its `data` may hold a `FAULT` instead.
        background: where it is enabled the next batch is read while one is in use, by a thread of its own unless there
            are loading processes; lines about faults wait there for those of the patients before.
        done: cases that are no longer in `dataset`, for the count in the last line.
    """

    def __init__(
        self, dataset: Dataset[Any], background: Background | None = None, done: Sequence[str] = (), **options: Any
    ) -> None:
        self.faults: list[Fault] = []
        self.engine: Engine | None = None
        self.background, self.done = background or Background(enabled=False), done
        super().__init__(_WithFaults(dataset), **{"collate_fn": _keep_faults_apart, **options})

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # a generator will do
        """The usable batches; one is held back, so that what follows the last of them is known when it is handed out.

        Raises:
            DatasetError: if no case is usable.
        """
        self.faults.clear()
        held: list[Any] = []
        for batch, faults in self._ahead(super().__iter__()):
            for fault in faults:
                self.background.submit(partial(logger.warning, f"left out: {fault.message}"))
            self.faults += faults
            if batch is not None:
                self._say_what_is_unusual(batch)
                yield from held
                held = [batch]
        if not held and number_of_ranks() == 1:
            self.report()
        elif not held and self.engine is not None:
            self.engine.terminate()  # its end is where the other ranks wait to put all cases together
        yield from held

    def _say_what_is_unusual(self, batch: Mapping[str, Any]) -> None:
        for case, said in zip(batch["case"], batch.get(UNUSUAL, ()), strict=False):
            for line in said.splitlines():
                self.background.submit(partial(logger.warning, printable(f"{case}: {line}")))

    def _ahead(self, batches: Iterator[Any]) -> Iterator[Any]:
        """Read one batch further than is asked for: with that in use and that held back, three patients at most."""
        if not self.background.enabled or self.num_workers:
            yield from batches
            return
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="reading") as thread:
            following = thread.submit(next, batches, None)
            while (batch := following.result()) is not None:
                following = thread.submit(next, batches, None)
                yield batch

    def attach(self, engine: Engine) -> None:
        """Keep the engine's count of iterations to that of the usable batches."""
        self.engine = engine
        engine.add_event_handler(Events.ITERATION_STARTED, self._count)

    def _count(self, engine: Engine) -> None:
        if self.batch_size == 1:
            engine.state.epoch_length = len(self) - len(self.faults)

    def report(self) -> None:
        """The last step of a run; the first rank speaks for all.

        Raises:
            DatasetError: listing the cases that were left out, one line each; of a single patient its line alone.
        """
        faults, total = joined(self.faults), sum(gathered(len(self.dataset) + len(self.done)))  # type: ignore[arg-type]
        if not faults or not is_first():
            return
        if total == 1:
            raise DatasetError(faults[0].message)
        lines = "".join(f"\n  {fault.message}" for fault in faults)
        done = "the others are done" if len(faults) < total else "mend them or name another folder"
        raise DatasetError(f"{len(faults)} of {total} cases could not be used; {done}.{lines}")


class _WithFaults(Dataset[Any]):
    """A data set whose items are samples, or a `Fault` where there is none."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        entry = self.dataset.data[index]
        case = str(entry["case"])
        if FAULT in entry:
            return Fault(case, _one_line(entry[FAULT]))
        try:
            return self.dataset[index]
        except Exception as error:  # noqa: BLE001  # whatever one broken file provokes in a library, the other cases are done
            ours = about_case(case, error) or _unexpected(case, error)
            return Fault(case, _one_line(str(ours)))


def _unexpected(case: str, error: Exception) -> BratsError:
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    return DatasetError(f"{case}: cannot be read ({type(cause).__name__}: {cause}).")


def _one_line(message: str) -> str:
    return printable(" ".join(message.split("\n")))


def _keep_faults_apart(items: Sequence[Any]) -> tuple[Any, list[Fault]]:
    faults = [item for item in items if isinstance(item, Fault)]
    samples = [item for item in items if not isinstance(item, Fault)]
    return (list_data_collate(samples) if samples else None), faults
