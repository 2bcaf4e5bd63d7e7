"""The named chains: what the network reads is the same whatever the file, and its answer fits the patient again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Resized
from torch.nn import functional

from tests.support import LPS, Head, WritePatient
from transforms.batches import artefacts
from transforms.inputs import AxialWindow, bytes_per_case
from transforms.labels import NUM_CLASSES
from transforms.pipelines import (
    augmentation,
    load_labels,
    postprocessing,
    preprocessing,
    training_preprocessing,
)
from transforms.regions import labels_to_regions
from transforms.soft_labels import expand_labels
from workflows.data.label_conventions import LABEL_CONVENTIONS
from workflows.data.reader import CaseReader
from workflows.messages.errors import DatasetError, root_cause

BRATS_VALUES = {0: 0, 1: 1, 2: 2, 4: 3}
STUDY_WINDOW = (60, 135)
WINDOW = (5, 35)
Change = Callable[[nib.Nifti1Image], nib.Nifti1Image]


def oriented(axes: str) -> Change:
    """The same head with the voxels' axes in another order or direction."""

    def reorient(image: nib.Nifti1Image) -> nib.Nifti1Image:
        now, wanted = nib.io_orientation(image.affine), nib.orientations.axcodes2ornt(axes)
        return image.as_reoriented(nib.orientations.ornt_transform(now, wanted))

    return reorient


def training_chain(size_px: int = 48, **options: Any) -> Compose:
    options = {"label_values": BRATS_VALUES, "reader": CaseReader(), **options}
    return training_preprocessing(AxialWindow(slice_range=WINDOW, size_px=size_px), **options)


def image_chain(size_px: int = 48, **options: Any) -> Compose:
    return preprocessing(AxialWindow(slice_range=WINDOW, size_px=size_px), **{"reader": CaseReader(), **options})


# Preprocessing


@pytest.mark.parametrize("axes", ["RAS", "SPL", "ASR"])
def test_a_file_in_another_orientation_gives_the_same_slices(write_patient: WritePatient, axes: str):
    chain = training_chain(size_px=32)
    original = chain(write_patient("original"))
    turned = chain(write_patient("turned", change=oriented(axes)))
    assert original["image"].any() and original["label"].any()
    assert torch.equal(original["image"], turned["image"])
    assert torch.equal(original["label"], turned["label"])


def test_rows_run_to_the_left_columns_to_the_back_and_slices_upwards(write_patient: WritePatient, head: Head):
    image = image_chain()(write_patient(change=oriented("RAS")))["image"]
    assert nib.aff2axcodes(image.affine.numpy()) == ("L", "P", "S")
    assert torch.equal(image[0] != 0, torch.from_numpy(head["flair"] != 0))


def test_z_scores_of_the_brain_have_mean_0_and_deviation_1_in_each_modality(write_patient: WritePatient, head: Head):
    image = image_chain()(write_patient())["image"]
    assert (image.shape, image.dtype) == ((2, 48, 48, 40), torch.float32)
    for channel, name in enumerate(("flair", "t1ce")):
        brain = image[channel][torch.from_numpy(head[name] != 0)]
        assert brain.abs().max() < 5  # nothing was cut off
        assert brain.mean().item() == pytest.approx(0, abs=1e-5)
        assert brain.std(correction=0).item() == pytest.approx(1, abs=2**-11)  # values have 16 bits


def test_z_scores_are_cut_at_5_on_both_sides(write_patient: WritePatient, head: Head):
    flair = head["flair"].copy()
    flair[20, 20, 20], flair[21, 20, 20] = 4000, -4000
    image = image_chain()(write_patient(flair=flair))["image"]
    assert image[0, 20, 20, 20] == 5 and image[0, 21, 20, 20] == -5
    assert image.abs().max() == 5


def test_the_background_stays_exactly_zero_through_the_resize(write_patient: WritePatient):
    image = image_chain(size_px=96)(write_patient())["image"]
    assert image[:, 48, 50, 19].all()  # inside the brain
    assert not image[:, :6].any() and not image[:, :, 90:].any() and not image[..., 38:].any()


def test_a_z_scored_copy_with_a_background_of_minus_0_7_comes_out_as_its_original(
    write_patient: WritePatient, head: Head
):
    copies = {}
    for name in ("flair", "t1ce"):
        voxels = head[name].astype(np.float64)
        copies[name] = (0.7 * (voxels / voxels[voxels > 0].mean() - 1)).astype(np.float32)
        assert copies[name][0, 0, 0] == np.float32(-0.7)
    chain = image_chain(size_px=32)
    original, copy = chain(write_patient("original"))["image"], chain(write_patient("copy", **copies))["image"]
    assert torch.equal(original == 0, copy == 0)
    torch.testing.assert_close(copy.as_tensor(), original.as_tensor(), rtol=2**-10, atol=1e-4)  # a step of 16 bits


def test_the_maximum_of_the_window_is_exactly_1_over_both_modalities(phantom_cases: list[dict[str, Any]]):
    chain = training_preprocessing(AxialWindow(size_px=64, normalisation="window_maximum"), label_values=BRATS_VALUES)
    image = chain(phantom_cases[0])["image"]
    assert image.max() == 1
    assert image.min() == 0
    assert image.amax(dim=(0, 2, 3)).min() < 1  # one number divides both modalities


def test_preprocessing_returns_all_slices_whatever_the_window(phantom_cases: list[dict[str, Any]]):
    for normalisation in ("zscore", "window_maximum"):
        image = preprocessing(AxialWindow(size_px=64, normalisation=normalisation))(
            {"image": phantom_cases[0]["image"]}
        )["image"]
        assert image.shape == (2, 64, 64, 155)


def test_training_reads_the_slices_that_inference_reads(write_patient: WritePatient):
    patient = write_patient()
    whole = image_chain(size_px=32)(patient)["image"].as_tensor()
    window = training_chain(size_px=32)(patient)["image"]
    assert torch.equal(window, whole[..., 5:35].permute(3, 0, 1, 2).half())


def test_an_unknown_normalisation_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match=r"unknown normalisation 'minmax': choose zscore or window_maximum\."):
        AxialWindow(normalisation="minmax")


@pytest.mark.parametrize(("soft_labels", "channels", "bytes_stated"), [(False, 1, 6_144_000), (True, 3, 8_601_600)])
def test_a_cached_patient_of_75_slices_takes_exactly_the_bytes_expected(
    phantom_cases: list[dict[str, Any]], soft_labels: bool, channels: int, bytes_stated: int
):
    chain = training_preprocessing(AxialWindow(size_px=128), soft_labels=soft_labels, label_values=BRATS_VALUES)
    cached = chain(phantom_cases[0])
    image, label = cached["image"], cached["label"]
    assert (image.shape, image.dtype) == ((75, 2, 128, 128), torch.float16)
    assert (label.shape, label.dtype) == ((75, channels, 128, 128), torch.uint8)
    assert image.untyped_storage().nbytes() + label.untyped_storage().nbytes() == bytes_stated
    assert bytes_per_case(AxialWindow(size_px=128), soft_labels) == bytes_stated
    assert bytes_stated <= (8_700_000 if soft_labels else 6_200_000)


def test_two_files_of_different_shape_are_refused_by_name(write_patient: WritePatient, head: Head):
    patient = write_patient(t1ce=head["t1ce"][:, :, :30])
    with pytest.raises(Exception, match="transform") as failure:
        image_chain()(patient)
    cause = root_cause(failure.value)
    assert isinstance(cause, DatasetError)
    assert str(cause).startswith(f"{patient['image'][1]}: has 48×48×30 voxels, {patient['image'][0]} 48×48×40")


def test_channels_of_a_4d_file_are_read_as_the_single_files_are(tmp_path, write_patient: WritePatient, head: Head):
    patient = write_patient()
    file = tmp_path / "BRATS_001.nii.gz"
    nib.save(nib.Nifti1Image(np.stack([head["t1ce"], head["flair"]], axis=-1), LPS), file)
    channels = {"image": [f"{file}#1", f"{file}#0"]}
    assert torch.equal(image_chain()(channels)["image"], image_chain()(patient)["image"])


# Labels


@pytest.mark.parametrize("name", LABEL_CONVENTIONS)
def test_the_values_of_every_convention_become_the_same_classes(write_patient: WritePatient, head: Head, name: str):
    classes_of_file = LABEL_CONVENTIONS[name].classes
    true_classes = np.where(head["seg"] == 4, 3, head["seg"])
    in_file = np.zeros_like(head["seg"])
    for index, value in LABEL_CONVENTIONS[name].values.items():
        in_file[true_classes == index] = value
    for value, index in classes_of_file.items():  # of two values for one class, each in half the volume
        in_file[:24][true_classes[:24] == index] = value
    assert set(np.unique(in_file)) == set(classes_of_file)
    label = training_chain(label_values=classes_of_file)(write_patient(seg=in_file))["label"]
    assert torch.equal(label[:, 0], torch.from_numpy(true_classes[..., 5:35]).permute(2, 0, 1).to(torch.uint8))


@pytest.mark.parametrize("axes", ["RAS", "SPL", "AIR"])
def test_a_label_map_or_an_image_along_other_axes_is_turned(write_patient: WritePatient, axes: str, tmp_path: Path):
    patient = write_patient()
    true = training_chain()(patient)
    for key, file in (("label", patient["label"]), ("image", patient["image"][1])):
        turned = tmp_path / f"turned_{key}.nii"
        nib.save(oriented(axes)(nib.load(file)), turned)
        files = [patient["image"][0], str(turned)] if key == "image" else str(turned)
        found = training_chain()({**patient, key: files})
        assert torch.equal(found["image"], true["image"]) and torch.equal(found["label"], true["label"])


def test_labels_that_resampling_left_beside_whole_numbers_are_rounded(write_patient: WritePatient, head: Head):
    true = training_chain()(write_patient())["label"]
    near = write_patient("near", seg=head["seg"].astype(np.float32) * np.float32(0.9999))
    assert torch.equal(training_chain()(near)["label"], true)
    far = write_patient("far", seg=head["seg"].astype(np.float32) * np.float32(0.99))
    with pytest.raises(RuntimeError) as error:  # MONAI's, which names the transform
        training_chain()(far)
    assert "holds the label 0.99, 1.98" in str(error.value.__cause__)
    one_far = head["seg"] * np.float32(1.0000001) + np.float32(0.25) * (head["seg"] == 2)
    with pytest.raises(RuntimeError) as error:
        training_chain()(write_patient("one_far", seg=one_far.astype(np.float32)))
    assert "holds the label 2.25; " in str(error.value.__cause__)


def test_a_label_map_is_loaded_on_its_own_grid(write_patient: WritePatient, head: Head):
    patient = write_patient(change=oriented("RAS"))
    label = Compose(load_labels("label", BRATS_VALUES))({"label": patient["label"]})["label"]
    assert (label.shape, label.dtype) == ((1, 48, 48, 40), torch.uint8)
    expected = np.where(head["seg"] == 4, 3, head["seg"])[::-1, ::-1]
    assert np.array_equal(label[0].numpy(), expected)


def test_soft_labels_are_the_one_hot_map_resized_bilinearly_to_within_one_step(phantom_cases: list[dict[str, Any]]):
    chain = training_preprocessing(AxialWindow(size_px=64), soft_labels=True, label_values=BRATS_VALUES)
    shares = expand_labels(chain(phantom_cases[0])["label"])
    seg = np.asarray(nib.load(phantom_cases[0]["label"]).dataobj)[..., 60:135]
    classes = torch.from_numpy(np.where(seg == 4, 3, seg).astype(np.int64)).permute(2, 0, 1)
    one_hot = functional.one_hot(classes, NUM_CLASSES).permute(0, 3, 1, 2).float()
    resized = functional.interpolate(one_hot, size=(64, 64), mode="bilinear", align_corners=False)
    step = 1 / 255 + 1e-6
    assert ((shares > 0) & (shares < 1)).any()  # the labels are soft
    assert (shares[:, 1:] - resized[:, 1:]).abs().max() <= step
    # What the three tumour classes lose to rounding, the background gains.
    assert (shares[:, 0] - resized[:, 0]).abs().max() <= 3 * step
    assert ((shares[:, 1:] == 1) == (resized[:, 1:] > 1 - 1e-6)).all()


@pytest.mark.parametrize("soft_labels", [False, True])
def test_the_classes_of_a_pixel_sum_to_1(write_patient: WritePatient, soft_labels: bool):
    shares = expand_labels(training_chain(size_px=32, soft_labels=soft_labels)(write_patient())["label"])
    assert (shares.shape, shares.dtype) == ((30, 4, 32, 32), torch.float32)
    assert shares.min() >= 0
    torch.testing.assert_close(shares.sum(1), torch.ones(30, 32, 32), rtol=0, atol=1e-6)


def test_a_pixel_of_class_2_expands_to_0_0_1_0_in_both_cached_forms():
    index = torch.full((1, 1, 1, 1), 2, dtype=torch.uint8)
    share = torch.tensor([0, 255, 0], dtype=torch.uint8).reshape(1, 3, 1, 1)
    assert expand_labels(index).flatten().tolist() == [0, 0, 1, 0]
    assert expand_labels(share).flatten().tolist() == [0, 0, 1, 0]


# Augmentation


def labelled_batch(channels: int = 1) -> dict[str, torch.Tensor]:
    """Six slices; every pixel of the brain has a value of its own, and the label is the value's last two bits."""
    values = torch.arange(1.0, 65.0).reshape(8, 8)
    image = torch.zeros(6, 2, 12, 12)
    image[:, 0, 1:9, 3:11], image[:, 1, 1:9, 3:11] = values, values + 100
    label = (image[:, :1] % 4).to(torch.uint8)
    return {"image": image, "label": label.repeat(1, channels, 1, 1), "case": torch.arange(6)}


def test_a_flip_turns_height_and_width_and_never_swaps_the_modalities():
    before = labelled_batch()
    after = augmentation(flip_probability=1.0, affine_probability=0, gain_range=0, offset_range=0)(labelled_batch())
    assert torch.equal(torch.as_tensor(after["image"]), before["image"].flip(2, 3))


def test_a_flip_never_swaps_the_classes_of_soft_labels():
    before = labelled_batch()
    before["label"] = torch.cat([before["label"], 10 + before["label"], 20 + before["label"]], dim=1)
    after = augmentation(flip_probability=1.0, affine_probability=0)({**before})
    assert torch.equal(torch.as_tensor(after["label"]), before["label"].flip(2, 3))


def test_each_axis_is_flipped_in_about_half_of_the_batches():
    chain = augmentation(affine_probability=0, gain_range=0, offset_range=0).set_random_state(0)
    before, seen = labelled_batch()["image"], []
    variants = {(): before, (2,): before.flip(2), (3,): before.flip(3), (2, 3): before.flip(2, 3)}
    for _ in range(80):
        after = torch.as_tensor(chain(labelled_batch())["image"])
        seen += [axes for axes, variant in variants.items() if torch.equal(after, variant)]
    assert len(seen) == 80
    assert all(10 <= seen.count(axes) <= 30 for axes in variants)


def test_rotation_and_scaling_move_label_and_image_together_and_mix_neither_slices_nor_modalities():
    square = torch.zeros(48, 48)
    square[12:32, 16:30] = 1
    values = torch.arange(1.0, 7).reshape(3, 2, 1, 1)  # three slices, two modalities, each its own grey
    batch = {"image": square * values, "label": (3 * square).to(torch.uint8).expand(3, 1, 48, 48).clone()}
    chain = augmentation(flip_probability=0, affine_probability=1, gain_range=0, offset_range=0).set_random_state(5)
    for _ in range(5):
        after = chain({**batch})
        image, label = torch.as_tensor(after["image"]), torch.as_tensor(after["label"])
        shape = image / values  # the same interpolated square everywhere
        assert not torch.equal(shape[0, 0], square)
        assert torch.allclose(shape, shape[:1, :1].expand_as(shape), atol=1e-5)
        assert label.dtype == torch.uint8 and label.unique().tolist() == [0, 3]
        assert torch.equal(label[:, :1][shape[:, :1] > 0.99].unique(), torch.tensor([3], dtype=torch.uint8))
        assert torch.equal(label[:, :1][shape[:, :1] == 0].unique(), torch.tensor([0], dtype=torch.uint8))


def test_label_and_image_move_together_and_no_label_is_lost():
    chain = augmentation(affine_probability=0, gain_range=0, offset_range=0).set_random_state(3)
    before = labelled_batch()
    for _ in range(10):
        after = chain(labelled_batch())
        assert torch.equal(
            torch.as_tensor(after["label"]), (torch.as_tensor(after["image"])[:, :1] % 4).to(torch.uint8)
        )
        assert torch.equal(after["label"].flatten().bincount(), before["label"].flatten().bincount())
        assert torch.equal(after["case"], before["case"])


def test_augmentation_leaves_as_many_background_zeros_as_there_were():
    chain = augmentation(affine_probability=0).set_random_state(3)
    for _ in range(10):
        after = chain(labelled_batch())["image"]
        assert torch.equal((after != 0).sum((2, 3)), torch.full((6, 2), 64))


def test_gain_and_offset_differ_between_the_slices_of_a_batch():
    after = augmentation(flip_probability=0.0, affine_probability=0).set_random_state(3)(labelled_batch())["image"]
    assert len(after[:, :, 4, 6].unique()) == 12


def test_artefacts_change_the_brain_and_leave_the_background_zero_and_the_label_alone():
    before = labelled_batch()
    chain = augmentation(0, 0, gain_range=0, offset_range=0, artefact_probability=1).set_random_state(3)
    after = chain(labelled_batch())
    image = torch.as_tensor(after["image"])
    assert torch.isfinite(image).all()
    assert not image[before["image"] == 0].any()
    assert (image != before["image"])[before["image"] != 0].all()
    assert torch.equal(torch.as_tensor(after["label"]), before["label"])


def test_each_artefact_alone_changes_a_batch(phantom_cases: list[dict[str, Any]]):
    chain = training_preprocessing(AxialWindow(size_px=64), label_values=BRATS_VALUES)
    slices = chain(phantom_cases[0])["image"][10:20].float()
    for change in artefacts(1.0):
        after = torch.as_tensor(change({"image": slices.clone()})["image"])
        assert not torch.equal(after, slices), change.transform
        assert (after - slices).abs().mean() < slices.abs().mean(), change.transform  # disturbed, not destroyed


# Back to the patient's grid


def logits_of(patient: dict[str, Any], size_px: int) -> torch.Tensor:
    """What a perfect network would answer: (4, size_px, size_px, D)."""
    from monai.transforms import Orientationd

    chain = [
        *load_labels("label", BRATS_VALUES),
        Orientationd(keys="label", axcodes="LPS", labels=None),
        Resized(keys="label", spatial_size=(size_px, size_px, -1), mode="nearest-exact"),
    ]
    classes = Compose(chain)({"label": patient["label"]})["label"].as_tensor()[0].long()
    return 20 * functional.one_hot(classes, NUM_CLASSES).movedim(-1, 0).float()


def dice_to_original(label_map: MetaTensor, file: str) -> dict[str, float]:
    seg = np.asarray(nib.load(file).dataobj)
    truth = labels_to_regions(torch.from_numpy(np.where(seg == 4, 3, seg).astype(np.uint8))[None])
    found = labels_to_regions(label_map.as_tensor())
    both = (truth & found).flatten(1).sum(1)
    scores = 2 * both / (truth.flatten(1).sum(1) + found.flatten(1).sum(1))
    return dict(zip(("WT", "TC", "ET"), scores.tolist(), strict=True))


TILTED = nib.affines.from_matvec(
    nib.eulerangles.euler2mat(x=0.2, y=0.1, z=0.15) @ np.diag([-1.0, -1.2, 2.0]), [20.0, -30.0, 7.0]
)


@pytest.mark.parametrize(
    ("affine", "axes"),
    [(LPS, "LPS"), (LPS, "RAS"), (LPS, "SPL"), (np.diag([-0.9, -1.1, 2.5, 1.0]), "ASR"), (TILTED, "LPS")],
    ids=["LPS", "RAS", "SPL", "anisotropic ASR", "tilted"],
)
def test_a_perfect_answer_comes_back_on_the_patients_own_grid(
    write_patient: WritePatient, affine: np.ndarray, axes: str
):
    patient = write_patient(affine=affine, change=oriented(axes))
    chain = image_chain(size_px=32)
    preprocessed = chain({"case": "P1", "image": patient["image"]})
    back = postprocessing(chain)({**preprocessed, "pred": logits_of(patient, 32)})
    source = nib.load(patient["label"])
    label_map, probabilities = back["label_map"], back["pred"]
    assert (label_map.shape, label_map.dtype) == ((1, *source.shape), torch.uint8)
    assert probabilities.shape == (4, *source.shape)
    np.testing.assert_allclose(label_map.affine.numpy(), source.affine, atol=1e-5)
    torch.testing.assert_close(probabilities.sum(0).as_tensor(), torch.ones(source.shape), rtol=0, atol=1e-5)
    assert torch.equal(label_map[0].as_tensor().long(), probabilities.as_tensor().argmax(0))
    scores = dice_to_original(label_map, patient["label"])
    assert min(scores.values()) > 0.9, scores


def test_a_perfect_answer_for_a_generated_patient_comes_back_with_dice_above_0_9(phantom_cases: list[dict[str, Any]]):
    chain = preprocessing(AxialWindow(size_px=128))
    preprocessed = chain({"image": phantom_cases[0]["image"]})
    back = postprocessing(chain)({**preprocessed, "pred": logits_of(phantom_cases[0], 128)})
    assert back["label_map"].shape == (1, 120, 120, 155)
    scores = dice_to_original(back["label_map"], phantom_cases[0]["label"])
    assert min(scores.values()) > 0.9, scores
