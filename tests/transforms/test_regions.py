"""Label maps become the three nested masks of BraTS."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from transforms.regions import (
    BackgroundOutsideBraind,
    MostProbableClassd,
    labels_to_regions,
    most_probable_class,
)

#                            WT  TC  ET
MEMBERSHIP = {0: (0, 0, 0), 1: (1, 1, 0), 2: (1, 0, 0), 3: (1, 1, 1)}


@pytest.mark.parametrize(("value", "regions"), MEMBERSHIP.items())
def test_a_voxel_of_each_class_lies_in_its_regions(value: int, regions: tuple[int, ...]):
    masks = labels_to_regions(torch.tensor([[value]]))
    assert masks[:, 0].int().tolist() == list(regions)


def test_the_masks_are_boolean_and_keep_the_grid():
    masks = labels_to_regions(torch.zeros(1, 4, 5, 6, dtype=torch.uint8))
    assert (masks.shape, masks.dtype) == ((3, 4, 5, 6), torch.bool)


def test_the_regions_of_a_label_map_come_in_the_order_wt_tc_et():
    masks = labels_to_regions(torch.tensor([[0, 1, 2, 3]], dtype=torch.uint8))
    assert masks.int().tolist() == [[0, 1, 1, 1], [0, 1, 0, 1], [0, 0, 0, 1]]


def test_what_no_modality_shows_is_background_and_the_rest_keeps_its_probabilities():
    image = torch.zeros(2, 2, 2, 1)
    image[0, 0, 0] = 1.5  # FLAIR alone
    image[1, 0, 1] = -0.5  # T1ce alone
    pred = torch.full((4, 2, 2, 1), 0.25)
    after = BackgroundOutsideBraind(keys="pred", image_key="image")({"image": image, "pred": pred})["pred"]
    assert torch.equal(after[:, 0], pred[:, 0])
    assert torch.equal(after[:, 1], torch.tensor([1.0, 0, 0, 0]).reshape(4, 1, 1).expand(4, 2, 1))


def test_the_most_probable_class_is_the_argmax_and_of_equals_the_first():
    probabilities = torch.randint(0, 4, (4, 5, 6, 7), generator=torch.Generator().manual_seed(0)) / 4  # many equals
    expected = np.argmax(probabilities.numpy(), axis=0)[None]  # NumPy promises the first of equals
    found = most_probable_class(probabilities)
    assert found.dtype == torch.uint8
    assert np.array_equal(found.numpy(), expected)
    assert np.array_equal(most_probable_class(probabilities.permute(0, 3, 1, 2)), expected.transpose(0, 3, 1, 2))
    assert most_probable_class(torch.tensor([0.1, 0.2, 0.4, 0.3]).reshape(4, 1)).tolist() == [[2]]


def test_the_map_of_the_most_probable_class_lies_where_the_probabilities_do_and_leaves_them():
    affine = torch.diag(torch.tensor([-1.0, -1, 2, 1]))
    probabilities = MetaTensor(torch.tensor([0.2, 0.8]).reshape(2, 1, 1, 1), affine=affine)
    data = MostProbableClassd(keys="pred", output_key="argmax_map")({"pred": probabilities})
    assert data["pred"] is probabilities and probabilities.flatten().tolist() == pytest.approx([0.2, 0.8])
    assert (data["argmax_map"].dtype, data["argmax_map"].flatten().tolist()) == (torch.uint8, [1])
    assert torch.equal(data["argmax_map"].affine, probabilities.affine)


def test_the_class_map_of_a_volume_is_its_argmax_where_the_background_is_near_half_too():
    random = torch.Generator().manual_seed(0)
    tumour = torch.rand(3, 6, 7, 8, generator=random) * torch.rand(6, 7, 8, generator=random) / 2
    tumour[:, 0, 1, 0] = torch.tensor([0.5, 0, 0])  # as probable as the background, which comes first
    tumour[:, :, 0] = 0
    tumour[:, 5, 6, 7] = torch.tensor([0, 0, 0.5001])
    probabilities = torch.cat([1 - tumour.sum(0, keepdim=True), tumour])
    mapped = MostProbableClassd("pred", "map")({"pred": MetaTensor(probabilities)})["map"]
    assert torch.equal(mapped.as_tensor(), probabilities.argmax(0, keepdim=True).to(torch.uint8))
    assert mapped.any() and not mapped[:, :, 0].any()


def test_a_volume_of_background_has_an_empty_class_map():
    probabilities = torch.zeros(4, 3, 3, 3)
    probabilities[0] = 1
    assert not MostProbableClassd("pred", "map")({"pred": MetaTensor(probabilities)})["map"].any()
