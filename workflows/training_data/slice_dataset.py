"""The cached training slices as one data set."""

from __future__ import annotations

import itertools
import logging
import sys
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from monai.data import CacheDataset
from monai.transforms import Randomizable
from torch import Tensor
from torch.utils.data import Dataset

from transforms.inputs import AxialWindow, BrainCube, Input
from transforms.planes import AXIAL, as_volume, mirror_image, shown_slices, slice_of
from transforms.slices import plain
from transforms.soft_labels import expand_labels
from workflows.machine.ranks import is_first
from workflows.messages.errors import about_case
from workflows.training_data.memory import affordable_cache_rate, device_for_cache
from workflows.training_data.stored_cases import StoredCases

logger = logging.getLogger(__name__)

CASES_MIXED_WHEN_UNCACHED = 8
WHOLE_STACK = AxialWindow()


class SeededBatch(list[int]):
    """The slices of a batch and the seed of its augmentation, which is the same in whichever process it happens."""

    def __init__(self, slices: Sequence[int], seed: int) -> None:
        super().__init__(slices)
        self.seed = seed


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


class SliceDataset(Dataset[dict[str, Tensor]]):
    """The slices of many patients as one data set; the patients are preprocessed once and kept in memory.

    Args:
        transform: ends in {"image": (slices, C, H, W) float16, "label": (slices, 1 or more, H, W) uint8}; with
            `input.neighbours` it gives that many more images than labels on either side, and what is cached stays one
            copy of each slice.
        input: of a cube the slices with any brain along its planes are shown, of a window all that `transform` gives.
        whole_stack: show all axial slices of a cube, and no others.
        expected_bytes_per_case: see `transforms.inputs.bytes_per_case`; decides how many patients fit in memory.
        augmentation: of whole batches.
        device: keeps the preprocessed patients, if they fit there, and puts batches together.
        cache_dir, cache_gb: keep the preprocessed patients in this folder too, see `StoredCases`; None for in memory
            alone.
    """

    def __init__(  # noqa: PLR0913  # the bundle gives each by name
        self,
        data: Sequence[dict[str, Any]],
        transform: Callable[..., Any],
        input: Input = WHOLE_STACK,
        whole_stack: bool = False,
        expected_bytes_per_case: int = 0,
        augmentation: Callable[..., Any] | None = None,
        device: torch.device | str = "cpu",
        cache_dir: str | Path | None = None,
        cache_gb: float = 20,
    ) -> None:
        self.augmentation, self.input = augmentation, input
        self.planes = input.planes if isinstance(input, BrainCube) and not whole_stack else None
        self.names = [patient.get("case", str(number)) for number, patient in enumerate(data)]
        device = device_for_cache(torch.device(device), len(data) * expected_bytes_per_case)
        rate = 1.0 if device.type == "cuda" else affordable_cache_rate(len(data), expected_bytes_per_case)
        stored = StoredCases(transform, cache_dir, cache_gb) if cache_dir else None
        self.volumes = NamedCases(
            list(data),
            stored or transform,
            device=device,
            cache_rate=rate,
            num_workers=2,
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
        patient: dict[str, Any] = self.volumes[index] if index < self.cached_cases else self._uncached(index)
        return patient

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
        """The patient, and the number among the patient's slices, of slice `index`."""
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
        image, label = self._gathered(numbers)
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
        image's.
        """
        if self.input.mirrored:
            return slice_of(images, plane, position), mirror_image(images, plane, position)
        neighbours = self.input.neighbours
        if not neighbours:
            return (slice_of(images, plane, position),)
        return tuple(images[position : position + 2 * neighbours + 1])


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
