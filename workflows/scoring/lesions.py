"""BraTS 2023's lesion-wise scores: each lesion counts as much as any other, and so does each invention.

The rules are those for gliomas (GLI) in the organisers' public evaluation code. Lesions of the reference whose
surroundings meet count as one. A connected piece of the prediction belongs to every lesion whose surroundings it
touches, and is held against each of them whole. A lesion too small to be scored still owns the pieces that touch it:
they are neither scored nor invented.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from transforms.boxes import bounding_box, widened
from workflows.scoring.surface_distances import Mask, Spacing

TOUCHING = ndimage.generate_binary_structure(3, 3)  # 26 neighbours
DILATION = ndimage.generate_binary_structure(3, 2)  # 18 neighbours
DILATION_STEPS = 3  # voxels
SMALLEST_SCORED_MM3 = 50.0  # lesions up to and including this volume are left out
LESION_PENALTY_MM = 374.0  # HD95 of a missed lesion and of an invention

Distance = Callable[[Mask, Mask], float]


@dataclass(frozen=True)
class LesionScores:
    """Means over the scored lesions and the inventions: 1 and 0 mm where there are none of either."""

    dice: float
    hd95_mm: float
    found: int
    missed: int
    invented: int


@dataclass(frozen=True)
class Lesion:
    """One lesion of the reference, and the pieces of the prediction that belong to it.

    Attributes:
        number: its label in `Matching.lesions`; voxels: its size; overlap: how many of its voxels are predicted.
        pieces: labels in `Matching.pieces`, none if it is missed.
    """

    number: int
    voxels: int
    overlap: int
    pieces: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Matching:
    """Who belongs to whom in one pair of masks.

    Attributes:
        lesions: (H, W, D) label of the lesion that a voxel of the reference belongs to, else 0.
        pieces: (H, W, D) label of the connected piece that a voxel of the prediction belongs to, else 0.
        piece_voxels: size by label; entry 0 is no piece.
        reference_lesions: small ones included; invented: how many pieces belong to none of them.
    """

    lesions: NDArray[np.int32]
    pieces: NDArray[np.int32]
    piece_voxels: NDArray[np.int64]
    reference_lesions: tuple[Lesion, ...]
    invented: int


def score_lesions(prediction: Mask, reference: Mask, spacing_mm: Spacing, distance: Distance) -> LesionScores:
    """Score a prediction lesion by lesion.

    Args:
        prediction, reference: (H, W, D); they may be cropped to any box that holds both.
        distance: HD95 in mm of two masks that are not empty.
    """
    matching = match_lesions(prediction, reference)
    scored = [lesion for lesion in matching.reference_lesions if _volume_mm3(lesion, spacing_mm) > SMALLEST_SCORED_MM3]
    found = [lesion for lesion in scored if len(lesion.pieces)]
    count = len(scored) + matching.invented
    penalised = count - len(found)
    if not count:
        return LesionScores(dice=1.0, hd95_mm=0.0, found=0, missed=0, invented=0)
    dice = sum(_dice(lesion, matching) for lesion in found)
    hd95_mm = sum(distance(*_masks(lesion, matching)) for lesion in found) + penalised * LESION_PENALTY_MM
    return LesionScores(dice / count, hd95_mm / count, len(found), len(scored) - len(found), matching.invented)


def match_lesions(prediction: Mask, reference: Mask) -> Matching:
    """Find the lesions of the reference and the pieces of the prediction, and who touches whom.

    The surroundings of a lesion are exactly one connected component of the dilated reference, so one labelling of that
    tells lesions apart, joins those whose surroundings meet, and says which pieces touch them.
    """
    pieces, piece_count = ndimage.label(prediction, TOUCHING)
    piece_voxels = np.bincount(pieces.ravel(), minlength=piece_count + 1)
    lesions = np.zeros_like(pieces)
    if not reference.any():
        return Matching(lesions, pieces, piece_voxels, (), piece_count)
    box = widened(bounding_box(reference), DILATION_STEPS, reference.shape)
    surroundings, count = ndimage.label(ndimage.binary_dilation(reference[box], DILATION, DILATION_STEPS), TOUCHING)
    lesions[box] = np.where(reference[box], surroundings, 0)
    touching = _touching(surroundings, pieces[box])
    voxels = np.bincount(lesions[box].ravel(), minlength=count + 1)
    overlap = np.bincount(lesions[box][prediction[box]], minlength=count + 1)
    all_lesions = tuple(
        Lesion(number, int(voxels[number]), int(overlap[number]), touching[touching[:, 0] == number, 1])
        for number in range(1, count + 1)
    )
    return Matching(lesions, pieces, piece_voxels, all_lesions, piece_count - len(np.unique(touching[:, 1])))


def _touching(surroundings: NDArray[np.int32], pieces: NDArray[np.int32]) -> NDArray[np.int64]:
    """Pairs (lesion, piece) that share a voxel, (N, 2)."""
    both = (surroundings > 0) & (pieces > 0)
    stride = int(pieces.max()) + 1
    pairs = np.unique(surroundings[both].astype(np.int64) * stride + pieces[both])
    return np.stack(np.divmod(pairs, stride), axis=1)


def _volume_mm3(lesion: Lesion, spacing_mm: Spacing) -> float:
    x, y, z = spacing_mm
    return lesion.voxels * x * y * z


def _dice(lesion: Lesion, matching: Matching) -> float:
    return 2 * lesion.overlap / (lesion.voxels + int(matching.piece_voxels[lesion.pieces].sum()))


def _masks(lesion: Lesion, matching: Matching) -> tuple[Mask, Mask]:
    """All pieces of a lesion, and the lesion."""
    belongs = np.zeros(len(matching.piece_voxels), bool)
    belongs[lesion.pieces] = True
    return belongs[matching.pieces], matching.lesions == lesion.number
