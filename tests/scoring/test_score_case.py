"""BraTS's scores of a case: by hand, against slow plain rules, and against what the organisers' code printed."""

from __future__ import annotations

import csv
import itertools
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms.labels import ENHANCING, NECROTIC_CORE, OEDEMA, REGIONS
from workflows.scoring import surface_distances
from workflows.scoring.lesions import score_lesions
from workflows.scoring.pixel_sums import region_dice
from workflows.scoring.score_case import EMPTY_HD95_MM, SCORED, RegionScores, score_case
from workflows.scoring.surface_distances import Surface, corner_areas_mm2, hd95_mm, surface_dice

MILLIMETRE = (1.0, 1.0, 1.0)
SPACINGS = [MILLIMETRE, (1.0, 1.0, 2.0), (0.5, 1.0, 4.0)]
PAIRS = os.environ.get("BRATS_EVALUATION_PAIRS")

Voxel = tuple[int, int, int]
Voxels = set[Voxel]


def volume(*corners: Voxel, shape: Voxel = (9, 9, 9), label: int = ENHANCING) -> np.ndarray:
    """Zeros with one labelled voxel at each of `corners`."""
    array = np.zeros(shape, np.uint8)
    for corner in corners:
        array[corner] = label
    return array


def enhancing(prediction: np.ndarray, reference: np.ndarray, **options: Any) -> RegionScores:
    return score_case(prediction, reference, **{"spacing_mm": MILLIMETRE, "rules": "2023", **options})["ET"]


# One voxel, two voxels


def test_one_voxel_predicted_right_is_perfect():
    scores = enhancing(volume((4, 4, 4)), volume((4, 4, 4)))
    assert (scores.dice, scores.iou, scores.hd95_mm) == (1, 1, 0)
    assert (scores.sensitivity, scores.specificity, scores.precision) == (1, 1, 1)
    assert scores.volume_ml == scores.reference_ml == 0.001


def test_two_voxels_two_mm_apart_have_hd95_of_two():
    scores = enhancing(volume((4, 4, 4)), volume((6, 4, 4)))
    assert (scores.dice, scores.iou, scores.hd95_mm, scores.sensitivity, scores.precision) == (0, 0, 2, 0, 0)
    assert scores.specificity == 727 / 728


@pytest.mark.parametrize(("axis", "distance"), [(0, 1.0), (1, 2.0), (2, 8.0)])
def test_two_voxels_two_steps_apart_are_two_spacings_apart(axis: int, distance: float):
    other = [4, 4, 4]
    other[axis] += 2
    spacing = (0.5, 1.0, 4.0)
    assert enhancing(volume((4, 4, 4)), volume(tuple(other)), spacing_mm=spacing).hd95_mm == distance


@pytest.mark.parametrize("hd95", ["brats", "monai"])
def test_voxels_on_the_border_of_the_image_have_a_surface_all_around(hd95: str):
    one, other = volume((0, 0, 0), shape=(9, 1, 1)), volume((8, 0, 0), shape=(9, 1, 1))
    assert enhancing(one, other, hd95=hd95).hd95_mm == 8


def test_dice_and_its_relatives_come_from_counts():
    prediction, reference = volume((0, 0, 0), (1, 0, 0), (2, 0, 0)), volume((2, 0, 0), (3, 0, 0))
    scores = enhancing(prediction, reference)  # 1 both, 2 predicted only, 1 true only, 725 neither
    assert scores.dice == 2 / 5
    assert scores.iou == 1 / 4
    assert scores.sensitivity == 1 / 2
    assert scores.precision == 1 / 3
    assert scores.specificity == 725 / 727


def test_volumes_are_in_ml_and_their_error_has_a_sign():
    prediction, reference = volume((0, 0, 0), (1, 0, 0), (2, 0, 0)), volume((2, 0, 0))
    scores = enhancing(prediction, reference, spacing_mm=(1, 2, 5))
    assert (scores.volume_ml, scores.reference_ml) == (0.03, 0.01)
    assert scores.volume_error_ml == pytest.approx(0.02)
    assert enhancing(reference, prediction).volume_error_ml < 0


def test_regions_are_nested_and_classes_are_scored_by_name():
    reference = np.array([[[NECROTIC_CORE, OEDEMA, ENHANCING, 0]]], np.uint8)
    scores = score_case(np.zeros_like(reference), reference, MILLIMETRE)
    assert list(scores) == ["WT", "TC", "ET", "necrotic core", "oedema", "enhancing tumour"] == list(SCORED)
    voxels = [round(1000 * of.reference_ml) for of in scores.values()]
    assert voxels == [3, 2, 1, 1, 1, 1]
    assert scores["ET"] == scores["enhancing tumour"]


# Empty masks


@pytest.mark.parametrize("rules", ["2020", "2023"])
def test_both_empty_is_perfect(rules: str):
    scores = enhancing(volume(), volume(), rules=rules)
    perfect = dict(zip(scores, [1, 1, 0, 1, 1, 1, 0, 0, 0, 1, 0, 0, 0, 0, 1], strict=True))
    assert scores == perfect
    assert scores.empty_mask == "both"


@pytest.mark.parametrize(("rules", "penalty"), [("2020", 373.1287), ("2023", 374.0)])
def test_one_empty_is_a_dice_of_zero_and_a_distance_of_the_years_penalty(rules: str, penalty: float):
    missed, invented = (enhancing(*pair, rules=rules) for pair in _one_empty())
    for scores in (missed, invented):
        assert (scores.dice, scores.iou, scores.sensitivity, scores.precision) == (0, 0, 0, 0)
        assert scores.hd95_mm == pytest.approx(penalty, abs=1e-4)
    assert (missed.empty_mask, invented.empty_mask) == ("prediction", "reference")
    assert (missed.specificity, invented.specificity) == (1, 728 / 729)


def test_one_empty_lesion_by_lesion():
    missed, invented = (enhancing(*pair, spacing_mm=(4, 4, 4)) for pair in _one_empty())  # one voxel: 64 mm³
    assert (missed.lesion_dice, missed.lesion_hd95_mm) == (0, 374)
    assert (missed.lesions_found, missed.lesions_missed, missed.lesions_invented) == (0, 1, 0)
    assert (invented.lesion_dice, invented.lesion_hd95_mm) == (0, 374)
    assert (invented.lesions_found, invented.lesions_missed, invented.lesions_invented) == (0, 0, 1)


def _one_empty() -> list[tuple[np.ndarray, np.ndarray]]:
    return [(volume(), volume((4, 4, 4))), (volume((4, 4, 4)), volume())]


def test_the_penalty_of_2020_is_the_diagonal_of_brats_images():
    assert EMPTY_HD95_MM["2020"] == math.sqrt(240**2 + 240**2 + 155**2)


def test_a_model_that_predicts_nothing_is_right_only_where_there_is_nothing():
    reference = volume((4, 4, 4), label=OEDEMA)
    scores = score_case(np.zeros_like(reference), reference, MILLIMETRE)
    assert [scores[region].dice for region in REGIONS] == [0, 1, 1]
    assert [scores[region].hd95_mm for region in REGIONS] == [EMPTY_HD95_MM["2020"], 0, 0]


def test_a_model_that_predicts_tumour_everywhere_gets_nothing_for_what_is_not_there():
    reference = volume((4, 4, 4), label=OEDEMA)
    scores = score_case(np.full_like(reference, ENHANCING), reference, MILLIMETRE)
    assert [scores[region].dice for region in REGIONS] == [2 / 730, 0, 0]
    assert [scores[region].sensitivity for region in REGIONS] == [1, 0, 0]
    assert [scores[region].specificity for region in REGIONS] == [0, 0, 0]
    assert [scores[region].lesions_invented for region in REGIONS] == [0, 1, 1]


# Lesions


def bar(voxels: int, start: int = 0, shape: Voxel = (90, 3, 3)) -> np.ndarray:
    """`voxels` in a row along the first axis."""
    array = np.zeros(shape, np.uint8)
    array[start : start + voxels, 1, 1] = ENHANCING
    return array


def counts(scores: RegionScores) -> tuple[int, int, int]:
    return scores.lesions_found, scores.lesions_missed, scores.lesions_invented


@pytest.mark.parametrize(("mm3", "missed"), [(50, 0), (51, 1)])
def test_a_lesion_of_50_mm3_is_left_out_and_one_of_51_is_not(mm3: int, missed: int):
    scores = enhancing(np.zeros_like(bar(mm3)), bar(mm3))
    assert counts(scores) == (0, missed, 0)
    assert (scores.lesion_dice, scores.lesion_hd95_mm) == ((0, 374) if missed else (1, 0))


def test_the_50_mm3_are_millimetres_not_voxels():
    assert counts(enhancing(bar(50), bar(50), spacing_mm=(1, 1, 1.5))) == (1, 0, 0)
    assert counts(enhancing(bar(51), bar(51), spacing_mm=(1, 1, 0.5))) == (0, 0, 0)


def test_a_prediction_on_a_lesion_too_small_to_count_is_neither_scored_nor_invented():
    scores = enhancing(bar(60), bar(50))
    assert counts(scores) == (0, 0, 0)
    assert (scores.lesion_dice, scores.lesion_hd95_mm) == (1, 0)


@pytest.mark.parametrize(("gap", "lesions"), [(6, 1), (7, 2)])
def test_two_lesions_are_one_if_their_surroundings_meet(gap: int, lesions: int):
    # Three voxels of surroundings on either side: in a gap of 6 they are neighbours, in one of 7 a voxel lies between.
    reference = bar(20, start=0) + bar(20, start=20 + gap)
    assert counts(enhancing(np.zeros_like(reference), reference, spacing_mm=(2, 2, 2))) == (0, lesions, 0)


@pytest.mark.parametrize(("gap", "found", "invented"), [(2, 1, 0), (3, 0, 1)])
def test_a_prediction_that_touches_only_the_dilated_rim_finds_the_lesion(gap: int, found: int, invented: int):
    scores = enhancing(bar(5, start=60 + gap), bar(60))
    assert counts(scores) == (found, 1 - found, invented)
    assert scores.lesion_dice == 0
    assert scores.lesion_hd95_mm < 374 if found else scores.lesion_hd95_mm == 374


def test_the_surroundings_reach_three_steps_along_an_axis_but_not_into_the_corner():
    reference = np.zeros((11, 11, 11), np.uint8)
    reference[5, 5, 5] = ENHANCING
    expected = {(3, 0, 0): True, (3, 3, 0): True, (2, 2, 2): True, (3, 3, 1): False, (3, 2, 2): False, (4, 0, 0): False}
    for (x, y, z), found in expected.items():
        prediction = volume((5 + x, 5 + y, 5 + z), shape=(11, 11, 11))
        assert counts(enhancing(prediction, reference, spacing_mm=(4, 4, 4))) == (found, not found, not found)


def test_a_piece_on_two_lesions_is_held_against_each_of_them_whole():
    reference = bar(20, start=0) + bar(20, start=40)
    scores = enhancing(bar(60), reference, spacing_mm=(2, 2, 2))
    assert counts(scores) == (2, 0, 0)
    assert scores.lesion_dice == 2 * 20 / (60 + 20)
    assert scores.dice == 2 * 40 / (60 + 40)


def test_all_pieces_on_one_lesion_are_scored_together():
    scores = enhancing(bar(20, start=0) + bar(20, start=40), bar(60))
    assert counts(scores) == (1, 0, 0)
    assert scores.lesion_dice == scores.dice == 2 * 40 / (40 + 60)
    assert scores.lesion_hd95_mm == scores.hd95_mm


def test_missed_lesions_and_inventions_weigh_as_much_as_found_ones():
    reference = bar(20, start=0) + bar(20, start=30)
    prediction = bar(20, start=0) + bar(20, start=60)
    scores = enhancing(prediction, reference, spacing_mm=(2, 2, 2))
    assert counts(scores) == (1, 1, 1)
    assert scores.lesion_dice == pytest.approx(1 / 3)
    assert scores.lesion_hd95_mm == pytest.approx(2 * 374 / 3)


def test_pieces_that_touch_by_a_corner_are_one():
    assert enhancing(volume((0, 0, 0), (1, 1, 1), (3, 3, 3)), volume()).lesions_invented == 2


# The surface


def test_areas_of_corners_by_hand():
    areas = corner_areas_mm2((1.0, 2.0, 3.0))
    assert areas[0] == areas[255] == 0
    assert areas[0b11110000] == areas[0b00001111] == 6  # a face across the first axis: 2 · 3
    assert areas[0b11001100] == 3  # across the second: 1 · 3
    assert areas[0b10101010] == 2  # across the third: 1 · 2
    corner = math.sqrt((2 * 3) ** 2 + (1 * 3) ** 2 + (1 * 2) ** 2) / 8  # triangle through three half edges
    assert areas[[1 << bit for bit in range(8)]] == pytest.approx([corner] * 8)
    assert areas == pytest.approx(areas[::-1])  # inside and outside share their surface


def test_hd95_leaves_out_the_farthest_twentieth_of_the_area():
    plate = np.zeros((30, 30, 40), bool)
    plate[:, :, :2] = True
    spiked = plate.copy()
    spiked[15, 15, 2:22] = True  # 20 voxels high: about 40 of 2000 mm²
    assert hd95_mm(spiked, plate, MILLIMETRE) < 1
    spiked[10:20, 10:20, 2:22] = True  # 800 mm² of wall
    assert hd95_mm(spiked, plate, MILLIMETRE) > 15


@pytest.mark.parametrize(
    ("apart", "spacing_mm", "expected"),
    [
        (2, 1.0, 1),  # the corners of the one lie 2 mm and 1 mm from the nearest of the other
        (3, 1.0, 1 / 2),  # 3 mm and 2 mm
        (4, 1.0, 0),  # 4 mm and 3 mm
        (4, 0.5, 1),
        (1, 2.5, 1 / 2),  # 2.5 mm and, where the voxels touch, 0
        (2, 2.5, 0),
    ],
)
def test_surface_dice_counts_corners_up_to_two_mm_apart(apart: int, spacing_mm: float, expected: float):
    scores = enhancing(volume((1, 4, 4)), volume((1 + apart, 4, 4)), spacing_mm=[spacing_mm] * 3)
    assert scores.surface_dice_2mm == pytest.approx(expected)


def test_surface_dice_of_one_empty_mask_is_zero_and_of_two_is_one():
    assert [enhancing(*pair).surface_dice_2mm for pair in _one_empty()] == [0, 0]
    assert enhancing(volume(), volume()).surface_dice_2mm == 1


def test_surface_dice_weighs_by_area():
    plate = np.zeros((30, 30, 12), np.uint8)
    plate[:, :, :2] = ENHANCING  # 2040 mm² or a little less, since edges are bevelled
    tower = plate.copy()
    tower[10:20, 10:20, 2:12] = ENHANCING  # beyond 2 mm lie walls of about 40 · 8 mm² and a roof of 100 mm²
    assert enhancing(tower, plate).surface_dice_2mm == pytest.approx(1 - 420 / (2040 + 2440), abs=0.02)


def test_hd95_of_an_empty_mask_is_refused():
    with pytest.raises(ValueError, match="empty"):
        hd95_mm(volume() > 0, volume((1, 1, 1)) > 0, MILLIMETRE)


# What is refused


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prediction": np.zeros((9, 9, 8))}, r"\(9, 9, 8\).*\(9, 9, 9\)"),
        ({"prediction": np.zeros((1, 9, 9, 9)), "reference": np.zeros((1, 9, 9, 9))}, "same three axes"),
        ({"prediction": volume((1, 1, 1), label=4)}, "prediction holds 4"),
        ({"reference": volume((1, 1, 1), label=7)}, "reference holds 7"),
        ({"reference": np.full((9, 9, 9), 0.5)}, "reference holds 0.5"),
        ({"reference": np.full((9, 9, 9), np.nan)}, "reference holds nan"),
        ({"reference": np.full((9, 9, 9), -1)}, "reference holds -1"),
        ({"spacing_mm": (1, 1)}, "three lengths"),
        ({"spacing_mm": (1, 1, 0)}, "above 0"),
        ({"rules": "2021"}, "2020, 2023"),
        ({"hd95": "mean"}, "brats and monai"),
    ],
)
def test_what_cannot_be_scored_is_named(change: dict[str, Any], message: str):
    arguments = {"prediction": volume(), "reference": volume(), "spacing_mm": MILLIMETRE, **change}
    with pytest.raises(ValueError, match=message):
        score_case(**arguments)


def test_the_module_imports_neither_torch_nor_monai():
    code = "import sys, workflows.scoring.score_case; assert not {'torch', 'monai', 'skimage'} & set(sys.modules)"
    root = Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True)


# Properties

SHAPES = st.tuples(*[st.integers(1, 8)] * 3)


@st.composite
def label_maps(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Two label maps, from empty to full; the second one is at times the first with some voxels changed."""
    shape, rng = draw(SHAPES), np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    first, second = (
        np.where(rng.random(shape) < draw(st.sampled_from([0, 0.03, 0.2, 0.7, 1])), rng.integers(1, 4, shape), 0)
        for _ in range(2)
    )
    if draw(st.booleans()):
        second = np.where(rng.random(shape) < 0.1, second, first)
    return first.astype(np.uint8), second.astype(np.uint8)


@settings(derandomize=True, deadline=None, max_examples=40)
@given(label_maps(), st.sampled_from(SPACINGS), st.sampled_from(["2020", "2023"]))
def test_scores_keep_their_bounds_and_their_symmetry(pair: tuple[np.ndarray, np.ndarray], spacing: Any, rules: Any):
    scores, swapped = score_case(*pair, spacing, rules), score_case(*pair[::-1], spacing, rules)
    for name, of in scores.items():
        assert (of.dice, of.iou, of.hd95_mm) == (swapped[name].dice, swapped[name].iou, swapped[name].hd95_mm)
        assert of.surface_dice_2mm == pytest.approx(swapped[name].surface_dice_2mm)
        assert (of.sensitivity, of.volume_ml) == (swapped[name].precision, swapped[name].reference_ml)
        shares = (of.dice, of.iou, of.sensitivity, of.specificity, of.precision, of.lesion_dice, of.surface_dice_2mm)
        assert all(0 <= share <= 1 for share in shares)
        assert of.iou <= of.dice
        assert 0 <= of.hd95_mm <= EMPTY_HD95_MM[rules]
        assert 0 <= of.lesion_hd95_mm <= 374


@settings(derandomize=True, deadline=None, max_examples=40)
@given(label_maps())
def test_dice_is_the_one_that_training_reports(pair: tuple[np.ndarray, np.ndarray]):
    scores = score_case(*pair, MILLIMETRE)
    expected = region_dice(*(torch.from_numpy(array)[None] for array in pair))
    assert {region: scores[region].dice for region in REGIONS} == expected


@settings(derandomize=True, deadline=None, max_examples=20)
@given(label_maps(), st.integers(0, 3), st.integers(0, 3))
def test_background_around_a_case_changes_only_its_specificity(
    pair: tuple[np.ndarray, np.ndarray], before: int, after: int
):
    padded = [np.pad(array, (before, after)) for array in pair]
    for scores, around in zip(*(score_case(*arrays, MILLIMETRE).values() for arrays in (pair, padded)), strict=True):
        assert {**scores, "specificity": 0} == {**around, "specificity": 0}


@settings(derandomize=True, deadline=None, max_examples=40)
@given(label_maps(), st.sampled_from(SPACINGS))
def test_monais_hd95_is_monais_on_the_whole_volume(pair: tuple[np.ndarray, np.ndarray], spacing: Any):
    from monai.metrics import compute_hausdorff_distance

    prediction, reference = (array > 0 for array in pair)
    if prediction.any() and reference.any():
        whole = [torch.from_numpy(np.pad(mask, 2))[None, None] for mask in (prediction, reference)]
        expected = compute_hausdorff_distance(*whole, include_background=True, percentile=95, spacing=list(spacing))
        assert hd95_mm(prediction, reference, spacing, "monai") == pytest.approx(float(expected))


# A slow plain reading of the lesion-wise rules, on sets of voxels

NEIGHBOURS_26 = [step for step in itertools.product((-1, 0, 1), repeat=3) if any(step)]
NEIGHBOURS_18 = [step for step in NEIGHBOURS_26 if sum(map(abs, step)) <= 2]


def moved(voxel: Voxel, step: Voxel) -> Voxel:
    return voxel[0] + step[0], voxel[1] + step[1], voxel[2] + step[2]


def dilated(voxels: Voxels) -> Voxels:
    for _ in range(3):
        voxels = voxels | {moved(voxel, step) for voxel in voxels for step in NEIGHBOURS_18}
    return voxels


def components(voxels: Voxels) -> list[Voxels]:
    left, found = set(voxels), []
    while left:
        piece, front = set(), {left.pop()}
        while front:
            piece |= front
            front = {moved(voxel, step) for voxel in front for step in NEIGHBOURS_26} & left
            left -= front
        found.append(piece)
    return found


def plain_lesion_scores(prediction: Voxels, reference: Voxels, voxel_mm3: float) -> tuple[float, int, int, int]:
    """Mean Dice, found, missed, invented."""
    lesions = [surroundings & reference for surroundings in components(dilated(reference))]
    pieces = components(prediction)
    dice, found, missed, owned = [], 0, 0, []
    for lesion in lesions:
        rim = dilated(lesion)
        mine = [piece for piece in pieces if piece & rim]
        owned += mine
        if len(lesion) * voxel_mm3 <= 50:
            continue
        union = set().union(*mine)
        dice.append(2 * len(union & lesion) / (len(union) + len(lesion)))
        found, missed = found + bool(mine), missed + (not mine)
    invented = sum(piece not in owned for piece in pieces)
    return (sum(dice) / (len(dice) + invented) if dice or invented else 1.0), found, missed, invented


@settings(derandomize=True, deadline=None, max_examples=20)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.01, 0.03, 0.06]), st.sampled_from([20.0, 60.0]))
def test_lesions_are_matched_as_the_plain_rules_say(seed: int, density: float, voxel_mm3: float):
    rng = np.random.default_rng(seed)
    prediction, reference = rng.random((2, 26, 3, 6)) < density
    spacing = (voxel_mm3, 1.0, 1.0)
    scores = score_lesions(prediction, reference, spacing, lambda one, other: 0.0)
    sets = [set(map(tuple, np.argwhere(mask).tolist())) for mask in (prediction, reference)]
    expected = plain_lesion_scores(*sets, voxel_mm3)
    assert (scores.found, scores.missed, scores.invented) == expected[1:]
    assert scores.dice == pytest.approx(expected[0])


# Against the package that the organisers use


@pytest.fixture(scope="module")
def package() -> Any:
    return pytest.importorskip("surface_distance", reason="the package surface-distance is not installed")


def packages_hd95(package: Any, prediction: np.ndarray, reference: np.ndarray, spacing: Any) -> float:
    return package.compute_robust_hausdorff(package.compute_surface_distances(reference, prediction, spacing), 95)


@pytest.mark.parametrize("spacing", [*SPACINGS, (0.7, 0.7, 5.0)])
def test_areas_are_those_of_the_package(package: Any, spacing: Any):
    from surface_distance.lookup_tables import create_table_neighbour_code_to_surface_area

    assert corner_areas_mm2(spacing) == pytest.approx(create_table_neighbour_code_to_surface_area(spacing), rel=1e-14)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@settings(derandomize=True, deadline=None, max_examples=40)
@given(pair=label_maps(), spacing=st.sampled_from(SPACINGS))
def test_hd95_of_small_masks_is_the_packages(package: Any, pair: tuple[np.ndarray, np.ndarray], spacing: Any):
    prediction, reference = (array > 0 for array in pair)
    if prediction.any() and reference.any():
        assert hd95_mm(prediction, reference, spacing) == packages_hd95(package, prediction, reference, spacing)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@settings(derandomize=True, deadline=None, max_examples=60)
@given(pair=label_maps(), spacing=st.sampled_from(SPACINGS), tolerance_mm=st.sampled_from([0.0, 1.0, 2.0, 3.5]))
def test_surface_dice_is_the_packages(
    package: Any, pair: tuple[np.ndarray, np.ndarray], spacing: Any, tolerance_mm: float
):
    prediction, reference = (array > 0 for array in pair)
    if prediction.any() and reference.any():
        distances = package.compute_surface_distances(reference, prediction, spacing)
        expected = package.compute_surface_dice_at_tolerance(distances, tolerance_mm)
        surfaces = (Surface(mask, spacing) for mask in (prediction, reference))
        assert surface_dice(*surfaces, tolerance_mm) == pytest.approx(expected, abs=1e-12)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("seed", range(12))
def test_hd95_is_the_packages_where_most_corners_are_never_measured(
    package: Any, seed: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(surface_distances, "FEW_CORNERS", 0)
    rng, spacing = np.random.default_rng(seed), SPACINGS[seed % 3]
    grid = np.indices((40, 30, 24))
    prediction, reference = (
        ((grid - rng.uniform(8, 20, (3, 1, 1, 1))) ** 2).sum(0) < rng.uniform(3, 9) ** 2 for _ in range(2)
    )
    prediction |= rng.random(prediction.shape) < rng.choice([0, 0.0003, 0.01])
    expected = packages_hd95(package, prediction, reference, spacing)
    assert hd95_mm(prediction, reference, spacing) == pytest.approx(expected, abs=1e-9)


# What the organisers' code printed for real pairs

needs_pairs = pytest.mark.skipif(not PAIRS, reason="BRATS_EVALUATION_PAIRS is unset: no real pairs to score")
TOLERANCE = {"hd95_mm": 1e-3}


def expected_rows() -> list[dict[str, str]]:
    if not PAIRS:
        return []
    with (Path(PAIRS) / "expected.csv").open() as file:
        return list(csv.DictReader(file))


def read_pair(case: str) -> tuple[list[np.ndarray], Any]:
    images = [nib.load(Path(str(PAIRS)) / kind / f"{case}.nii.gz") for kind in ("prediction", "reference")]
    arrays = [np.asanyarray(image.dataobj) for image in images]
    return [np.where(array == 4, ENHANCING, array) for array in arrays], images[0].header.get_zooms()


@needs_pairs
@pytest.mark.parametrize("case", sorted({row["case"] for row in expected_rows()}) or ["none"])
def test_real_pairs_get_what_the_organisers_code_printed(case: str):
    pair, spacing = read_pair(case)
    scores = score_case(*pair, spacing, rules="2023")
    for row in (row for row in expected_rows() if row["case"] == case):
        of = scores[row["region"]]
        assert of["reference_ml"] * 1000 == pytest.approx(float(row["reference_mm3"]))
        for name in row.keys() - {"case", "region", "reference_mm3"}:
            assert of[name] == pytest.approx(float(row[name]), abs=TOLERANCE.get(name, 1e-4)), (row["region"], name)
