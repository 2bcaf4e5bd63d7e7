"""Slabs are consecutive slices of one patient, begin anew in every epoch, and follow from the seed."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch

from tests.training_data.test_training_data import dataset_of, epoch_of, memory_for
from transforms.intensity import RandGainOffsetd
from workflows.messages.errors import ConfigurationError, DatasetError
from workflows.training_data.slice_batches import SlabBatches


def slabs_of(batch: list[int], slab: int) -> list[list[int]]:
    return [batch[first : first + slab] for first in range(0, len(batch), slab)]


def test_every_slab_is_consecutive_slices_of_one_patient_in_their_order():
    dataset, _ = dataset_of(5, slices=[9, 12, 8, 20, 4])
    for batch in epoch_of(dataset, SlabBatches(dataset, slices_per_batch=8, slab=4)):
        for slab in slabs_of(batch, 4):
            assert slab == list(range(slab[0], slab[0] + 4))
            assert slab[0] // 100 == slab[-1] // 100  # the patient, see `CountedPatient`


def test_a_patient_of_nine_slices_has_three_slabs_of_four_in_an_epoch_and_one_of_eight_has_two():
    dataset, _ = dataset_of(2, slices=[9, 8])
    batches = SlabBatches(dataset, slices_per_batch=8, slab=4)
    shown = epoch_of(dataset, batches)
    patients = Counter(slab[0] // 100 for batch in shown for slab in slabs_of(batch, 4))
    assert patients == {0: 3, 1: 2}
    assert [len(batch) for batch in shown] == [8, 8, 4] and len(batches) == 3


def test_starts_differ_between_epochs_and_reach_either_end():
    dataset, _ = dataset_of(1, slices=6)
    batches = SlabBatches(dataset, slices_per_batch=4, slab=4)
    starts = {batch[0] for _ in range(30) for batch in epoch_of(dataset, batches)}
    assert starts == {0, 1, 2}


def test_slabs_of_all_patients_are_mixed_and_follow_from_seed_and_epoch():
    dataset, _ = dataset_of(8, slices=16)
    first, again = (SlabBatches(dataset, 16, seed=3, slab=4) for _ in range(2))
    epochs = [epoch_of(dataset, first) for _ in range(2)]
    assert epochs[0] != epochs[1]
    assert any(len({value // 100 for value in batch}) > 2 for batch in epochs[0])
    again.continue_from(1, 2)
    assert epoch_of(dataset, again) == epochs[1][2:]


def test_patients_that_do_not_fit_in_memory_are_shown_too(monkeypatch: pytest.MonkeyPatch):
    memory_for(monkeypatch, cases=2)
    dataset, _ = dataset_of(20, slices=8, expected_bytes_per_case=100)
    assert dataset.cached_cases < 20
    batches = SlabBatches(dataset, slices_per_batch=12, slab=4)
    shown = epoch_of(dataset, batches)
    assert Counter(slab[0] // 100 for batch in shown for slab in slabs_of(batch, 4)) == dict.fromkeys(range(20), 2)
    assert len(shown) == len(batches)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"slices_per_batch": 6}, r"slices_per_step is 6; in slabs of 4 slices it takes 4, 8, …"),
        ({"slices_per_batch": None}, r"slices_per_step is None"),
        ({"slices_per_batch": 8, "tumour_free_share": 0.2}, "tumour_free_share leaves out single slices"),
    ],
)
def test_what_slabs_cannot_do_is_refused(settings: dict[str, Any], said: str):
    dataset, _ = dataset_of(2, slices=8)
    with pytest.raises(ConfigurationError, match=said):
        SlabBatches(dataset, slab=4, **settings)


def test_a_patient_with_fewer_slices_than_a_slab_is_named():
    dataset, _ = dataset_of(2, slices=[8, 3])
    with pytest.raises(DatasetError, match=r"^1: has 3 slices to train on, fewer than a slab of 4; .*network_def#slab"):
        SlabBatches(dataset, slices_per_batch=8, slab=4)


def test_gain_and_offset_are_those_of_a_slab_and_differ_between_slabs_and_modalities():
    change = RandGainOffsetd("image", gain_range=0.5, offset_range=0.5, slab=3)
    change.set_random_state(seed=1)
    image = change({"image": torch.ones(6, 2, 1, 1)})["image"][..., 0, 0]
    assert torch.equal(image[:3], image[:1].expand(3, 2)) and torch.equal(image[3:], image[3:4].expand(3, 2))
    assert len(set(image.flatten().tolist())) == 4  # two slabs of two modalities
