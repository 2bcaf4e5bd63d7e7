"""Slices are cached once, shown once per epoch and mixed between patients; what does not fit in memory is read anew."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch
from monai.data import DataLoader
from monai.transforms import Compose, RandFlipd, Transform

from transforms.inputs import AxialWindow, bytes_per_case
from transforms.labels import MODALITIES
from transforms.pipelines import training_preprocessing
from workflows.messages.errors import ConfigurationError
from workflows.training_data.memory import MEMORY_SHARE_FOR_CACHE, affordable_cache_rate
from workflows.training_data.slice_batches import SliceBatches
from workflows.training_data.slice_dataset import CASES_MIXED_WHEN_UNCACHED, SliceDataset, keep_batch, prepare_batch

BYTES = 100


class CountedPatient(Transform):
    """Patient n as `slices` slices of 2×2 pixels that hold 100·n + the slice's number; counts its calls."""

    def __init__(self) -> None:
        self.calls: Counter[int] = Counter()

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        case, slices = data["case"], data.get("slices", 4)
        self.calls[case] += 1
        values = (100 * case + torch.arange(slices)).reshape(-1, 1, 1, 1)
        return {
            "image": values.expand(slices, 2, 2, 2).to(torch.float16).contiguous(),
            "label": (values % 4).expand(slices, 1, 2, 2).to(torch.uint8).contiguous(),
        }


def dataset_of(cases: int, slices: Sequence[int] | int = 4, **options: Any) -> tuple[SliceDataset, CountedPatient]:
    each = [slices] * cases if isinstance(slices, int) else slices
    transform = CountedPatient()
    data = [{"case": case, "slices": count} for case, count in enumerate(each)]
    return SliceDataset(data, transform, **options), transform


def epoch_of(dataset: SliceDataset, batches: SliceBatches) -> list[list[int]]:
    """The values of every batch's slices, 100 · patient + slice, as the loader hands them to the network."""
    loader = DataLoader(dataset, batch_sampler=batches, collate_fn=keep_batch)
    return [batch["image"][:, 0, 0, 0].int().tolist() for batch in loader]


def every_slice(dataset: SliceDataset) -> list[int]:
    return sorted(100 * case + s for case, count in enumerate(dataset.slices_per_case) for s in range(count))


def memory_for(monkeypatch: pytest.MonkeyPatch, cases: float) -> None:
    """Let as much memory be free as the cache of so many patients needs."""
    free = cases * BYTES / MEMORY_SHARE_FOR_CACHE + 1
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=free))


# The cache


def test_a_cached_patient_is_the_same_memory_at_every_access_and_was_read_once():
    dataset, transform = dataset_of(3)
    first, second = dataset.case(1)["image"], dataset.case(1)["image"]
    assert first is second and first.data_ptr() == second.data_ptr()
    for _ in range(3):
        epoch_of(dataset, SliceBatches(dataset, 2, shuffle=True))
    assert transform.calls == {0: 1, 1: 1, 2: 1}


def test_the_training_chain_of_real_files_is_cached_to_its_end(phantom_cases: list[dict[str, Any]]):
    window = AxialWindow(size_px=32)
    preprocess = training_preprocessing(window, {0: 0, 1: 1, 2: 2, 4: 3})
    dataset = SliceDataset(phantom_cases, preprocess, window, expected_bytes_per_case=bytes_per_case(window))
    assert dataset.slices_per_case == [75, 75, 75] and len(dataset) == 225
    before = dataset.case(2)
    assert (before["image"].dtype, before["label"].dtype) == (torch.float16, torch.uint8)
    assert dataset.case(2)["image"] is before["image"] and dataset.case(2)["label"] is before["label"]
    batch = dataset.__getitems__([0, 74, 75, 224])
    assert batch["case"].tolist() == [0, 0, 1, 2]
    assert torch.equal(batch["image"][3], before["image"][74].float())
    assert torch.equal(batch["label"][3], before["label"][74])


def test_augmentation_changes_the_batch_and_never_the_cache():
    flip = Compose([RandFlipd(keys=("image", "label"), prob=1.0, spatial_axis=1)])
    dataset, _ = dataset_of(1, augmentation=flip)
    dataset.case(0)["image"][:, :, 0] = 50
    before = dataset.case(0)["image"].clone()
    batch = dataset.__getitems__([0, 1])
    assert type(batch["image"]) is torch.Tensor and type(batch["label"]) is torch.Tensor
    assert torch.equal(batch["image"], before[:2].flip(2).float())
    assert torch.equal(dataset.case(0)["image"], before)


def test_a_batch_of_one_patients_whole_stack_is_its_slices_and_not_the_cache_itself():
    dataset, _ = dataset_of(3, slices=[2, 5, 1])
    whole, mixed = dataset.__getitems__(range(2, 7)), dataset.__getitems__([6, 2, 3, 4, 5])
    assert whole["case"].tolist() == [1] * 5 and whole["slice"].tolist() == [0, 1, 2, 3, 4]
    for key in ("image", "label"):
        assert torch.equal(whole[key], mixed[key][[1, 2, 3, 4, 0]])
        before = dataset.case(1)[key].clone()
        whole[key] += 1
        assert torch.equal(dataset.case(1)[key], before)


def test_a_slice_is_found_by_its_number_across_patients_of_different_length():
    dataset, _ = dataset_of(3, slices=[2, 5, 1])
    assert len(dataset) == 8
    assert [dataset.locate(index) for index in (0, 1, 2, 6, 7)] == [(0, 0), (0, 1), (1, 0), (1, 4), (2, 0)]
    single = dataset[6]
    assert single["image"].shape == (2, 2, 2) and single["image"][0, 0, 0] == 104 and single["case"] == 1


def test_going_through_the_slices_one_by_one_comes_to_an_end():
    dataset, _ = dataset_of(2)
    assert [int(item["image"][0, 0, 0]) for item, _ in zip(dataset, range(20), strict=False)] == every_slice(dataset)
    with pytest.raises(IndexError, match="8"):
        dataset[8]


def test_a_case_of_75_slices_of_128_pixels_takes_6_144_000_bytes():
    assert bytes_per_case(AxialWindow()) == 75 * 128 * 128 * (2 * 2 + 1) == 6_144_000
    assert bytes_per_case(AxialWindow(MODALITIES, (60, 70), size_px=64), soft_labels=True) == 10 * 64 * 64 * (2 * 4 + 3)


# Batches


@pytest.mark.parametrize("slices_per_batch", [1, 3, 16, 100])
@pytest.mark.parametrize("shuffle", [True, False])
def test_an_epoch_shows_every_slice_exactly_once(slices_per_batch: int, shuffle: bool):
    dataset, _ = dataset_of(3, slices=[4, 7, 6])
    batches = SliceBatches(dataset, slices_per_batch, shuffle)
    for _ in range(2):
        shown = epoch_of(dataset, batches)
        assert sorted(chain.from_iterable(shown)) == every_slice(dataset)
        assert len(shown) == len(batches) == -(-17 // slices_per_batch)


def test_shuffled_batches_mix_patients():
    dataset, _ = dataset_of(8, slices=8)
    shown = epoch_of(dataset, SliceBatches(dataset, 16, shuffle=True))
    assert all(len({value // 100 for value in batch}) >= 4 for batch in shown)


def test_the_order_follows_from_the_seed_and_the_epoch_alone():
    dataset, _ = dataset_of(4)

    def orders(seed: int, epochs: int = 3) -> list[list[list[int]]]:
        batches = SliceBatches(dataset, 4, shuffle=True, seed=seed)
        return [list(batches) for _ in range(epochs)]

    first = orders(seed=0)
    torch.manual_seed(123)
    assert orders(seed=0) == first
    assert orders(seed=1)[0] != first[0]
    assert first[0] != first[1] != first[2]


def test_without_shuffling_the_order_is_that_of_the_data():
    dataset, _ = dataset_of(2, slices=3)
    shown = epoch_of(dataset, SliceBatches(dataset, 4, shuffle=False))
    assert shown == [[0, 1, 2, 100], [101, 102]]


def test_without_a_batch_size_a_batch_is_one_patient_with_its_slices_in_order():
    dataset, _ = dataset_of(5, slices=[2, 3, 4, 2, 3])
    batches = SliceBatches(dataset, None, shuffle=True, seed=0)
    epochs = [epoch_of(dataset, batches) for _ in range(4)]
    for shown in epochs:
        assert len(shown) == len(batches) == 5
        assert sorted(shown) == [[100 * c + s for s in range(n)] for c, n in enumerate([2, 3, 4, 2, 3])]
    assert len({tuple(batch[0] for batch in shown) for shown in epochs}) > 1  # the patients' order changes


# Where not all fits in memory


# Slices without tumour: every fourth one of `CountedPatient`


def test_an_epoch_shows_every_slice_with_tumour_once_and_the_share_asked_for_without():
    dataset, _ = dataset_of(3, slices=20)  # 45 with tumour, 15 without
    batches = SliceBatches(dataset, 8, shuffle=True, tumour_free_share=0.1)
    seen = list(chain(*epoch_of(dataset, batches)))
    with_tumour = [value for value in seen if value % 4]
    assert len(with_tumour) == 45 and len(set(with_tumour)) == 45
    assert len(seen) - len(with_tumour) == 5  # a tenth of 50
    assert len(batches) == 7


def test_other_slices_without_tumour_are_drawn_in_every_epoch():
    dataset, _ = dataset_of(3, slices=20)
    batches = SliceBatches(dataset, 8, shuffle=True, tumour_free_share=0.1)
    drawn = [{value for value in chain(*epoch_of(dataset, batches)) if value % 4 == 0} for _ in range(12)]
    assert len({frozenset(values) for values in drawn}) > 1
    assert set().union(*drawn) == {value for value in every_slice(dataset) if value % 4 == 0}


def test_a_share_that_there_are_not_slices_enough_for_shows_all():
    dataset, _ = dataset_of(2, slices=8)
    batches = SliceBatches(dataset, 4, shuffle=True, tumour_free_share=0.9)
    assert sorted(chain(*epoch_of(dataset, batches))) == every_slice(dataset)
    assert len(batches) == 4


@pytest.mark.parametrize(("share", "slices_per_batch"), [(1.0, 4), (-0.1, 4), (0.2, None)])
def test_a_share_that_cannot_be_is_refused(share: float, slices_per_batch: int | None):
    dataset, _ = dataset_of(2)
    with pytest.raises(ConfigurationError, match=rf"^tumour_free_share is {share}; "):
        SliceBatches(dataset, slices_per_batch, shuffle=True, tumour_free_share=share)


def test_what_does_not_fit_in_memory_is_announced(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    memory_for(monkeypatch, 5)
    with caplog.at_level(logging.INFO):
        assert affordable_cache_rate(20, BYTES) == pytest.approx(0.25, rel=0.01)
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warning.startswith("only 25% of the cases fit in memory") and "smaller size_px" in warning


def test_what_fits_is_cached_without_a_warning(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    memory_for(monkeypatch, 20)
    with caplog.at_level(logging.INFO):
        assert affordable_cache_rate(20, BYTES) == 1.0
    assert [record.levelname for record in caplog.records] == ["INFO"]


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("slices_per_batch", [6, None])
def test_uncached_patients_are_shown_once_and_read_at_most_once_per_epoch(
    monkeypatch: pytest.MonkeyPatch, shuffle: bool, slices_per_batch: int | None
):
    memory_for(monkeypatch, 5)
    dataset, transform = dataset_of(20, expected_bytes_per_case=BYTES)
    assert dataset.cached_cases == 5
    assert transform.calls == dict.fromkeys(range(20), 1)  # the pass that counts slices
    batches = SliceBatches(dataset, slices_per_batch, shuffle)
    for epoch in range(1, 4):
        shown = epoch_of(dataset, batches)
        assert sorted(chain.from_iterable(shown)) == every_slice(dataset)
        assert len(shown) == len(batches)
        assert all(transform.calls[case] == 1 for case in range(5))
        assert max(transform.calls.values()) <= 1 + epoch


def test_slices_are_mixed_among_the_patients_that_are_read_together(monkeypatch: pytest.MonkeyPatch):
    memory_for(monkeypatch, 0)
    dataset, _ = dataset_of(16, slices=8, expected_bytes_per_case=BYTES)
    assert dataset.cached_cases == 0
    shown = epoch_of(dataset, SliceBatches(dataset, 16, shuffle=True))
    groups = [{value // 100 for batch in shown[start : start + 4] for value in batch} for start in (0, 4)]
    assert [len(group) for group in groups] == [CASES_MIXED_WHEN_UNCACHED] * 2 and not groups[0] & groups[1]
    assert all(len({value // 100 for value in batch}) >= 4 for batch in shown)


# On the way to the network


def test_the_network_gets_float_images_and_one_hot_classes():
    dataset, _ = dataset_of(1)
    image, label = prepare_batch(dataset.__getitems__([0, 3]), device="cpu")
    assert (image.shape, image.dtype) == ((2, 2, 2, 2), torch.float32)
    assert (label.shape, label.dtype) == ((2, 4, 2, 2), torch.float32)
    assert label[:, :, 0, 0].tolist() == [[1, 0, 0, 0], [0, 0, 0, 1]]
