"""The cached training slices: which of them make a batch, and how much memory they take."""

from __future__ import annotations

import itertools
import logging
import sys
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from monai.data import CacheDataset
from monai.transforms import Randomizable
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from transforms.planes import AXIAL, as_volume, mirror_image, shown_slices, slice_of
from transforms.slices import plain
from transforms.soft_labels import expand_labels
from workflows.errors import ConfigurationError, about_case
from workflows.ranks import is_first, ranks_on_this_machine
from workflows.stored_cases import StoredCases

logger = logging.getLogger(__name__)

MEMORY_SHARE_FOR_CACHE = 0.7  # the rest is for the network, its activations and everybody else
GPU_MEMORY_SHARE_FOR_CACHE = 0.5  # the rest likewise, and activations take most of a GPU
CASES_MIXED_WHEN_UNCACHED = 8
BRATS_SLICES = 155


def bytes_per_case(modalities: int, size_px: int, slices: int, soft_labels: bool = False) -> int:
    """Memory of one cached case: 16 bits per modality and pixel, 8 for the label map or 3 × 8 for soft labels."""
    return slices * size_px**2 * (2 * modalities + (3 if soft_labels else 1))


def slices_to_keep(
    slice_range: Sequence[int], neighbours: int = 0, whole_brain: bool = False, cube_px: int | None = None
) -> int:
    """Cached slices of a case of 1 mm slices, at most; with `whole_brain` those of a whole volume of BraTS, of a cube
    all."""
    if cube_px is not None:
        return cube_px
    return (BRATS_SLICES if whole_brain else slice_range[1] - slice_range[0]) + 2 * neighbours


class NamedCases(CacheDataset):
    """A `CacheDataset` that keeps its cache on a device, and whose errors say which patient they are about."""

    def __init__(self, *args: Any, device: torch.device | str = "cpu", **kwargs: Any) -> None:
        self.device = device
        super().__init__(*args, **kwargs)

    def _load_cache_item(self, idx: int) -> Any:
        with naming(self.data[idx]["case"]):
            patient = super()._load_cache_item(idx)
        placed = {key: value.to(self.device) for key, value in patient.items() if isinstance(value, Tensor)}
        return {**patient, **placed}

    def __getitem__(self, index: Any) -> Any:
        with naming(self.data[index]["case"]):
            return super().__getitem__(index)


@contextmanager
def naming(case: str) -> Iterator[None]:
    """Turn what a reader or a transform says of a patient, which MONAI wraps, into one line with the patient's id."""
    try:
        yield
    except Exception as error:
        ours = about_case(case, error)
        if ours is None:
            raise
        raise ours from error


class SliceDataset(Dataset):
    """The slices of many patients as one data set; the patients are preprocessed once and kept in memory.

    Args:
        data: one dictionary per patient, as `transform` takes it.
        transform: ends in {"image": (slices, C, H, W) float16, "label": (slices, 1 or more, H, W) uint8}.
        expected_bytes_per_case: see `bytes_per_case`; decides how many patients fit in memory.
        augmentation: applied to whole batches.
        neighbours: slices below and above whose channels go with those of a slice, see `with_neighbours`; `transform`
            then gives so many images more than labels on either side, and what is cached stays one copy of each slice.
        planes: of cached cubes, the slices that show any brain along these, see `transforms.planes`; None for the
            whole stack of axial slices.
        mirrored: with every slice goes its mirror image, see `transforms.planes.mirror_image`.
        device: keeps the preprocessed patients, if they fit there, and is where batches are put together: on a GPU
            nothing is copied to it while it trains.
        workers: threads that fill the cache.
        cache_dir: keep the preprocessed patients in this folder too, see `StoredCases`; None for in memory alone.
        cache_gb: what that folder may hold.
    """

    def __init__(
        self,
        data: Sequence[dict[str, Any]],
        transform: Callable,
        expected_bytes_per_case: int = 0,
        augmentation: Callable | None = None,
        neighbours: int = 0,
        planes: Sequence[str] | None = None,
        mirrored: bool = False,
        device: torch.device | str = "cpu",
        workers: int = 2,
        cache_dir: str | Path | None = None,
        cache_gb: float = 20,
    ) -> None:
        self.augmentation, self.neighbours = augmentation, neighbours
        self.planes, self.mirrored = planes, mirrored
        self.names = [patient.get("case", str(number)) for number, patient in enumerate(data)]
        device = device_for_cache(torch.device(device), len(data) * expected_bytes_per_case)
        rate = 1.0 if device.type == "cuda" else affordable_cache_rate(len(data), expected_bytes_per_case)
        stored = StoredCases(transform, cache_dir, cache_gb) if cache_dir else None
        self.volumes = NamedCases(
            list(data),
            stored or transform,
            device=device,
            cache_rate=rate,
            num_workers=workers,
            progress=sys.stderr.isatty() and is_first(),
            copy_cache=False,
        )
        self.cached_cases = self.volumes.cache_num
        self._uncached = lru_cache(maxsize=CASES_MIXED_WHEN_UNCACHED)(self.volumes.__getitem__)
        # Reading a patient that does not fit in memory just to count its slices costs one pass, once.
        self.places = [self._places_in(self.case(index)) for index in range(len(data))]
        self.slices_per_case = [len(places) for places in self.places]
        self.first_slice = [0, *itertools.accumulate(self.slices_per_case)]
        if stored:
            stored.report()

    def __len__(self) -> int:
        return self.first_slice[-1]

    def case(self, index: int) -> dict[str, Any]:
        """All slices of one patient."""
        return self.volumes[index] if index < self.cached_cases else self._uncached(index)

    def _places_in(self, patient: dict[str, Any]) -> list[tuple[str, int]]:
        """The plane and position of each slice of one patient."""
        if self.planes is None:
            return [(AXIAL, position) for position in range(len(patient["label"]))]
        return shown_slices(as_volume(patient["image"]).any(dim=0), self.planes)

    def tumour_free(self, case: int) -> list[int]:
        """The data set's numbers of a patient's slices whose label is background throughout."""
        tumour = as_volume(self.case(case)["label"]).any(dim=0)
        with_tumour = set(shown_slices(tumour, self.planes or (AXIAL,)))
        return [self.first_slice[case] + n for n, place in enumerate(self.places[case]) if place not in with_tumour]

    def locate(self, index: int) -> tuple[int, int]:
        """The patient, and the number among the patient's slices, of the data set's slice `index`."""
        if not 0 <= index < len(self):
            raise IndexError(f"no slice {index} among {len(self)}")  # which also ends a loop over the data set
        case = bisect_right(self.first_slice, index) - 1
        return case, index - self.first_slice[case]

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {key: values[0] for key, values in self.__getitems__([index]).items()}

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """A whole batch in one call, as PyTorch's loader asks for it.

        Returns:
            "image": (B, C, H, W) float32; "label": (B, 1 or more, H, W) uint8; "case" and "slice": (B,), the patients'
            numbers and the slices' numbers among the patient's.
        """
        numbers = [self.locate(index) for index in indices]
        image, label = self._whole_stack(numbers) or self._gathered(numbers)
        batch = {
            "image": image,
            "label": label,
            "case": torch.tensor([case for case, _ in numbers]),
            "slice": torch.tensor([number for _, number in numbers]),
        }
        if self.augmentation is not None:
            if isinstance(indices, SeededBatch) and isinstance(self.augmentation, Randomizable):
                self.augmentation.set_random_state(seed=indices.seed)
            batch = {key: plain(value) for key, value in self.augmentation(batch).items()}
        return batch

    def _whole_stack(self, numbers: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor] | None:
        """Images and labels of one patient's slices in their order, as a batch of the study has them: they lie in
        memory as they are wanted. None for any other batch."""
        case, slices = numbers[0][0], self.slices_per_case[numbers[0][0]]
        if self.planes or self.neighbours or self.mirrored or numbers != [(case, number) for number in range(slices)]:
            return None
        patient = self.case(case)
        # Copies, since whoever gets the batch may change it.
        return patient["image"].to(torch.float32, copy=True), patient["label"].clone()

    def _gathered(self, numbers: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor]:
        """Images and labels of slices from anywhere."""
        rows = [(self.case(case), *self.places[case][number]) for case, number in numbers]
        channels = [self._channels(row["image"], plane, at) for row, plane, at in rows]
        first = channels[0]
        shape = (len(rows), len(first) * len(first[0]), *first[0].shape[1:])
        images = torch.empty(shape, dtype=torch.float32, device=first[0].device)
        for image, parts in zip(images, channels, strict=True):  # `stack` and `float` would write each twice
            for at, part in enumerate(parts):
                image[at * len(part) : (at + 1) * len(part)] = part
        return images, torch.stack([slice_of(row["label"], plane, at) for row, plane, at in rows])

    def _channels(self, images: Tensor, plane: str, position: int) -> Sequence[Tensor]:
        """(C, H, W) each: a slice's own channels among those of its neighbours, the lowest first, or before its mirror
        image's."""
        if self.mirrored:
            return slice_of(images, plane, position), mirror_image(images, plane, position)
        if not self.neighbours:
            return (slice_of(images, plane, position),)
        return tuple(images[position : position + 2 * self.neighbours + 1])


class SeededBatch(list[int]):
    """The slices of a batch and the seed of its augmentation, which is the same in whichever process it happens."""

    def __init__(self, slices: Sequence[int], seed: int) -> None:
        super().__init__(slices)
        self.seed = seed


def draw_seed(*numbers: int) -> int:
    """One seed below 2 ** 32 from several numbers; similar numbers give seeds that have nothing in common."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


class SliceBatches(Sampler[list[int]]):
    """Which slices make a batch.

    Args:
        slices_per_batch: None for one patient per batch, all its slices in order, as the study did.
        shuffle: mix the slices of all patients anew in every epoch; where not all patients fit in memory, of as many
            as are read together. With one patient per batch, the order of the patients.
        seed: the order of epoch n and the augmentation of its batches follow from `seed` and n alone.
        tumour_free_share: at most this share of an epoch's slices is without tumour, others being drawn anew in every
            epoch; None for every slice once in every epoch. Not for one patient per batch.
        agree: gives the slices, or patients, of an epoch when told how many there are; what it asks for beyond them is
            drawn again. Ranks agree on the `largest` of their numbers, and so take equally many steps.
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
            self.tumour_free_kept = min(
                len(self.tumour_free), round(with_tumour * tumour_free_share / (1 - tumour_free_share))
            )
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


def keep_batch(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The loader's collate function: `SliceDataset` hands out whole batches."""
    return batch


def prepare_batch(
    batch: dict[str, Tensor], device: torch.device | str | None = None, non_blocking: bool = False, **kwargs: Any
) -> tuple[Tensor, Tensor]:
    """Move a batch to the device and expand its labels there, where one-hot costs neither cache nor transfer.

    Returns:
        Images (B, C, H, W) float32 and class shares (B, classes, H, W) float32.
    """
    image = batch["image"].to(device, non_blocking=non_blocking, **kwargs)
    return image, expand_labels(batch["label"].to(device, non_blocking=non_blocking))


def device_for_cache(device: torch.device, needed: int) -> torch.device:
    """The device, or the CPU where so many bytes would leave a GPU too little memory for the network."""
    if device.type != "cuda":
        return torch.device("cpu")
    free, _ = torch.cuda.mem_get_info(device)
    if needed <= free * GPU_MEMORY_SHARE_FOR_CACHE:
        logger.info(f"caching on the GPU: {needed / 1e9:.2f} GB expected, {free / 1e9:.1f} GB of its memory free")
        return device
    logger.warning(
        f"the cases take {needed / 1e9:.1f} GB and the GPU has {free / 1e9:.1f} GB free: they stay in the machine's "
        "memory, and every batch is copied from there. A smaller size_px would avoid that."
    )
    return torch.device("cpu")


def affordable_cache_rate(cases: int, expected_bytes_per_case: int) -> float:
    """The share of the patients that fits in memory; says what is expected, and warns where it is less than all."""
    needed, free = cases * expected_bytes_per_case, psutil.virtual_memory().available // ranks_on_this_machine()
    budget = free * MEMORY_SHARE_FOR_CACHE
    logger.info(f"caching {cases} cases: {needed / 1e9:.2f} GB expected, {free / 1e9:.1f} GB of memory free")
    if needed <= budget:
        return 1.0
    rate = budget / needed
    logger.warning(
        f"only {rate:.0%} of the cases fit in memory and are cached; the others are read again in every epoch. "
        "A smaller size_px, a narrower slice_range or a machine with more memory would avoid that, and a cache_dir "
        "shorten it."
    )
    return rate
