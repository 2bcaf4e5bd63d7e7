"""Which of the cached slices make a batch: slices of all patients mixed, or slabs of consecutive ones."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator, Sequence

import torch
from torch.utils.data import Sampler

from workflows.machine.seeds import draw_seed
from workflows.messages.errors import ConfigurationError, DatasetError
from workflows.training_data.slice_dataset import CASES_MIXED_WHEN_UNCACHED, SeededBatch, SliceDataset


class SliceBatches(Sampler[list[int]]):
    """Which slices make a batch.

    Args:
        slices_per_batch: None for one patient per batch, all its slices in order, as the study did.
        shuffle: mix the slices of all patients anew in every epoch; where not all patients fit in memory, those of
            the patients that are read together. With one patient per batch, the order of the patients.
        seed: the order of epoch n and the augmentation of its batches follow from `seed` and n alone.
        tumour_free_share: at most this share of an epoch's slices is without tumour, others being drawn anew in every
            epoch; None for every slice once in every epoch. Not for one patient per batch.
        agree: gives the slices, or patients, of an epoch when told how many there are; what is more is drawn again.
            Ranks agree on the `largest` of their numbers, and so take equally many steps.
    """

    def __init__(
        self,
        dataset: SliceDataset,
        slices_per_batch: int | None,
        shuffle: bool,
        seed: int = 0,
        tumour_free_share: float | None = None,
        agree: Callable[[int], int] = int,
    ) -> None:
        if tumour_free_share is not None and not (0 <= tumour_free_share < 1 and shuffle and slices_per_batch):
            raise ConfigurationError(
                f"tumour_free_share is {tumour_free_share}; it takes 0 to less than 1, and batches of mixed slices."
            )
        self.dataset, self.slices_per_batch, self.shuffle, self.seed = dataset, slices_per_batch, shuffle, seed
        self.tumour_free_share = tumour_free_share
        self.epoch, self.done_in_epoch = 0, 0
        per_epoch = len(dataset) if slices_per_batch else len(dataset.slices_per_case)
        if tumour_free_share is not None:
            self.tumour_free = [i for case in range(len(dataset.slices_per_case)) for i in dataset.tumour_free(case)]
            with_tumour = len(dataset) - len(self.tumour_free)
            wanted = round(with_tumour * tumour_free_share / (1 - tumour_free_share))
            self.tumour_free_kept = min(len(self.tumour_free), wanted)
            per_epoch = with_tumour + self.tumour_free_kept
        self.per_epoch = agree(per_epoch)

    def continue_from(self, epochs: int, batches: int) -> None:
        """The next iteration is the epoch after `epochs`, without its first `batches`."""
        self.epoch, self.done_in_epoch = epochs, batches

    def __len__(self) -> int:
        return -(-self.per_epoch // (self.slices_per_batch or 1))

    def __iter__(self) -> Iterator[list[int]]:
        self.epoch += 1
        epoch, skipped, self.done_in_epoch = self.epoch, self.done_in_epoch, 0
        for number, batch in enumerate(self._batches()):
            if number >= skipped:
                yield SeededBatch(batch, draw_seed(self.seed, epoch, number))

    def _batches(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        if self.slices_per_batch is None:
            cases = itertools.chain.from_iterable(self._case_orders(generator))
            yield from (self._slices_of([case]) for case in itertools.islice(cases, self.per_epoch))
            return
        pending = list[int]()
        # What is left of a group goes first into the next one's batch, while its patients are still at hand.
        for group in self._groups(generator):
            pending += group
            while len(pending) >= self.slices_per_batch:
                yield pending[: self.slices_per_batch]
                del pending[: self.slices_per_batch]
        if pending:
            yield pending

    def _case_orders(self, generator: torch.Generator) -> Iterator[list[int]]:
        """All patients in an order of their own, again and again."""
        while True:
            yield self._permuted(range(len(self.dataset.slices_per_case)), generator)

    def _groups(self, generator: torch.Generator) -> Iterator[list[int]]:
        """An epoch's slices in the order they are shown, those of patients read together at a time."""
        missing, step = self.per_epoch, self._cases_per_group()
        for cases in self._case_orders(generator):
            left_out = self._left_out(generator)
            for first in range(0, len(cases), step):
                group = self._drawn(cases[first : first + step], left_out, generator)[:missing]
                missing -= len(group)
                yield group
            if not missing:
                return

    def _drawn(self, cases: Sequence[int], left_out: Collection[int], generator: torch.Generator) -> list[int]:
        """What is shown of some patients, in its order."""
        return self._permuted([index for index in self._slices_of(cases) if index not in left_out], generator)

    def _left_out(self, generator: torch.Generator) -> set[int]:
        """Slices without tumour that are not shown in this epoch."""
        if self.tumour_free_share is None:
            return set()
        return set(self._permuted(self.tumour_free, generator)[self.tumour_free_kept :])

    def _cases_per_group(self) -> int:
        everything = len(self.dataset.slices_per_case)
        return everything if self.dataset.cached_cases == everything else CASES_MIXED_WHEN_UNCACHED

    def _slices_of(self, cases: Sequence[int]) -> list[int]:
        first = self.dataset.first_slice
        return [index for case in cases for index in range(first[case], first[case + 1])]

    def _permuted(self, items: Sequence[int], generator: torch.Generator) -> list[int]:
        if not self.shuffle:
            return list(items)
        return [items[index] for index in torch.randperm(len(items), generator=generator).tolist()]


class SlabBatches(SliceBatches):
    """Which slabs make a batch: `slab` consecutive slices of one patient each, one slab after the other.

    An epoch has as many slabs of a patient as cover the stack, each with a random start; a slice at the stack's end is
    shown less often than one in its middle. The slabs of all patients are mixed. Other arguments: see `SliceBatches`.

    Raises:
        ConfigurationError: if the batch is no whole number of slabs, or single slices are to be left out.
        DatasetError: naming the first patient with fewer slices than a slab.
    """

    def __init__(
        self,
        dataset: SliceDataset,
        slices_per_batch: int | None,
        shuffle: bool = True,
        seed: int = 0,
        tumour_free_share: float | None = None,
        slab: int = 32,
        agree: Callable[[int], int] = int,
    ) -> None:
        if not slices_per_batch or slices_per_batch % slab:
            raise ConfigurationError(
                f"slices_per_step is {slices_per_batch}; in slabs of {slab} slices it takes {slab}, {2 * slab}, …"
            )
        if tumour_free_share is not None:
            raise ConfigurationError("tumour_free_share leaves out single slices, but slabs are whole; set it to None.")
        for name, slices in zip(dataset.names, dataset.slices_per_case, strict=True):
            if slices < slab:
                raise DatasetError(
                    f"{name}: has {slices} slices to train on, fewer than a slab of {slab}; "
                    "name a smaller one by --network_def#slab, or widen slice_range."
                )
        super().__init__(dataset, slices_per_batch, shuffle, seed)
        self.slab = slab
        self.per_epoch = agree(slab * sum(map(self._slabs_of, range(len(dataset.slices_per_case)))))

    def _drawn(self, cases: Sequence[int], _left_out: Collection[int], generator: torch.Generator) -> list[int]:
        starts = [start for case in cases for start in self._starts(case, generator)]
        return [start + place for start in self._permuted(starts, generator) for place in range(self.slab)]

    def _slabs_of(self, case: int) -> int:
        return -(-self.dataset.slices_per_case[case] // self.slab)

    def _starts(self, case: int, generator: torch.Generator) -> list[int]:
        """The first slices of a patient's slabs, by the data set's numbers."""
        places = self.dataset.slices_per_case[case] - self.slab + 1
        drawn = torch.randint(places, (self._slabs_of(case),), generator=generator)
        return (drawn + self.dataset.first_slice[case]).tolist()
