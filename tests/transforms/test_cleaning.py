"""Each post-processing step does its one thing, and none runs that was not asked for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from transforms.cleaning import LARGEST_COMPONENT, LITTLE_ENHANCING, SMALL_COMPONENTS, STEPS, cleaning_steps
from transforms.labels import ENHANCING, NECROTIC_CORE, OEDEMA

VOXEL_MM3 = 4.0  # 2×2×1 mm


def two_tumours() -> MetaTensor:
    """27 voxels of oedema and 8 of enhancing tumour that touch by a corner (140 mm³), and 10 of necrosis apart."""
    volume = torch.zeros(1, 20, 12, 8, dtype=torch.uint8)
    volume[0, 1:4, 1:4, 1:4] = OEDEMA
    volume[0, 4:6, 4:6, 4:6] = ENHANCING
    volume[0, 10:20, 8, 2] = NECROTIC_CORE
    return MetaTensor(volume, affine=torch.diag(torch.tensor([-2.0, -2.0, 1.0, 1.0])))


def sizes(label_map: MetaTensor) -> dict[str, int]:
    classes = {"necrosis": NECROTIC_CORE, "oedema": OEDEMA, "enhancing": ENHANCING}
    return {name: int((label_map == index).sum()) for name, index in classes.items()}


def cleaned(label_map: MetaTensor, **settings: float) -> MetaTensor:
    sample = {"label_map": label_map.clone(), "case": "P1"}
    for step in cleaning_steps(**settings).values():
        sample = step(sample)
    assert sample["case"] == "P1"
    return sample["label_map"]


def test_no_step_is_switched_on_by_default():
    assert cleaning_steps() == {}


@pytest.mark.parametrize(("smallest", "kept"), [(40, True), (41, False)])
def test_a_component_of_40_mm3_stays_at_a_threshold_of_40_and_goes_at_41(smallest: float, kept: bool):
    after = cleaned(two_tumours(), smallest_component_mm3=smallest)
    assert sizes(after) == {"necrosis": 10 if kept else 0, "oedema": 27, "enhancing": 8}


def test_classes_that_touch_by_a_corner_are_one_component():
    # Oedema alone has 108 mm³, enhancing tumour alone 32 mm³; together they stay where either alone would go.
    assert sizes(cleaned(two_tumours(), smallest_component_mm3=140)) == {"necrosis": 0, "oedema": 27, "enhancing": 8}
    assert int((cleaned(two_tumours(), smallest_component_mm3=141) != 0).sum()) == 0


def test_only_the_largest_component_stays_with_all_its_classes():
    assert sizes(cleaned(two_tumours(), largest_component_only=True)) == {"necrosis": 0, "oedema": 27, "enhancing": 8}


@pytest.mark.parametrize(("smallest", "enhancing"), [(32, 8), (33, 0)])
def test_enhancing_tumour_below_the_threshold_becomes_necrosis(smallest: float, enhancing: int):
    after = cleaned(two_tumours(), smallest_enhancing_mm3=smallest)
    assert sizes(after) == {"necrosis": 18 - enhancing, "oedema": 27, "enhancing": enhancing}


def test_all_steps_run_in_their_order():
    steps = cleaning_steps(50, True, 33)
    assert tuple(steps) == STEPS == (SMALL_COMPONENTS, LARGEST_COMPONENT, LITTLE_ENHANCING)
    after = cleaned(two_tumours(), smallest_component_mm3=50, largest_component_only=True, smallest_enhancing_mm3=33)
    assert sizes(after) == {"necrosis": 8, "oedema": 27, "enhancing": 0}


@pytest.mark.parametrize("fill", [0, OEDEMA])
def test_a_map_without_tumour_and_one_of_nothing_else_stay_what_they_are(fill: int):
    volume = two_tumours()
    volume[:] = fill
    after = cleaned(volume, smallest_component_mm3=50, largest_component_only=True, smallest_enhancing_mm3=33)
    assert torch.equal(after, volume)


def test_type_and_geometry_are_kept():
    before = two_tumours()
    after = cleaned(before, smallest_component_mm3=41, largest_component_only=True, smallest_enhancing_mm3=33)
    assert (after.dtype, after.shape) == (torch.uint8, before.shape)
    np.testing.assert_array_equal(after.affine, before.affine)


def test_a_threshold_below_0_is_refused():
    with pytest.raises(ValueError, match="0 or above"):
        cleaning_steps(smallest_component_mm3=-1)
