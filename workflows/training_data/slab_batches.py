"""Batches of consecutive slices, for networks that see a patient in three dimensions."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import torch

from workflows.messages.errors import ConfigurationError, DatasetError
from workflows.training_data.slice_batches import SliceBatches
from workflows.training_data.slice_dataset import SliceDataset


class SlabBatches(SliceBatches):
    """Which slabs make a batch: `slab` consecutive slices of one patient each, one slab after the other.

    An epoch has as many slabs of a patient as cover the stack, each with a random start; a slice at the stack's end is
    shown less often than one in its middle. The slabs of all patients are mixed. Other arguments: see `SliceBatches`.

    Args:
        slices_per_batch: a multiple of `slab`.
        tumour_free_share: must be None; what to leave out is a matter of single slices.
    Raises:
        ConfigurationError: if the batch is no whole number of slabs, or slices are to be left out.
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
