"""A cube around the brain, cut along three planes: training and prediction see the same slices, and the mean of the
answers comes back on the patient's own grid.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from networks.slabs import SlabNetwork
from tests.support import WritePatient
from tests.transforms.test_crop import BRATS_VALUES, dice_to_file, perfect_answer
from tests.transforms.test_pipelines import oriented
from transforms.crop import CropToCubed, CubeAroundBrain
from transforms.inputs import BrainCube, bytes_per_case
from transforms.pipelines import postprocessing, preprocessing, training_preprocessing
from transforms.planes import PLANES, across, back_from, shown_slices, slice_of
from workflows.data.reader import CaseReader
from workflows.prediction.inferers import PlanesInferer
from workflows.training_data.slice_dataset import SliceDataset

SIZE_PX = 32
CUBE = BrainCube(edge_mm=44.0, size_px=SIZE_PX, mirrored=False)
"""The brain of conftest's head is a ball of 37 mm."""


def image_of(height: slice, width: slice, depth: slice, spacing_mm: tuple[float, ...] = (1, 1, 1)) -> MetaTensor:
    """(1, 20, 30, 10), signal in a block alone."""
    image = torch.zeros(1, 20, 30, 10)
    image[0, height, width, depth] = -1.5
    return MetaTensor(image, affine=torch.diag(torch.tensor([*spacing_mm, 1.0], dtype=torch.float64)))


def training_cube(patient: dict[str, Any]) -> dict[str, Any]:
    chain = training_preprocessing(CUBE, BRATS_VALUES, reader=CaseReader())
    return dict(chain(patient))


def test_the_cube_lies_around_the_middle_of_the_brain_and_may_leave_the_image():
    box = CubeAroundBrain(16).compute_bounding_box(image_of(slice(6, 14), slice(5, 17), slice(3, 7)))
    assert [edge.tolist() for edge in box] == [[2, 3, -3], [18, 19, 13]]


def test_of_voxels_3_mm_high_a_cube_of_24_mm_takes_8():
    image = image_of(slice(6, 14), slice(5, 17), slice(3, 7), spacing_mm=(1, 1, 3))
    start, end = CubeAroundBrain(24).compute_bounding_box(image)
    assert (end - start).tolist() == [24, 24, 8]


def test_a_brain_longer_than_the_cube_enlarges_it():
    start, end = CubeAroundBrain(10).compute_bounding_box(image_of(slice(6, 14), slice(1, 27), slice(3, 7)))
    assert (end - start).tolist() == [26, 26, 26]
    assert start[1] <= 1 and end[1] >= 27


def test_an_image_without_signal_is_kept_whole():
    image = MetaTensor(torch.zeros(1, 20, 30, 10))
    assert CropToCubed("image", 16)({"image": image})["image"].shape == image.shape


def test_an_axial_slice_runs_left_and_back_a_coronal_left_and_up_a_sagittal_back_and_up():
    stack = torch.arange(4 * 1 * 2 * 3).reshape(4, 1, 2, 3)  # (D, C, H, W): up, channel, left, back
    assert torch.equal(slice_of(stack, "axial", 1), stack[1])
    assert torch.equal(slice_of(stack, "coronal", 2)[0], stack[:, 0, :, 2].T)
    assert torch.equal(slice_of(stack, "sagittal", 0)[0], stack[:, 0, 0].T)


@pytest.mark.parametrize("plane", PLANES)
def test_a_volume_comes_back_from_every_plane(plane: str):
    volume = torch.rand(1, 2, 3, 4, 5)
    assert torch.equal(back_from(across(volume, plane), plane), volume)


def test_a_voxel_shows_in_one_slice_of_each_plane():
    shown = torch.zeros(5, 6, 7, dtype=torch.bool)
    shown[1, 2, 3] = True
    assert shown_slices(shown, PLANES) == [("axial", 3), ("coronal", 2), ("sagittal", 1)]


def seen_on_volume(volume: torch.Tensor, mirrored: bool) -> torch.Tensor:
    """All slices of a volume (1, C, H, W, D) that the network is given."""
    seen: list[torch.Tensor] = []

    def network(slices: torch.Tensor) -> torch.Tensor:
        seen.append(slices.clone())
        return slices[:, :1].repeat(1, 4, 1, 1)

    options = {"slices_per_batch": 7, "brain_only": True}
    scores = PlanesInferer(BrainCube(mirrored=mirrored), **options)(volume, network)
    assert scores.shape == (1, 4, SIZE_PX, SIZE_PX, SIZE_PX)
    return torch.cat(seen)


@pytest.mark.parametrize("mirrored", [False, True])
def test_the_network_is_given_the_same_slices_in_training_and_on_the_volume(
    write_patient: WritePatient, mirrored: bool
):
    patient = write_patient()
    chain = preprocessing(CUBE, CaseReader())
    volume = chain(patient)["image"].as_tensor()[None]
    assert volume.shape == (1, 2, SIZE_PX, SIZE_PX, SIZE_PX)
    dataset = SliceDataset([patient], training_cube, replace(CUBE, mirrored=mirrored))
    batch = dataset.__getitems__(range(len(dataset)))["image"]
    assert batch.shape[1] == (4 if mirrored else 2)
    assert torch.equal(seen_on_volume(volume, mirrored), batch)


def test_the_mirror_image_of_a_sagittal_slice_is_that_of_the_other_hemisphere(write_patient: WritePatient):
    dataset = SliceDataset([write_patient()], training_cube, replace(CUBE, mirrored=True))
    other_side = dataset.case(0)["image"].movedim(0, -1).flip(1).float()  # (C, left, back, up)
    for index, expected in ((0, "axial"), (len(dataset) - 1, "sagittal")):
        plane, position = dataset.places[0][index]
        assert plane == expected
        mirror_image = other_side.select(-1 if plane == "axial" else 1, position)
        assert torch.equal(dataset[index]["image"][2:], mirror_image)


def test_labels_lie_where_the_images_of_a_slice_show_them(write_patient: WritePatient):
    dataset = SliceDataset([write_patient()], training_cube, CUBE)
    cube = dataset.case(0)
    for index in (0, len(dataset) // 2, len(dataset) - 1):
        plane, position = dataset.places[0][index]
        sample = dataset[index]
        assert torch.equal(sample["label"], slice_of(cube["label"], plane, position))
        assert torch.equal(sample["image"], slice_of(cube["image"], plane, position).float())
        assert sample["image"].any()


def test_slices_without_tumour_are_found_in_every_plane(write_patient: WritePatient):
    dataset = SliceDataset([write_patient()], training_cube, CUBE)
    free = set(dataset.tumour_free(0))
    assert 0 < len(free) < len(dataset)
    for index in range(len(dataset)):
        assert bool(dataset[index]["label"].any()) == (index not in free)


def test_the_mean_of_the_planes_is_that_of_their_probabilities():
    volume = torch.rand(1, 2, 8, 8, 8, generator=torch.Generator().manual_seed(0)) + 0.1
    steps: list[int] = []

    def network(slices: torch.Tensor) -> torch.Tensor:
        steps.append(len(slices))
        return torch.cat([slices, slices.cumsum(dim=2)], dim=1)

    def along(*planes: str) -> torch.Tensor:
        inferer = PlanesInferer(BrainCube(planes=planes, mirrored=False), slices_per_batch=8)
        return inferer(volume, network).softmax(dim=1)

    mean = sum(along(plane) for plane in PLANES) / 3
    steps.clear()
    torch.testing.assert_close(along(*PLANES), mean)
    assert sum(steps) == 24


@pytest.mark.parametrize("axes", ["LPS", "RAS", "SPL"])
def test_a_perfect_answer_in_the_cube_comes_back_on_the_patients_own_grid(write_patient: WritePatient, axes: str):
    patient = write_patient(change=oriented(axes))
    chain = preprocessing(replace(CUBE, size_px=SIZE_PX * 2), CaseReader())
    label = training_preprocessing(replace(CUBE, size_px=SIZE_PX * 2), BRATS_VALUES, reader=CaseReader())(patient)[
        "label"
    ]
    preprocessed = chain({"case": "P1", "image": patient["image"]})
    back = postprocessing(chain)({**preprocessed, "pred": perfect_answer(label)})
    source = nib.load(patient["label"])
    assert back["label_map"].shape == (1, *source.shape)
    np.testing.assert_allclose(back["label_map"].affine.numpy(), source.affine, atol=1e-5)
    torch.testing.assert_close(back["pred"].sum(0).as_tensor(), torch.ones(source.shape), rtol=0, atol=1e-5)
    scores = dice_to_file(back["label_map"], patient["label"])
    assert min(scores) > 0.95, scores


def test_a_cached_cube_takes_the_memory_that_is_expected(phantom_cases: list[dict[str, Any]]):
    chain = training_preprocessing(BrainCube(size_px=64), BRATS_VALUES)
    cached = chain(phantom_cases[0])
    taken = sum(cached[key].untyped_storage().nbytes() for key in ("image", "label"))
    assert taken == bytes_per_case(BrainCube(size_px=64))


def tumour_by_value(slices: torch.Tensor) -> torch.Tensor:
    """Scores of two classes, of which the second's probability is the voxel's value."""
    return torch.cat([1 - slices, slices], dim=1).clamp_min(1e-6).log()


def test_other_planes_are_computed_only_where_the_first_finds_tumour_plausible():
    volume = torch.full((1, 1, 16, 16, 16), 0.01)
    volume[0, 0, 3:7, 5:10, 8:14] = 0.3  # 4 × 5 × 6: all of its slices have 20 pixels or more
    volume[0, 0, 12, 12, 12] = 0.9  # one pixel is too few
    given: list[int] = []

    def network(slices: torch.Tensor) -> torch.Tensor:
        given.append(len(slices))
        return tumour_by_value(slices)

    def computed(look_again_from: float) -> int:
        given.clear()
        inferer = PlanesInferer(BrainCube(mirrored=False), slices_per_batch=8, look_again_from=look_again_from)
        answer = inferer(volume, network).softmax(dim=1)
        torch.testing.assert_close(answer[:, 1:], volume)  # a mean over one, two or three answers
        return sum(given)

    assert computed(0) == 3 * 16
    assert computed(0.2) == 16 + 5 + 4
    assert computed(0.5) == 16


def test_the_mean_is_over_the_planes_that_were_asked():
    volume = torch.zeros(1, 1, 16, 16, 16)
    volume[0, 0, :8] = 0.4  # the left half is worth another look
    asked: list[int] = []

    def first_sees_as_it_is_and_others_see_nothing(slices: torch.Tensor) -> torch.Tensor:
        asked.append(len(slices))
        return tumour_by_value(slices if len(asked) == 1 else torch.zeros_like(slices))

    input = BrainCube(planes=("axial", "sagittal"), mirrored=False)
    inferer = PlanesInferer(input, slices_per_batch=16, look_again_from=0.2)
    answer = inferer(volume, first_sees_as_it_is_and_others_see_nothing).softmax(dim=1)[0, 1]
    assert asked == [16, 8]
    torch.testing.assert_close(answer[:8], torch.full((8, 16, 16), 0.2))
    torch.testing.assert_close(answer[8:], torch.zeros(8, 16, 16), atol=1e-5, rtol=0)


def test_a_network_for_slabs_is_given_every_slice_along_every_plane():
    volume = torch.zeros(1, 1, 16, 16, 16)
    volume[0, 0, 4:8, 4:8, 4:8] = 0.9
    given: list[int] = []

    class Slab(SlabNetwork):
        def forward(self, slices: torch.Tensor) -> torch.Tensor:
            given.append(len(slices))
            return tumour_by_value(slices)

    slab = Slab(torch.nn.Identity(), slab=4)
    PlanesInferer(BrainCube(mirrored=False), look_again_from=0.2)(volume, slab)
    assert given == [16, 16, 16]
    given.clear()
    PlanesInferer(BrainCube(mirrored=False), look_again_from=0.2, slices_per_batch=16)(volume, slab.forward)
    assert given == [16, 4, 4]


def test_each_patient_of_a_batch_and_each_brain_is_looked_at_again_by_itself():
    volumes = torch.zeros(2, 1, 16, 16, 16)
    volumes[:, :, 2:14, 2:14, 2:14] = 0.01
    volumes[1, 0, 4:8, 4:9, 4:10] = 0.9
    given: list[int] = []

    def network(slices: torch.Tensor) -> torch.Tensor:
        given.append(len(slices))
        return tumour_by_value(slices)

    input = BrainCube(planes=PLANES[::-1], mirrored=False)
    inferer = PlanesInferer(input, slices_per_batch=16, brain_only=True, look_again_from=0.2)
    answers = inferer(volumes, network).softmax(dim=1)[:, 1:]
    assert given == [12, 12, 5, 6]  # sagittal first, then coronal and axial
    brain = volumes > 0
    torch.testing.assert_close(answers[brain], volumes[brain])
