"""A crop to the brain shows it larger, moves image and label alike, and comes back on the patient's own grid."""

from __future__ import annotations

from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from torch.nn import functional

from tests.support import Head, WritePatient
from tests.transforms.test_pipelines import oriented
from transforms.crop import BOX_END, BOX_START, BackgroundIsTheRestd, CropToBraind, SquareAroundBrain
from transforms.inputs import AxialWindow, bytes_per_case
from transforms.labels import NUM_CLASSES
from transforms.pipelines import postprocessing, preprocessing, training_preprocessing
from transforms.regions import labels_to_regions
from workflows.data.reader import CaseReader

BRATS_VALUES = {0: 0, 1: 1, 2: 2, 4: 3}


def image_of(height: slice, width: slice, depth: slice) -> MetaTensor:
    """(2, 20, 30, 10), signal in a block of the second channel alone."""
    image = torch.zeros(2, 20, 30, 10)
    image[1, height, width, depth] = -1.5
    return MetaTensor(image)


def test_the_box_is_a_square_of_the_longer_edge_around_the_brain_and_keeps_every_slice():
    start, end = SquareAroundBrain().compute_bounding_box(image_of(slice(6, 14), slice(5, 17), slice(3, 7)))
    assert (start.tolist(), end.tolist()) == ([4, 5, 0], [16, 17, 10])  # 8 high and 12 wide


def test_a_margin_of_2_makes_a_square_of_12_one_of_16():
    start, end = SquareAroundBrain(margin_px=2).compute_bounding_box(image_of(slice(6, 14), slice(5, 17), slice(3, 7)))
    assert (end - start).tolist() == [16, 16, 10]
    assert start.tolist() == [2, 3, 0]


def test_a_square_that_leaves_the_image_is_filled_with_zeros():
    image = image_of(slice(0, 20), slice(2, 28), slice(0, 10))  # 26 wide, 20 high
    cropped = CropToBraind("image")({"image": image})["image"]
    assert cropped.shape == (2, 26, 26, 10)
    assert not cropped[:, :3].any() and not cropped[:, 23:].any() and cropped[1, 3:23].all()


def test_an_image_without_signal_is_kept_whole():
    image = MetaTensor(torch.zeros(2, 20, 30, 10))
    assert CropToBraind("image", margin_px=4)({"image": image})["image"].shape == image.shape


def window(size_px: int, slice_range: tuple[int, int], crop: bool = True) -> AxialWindow:
    return AxialWindow(slice_range=slice_range, size_px=size_px, crop_to_brain=crop)


def training(patient: dict[str, Any], size_px: int, depth: int, **options: Any) -> dict[str, Any]:
    chain = training_preprocessing(
        window(size_px, (0, depth)), label_values=BRATS_VALUES, reader=CaseReader(), **options
    )
    return chain(patient)


def dice_to_file(label_map: MetaTensor, file: str) -> list[float]:
    """Of WT, TC and ET."""
    seg = np.asarray(nib.load(file).dataobj)
    truth = labels_to_regions(torch.from_numpy(np.where(seg == 4, 3, seg).astype(np.uint8))[None])
    found = labels_to_regions(label_map.as_tensor())
    both = (truth & found).flatten(1).sum(1)
    return (2 * both / (truth.flatten(1).sum(1) + found.flatten(1).sum(1))).tolist()


def perfect_answer(label: torch.Tensor) -> torch.Tensor:
    """(slices, 1, H, W) class indices as logits (classes, H, W, slices)."""
    return 20 * functional.one_hot(label[:, 0].long(), NUM_CLASSES).permute(3, 1, 2, 0).float()


@pytest.mark.parametrize("axes", ["LPS", "RAS", "SPL"])
def test_a_perfect_answer_on_the_crop_comes_back_on_the_patients_own_grid(write_patient: WritePatient, axes: str):
    patient = write_patient(change=oriented(axes))
    chain = preprocessing(window(64, (0, 40)), CaseReader())
    preprocessed = chain({"case": "P1", "image": patient["image"]})
    answer = perfect_answer(training(patient, 64, 40)["label"])
    back = postprocessing(chain)({**preprocessed, "pred": answer})
    source = nib.load(patient["label"])
    assert back["label_map"].shape == (1, *source.shape)
    np.testing.assert_allclose(back["label_map"].affine.numpy(), source.affine, atol=1e-5)
    assert back["pred"].shape == (4, *source.shape)
    torch.testing.assert_close(back["pred"].sum(0).as_tensor(), torch.ones(source.shape), rtol=0, atol=1e-5)
    scores = dice_to_file(back["label_map"], patient["label"])
    assert min(scores) > 0.95, scores


def test_of_a_generated_patient_the_crop_loses_less_than_the_whole_slice(phantom_cases: list[dict[str, Any]]):
    lost = {}
    for crop in (True, False):
        chain = preprocessing(window(64, (60, 135), crop))
        preprocessed = chain({"image": phantom_cases[0]["image"]})
        label = training_preprocessing(window(64, (0, 155), crop), BRATS_VALUES)(phantom_cases[0])
        back = postprocessing(chain)({**preprocessed, "pred": perfect_answer(label["label"])})
        assert back["label_map"].shape == (1, 120, 120, 155)
        lost[crop] = [1 - score for score in dice_to_file(back["label_map"], phantom_cases[0]["label"])]
    assert all(with_crop < without for with_crop, without in zip(lost[True], lost[False], strict=True)), lost


def test_training_reads_the_cropped_slices_that_inference_reads(write_patient: WritePatient):
    patient = write_patient()
    whole = preprocessing(window(32, (0, 40)), CaseReader())(patient)["image"].as_tensor()
    assert torch.equal(training(patient, 32, 40)["image"], whole.permute(3, 0, 1, 2).half())


def test_the_brain_fills_the_cropped_slice_but_for_the_margin(write_patient: WritePatient, head: Head):
    image = preprocessing(window(88, (0, 40)), CaseReader())(write_patient())["image"]
    shown = (image != 0).any(0).any(2)
    rows, columns = shown.any(1).nonzero().flatten(), shown.any(0).nonzero().flatten()
    # A brain of 37 pixels with 4 on either side on 88 pixels: 4 · 88 / 45, less one where interpolation blurs it.
    for edges in (rows, columns):
        assert 6 <= edges[0] <= 8 and 79 <= edges[-1] <= 81


def test_a_cropped_patient_takes_the_memory_of_an_uncropped_one(phantom_cases: list[dict[str, Any]]):
    chain = training_preprocessing(window(128, (60, 135)), BRATS_VALUES)
    cached = chain(phantom_cases[0])
    taken = sum(cached[key].untyped_storage().nbytes() for key in ("image", "label"))
    assert taken == bytes_per_case(window(128, (60, 135))) <= 6_200_000
    assert BOX_START not in cached and BOX_END not in cached


def test_the_background_gets_what_the_tumour_classes_leave():
    probabilities = torch.tensor([0.0, 0.2, 0.3, 0.1]).reshape(4, 1, 1, 1)
    completed = BackgroundIsTheRestd("pred")({"pred": probabilities})["pred"]
    torch.testing.assert_close(completed.flatten(), torch.tensor([0.4, 0.2, 0.3, 0.1]))
