"""Gliomas as label maps: sizes and shares drawn as in real patients, shapes grown from noise.

The numbers below come from 368 BraTS 2020 training label maps (all but case 355), resized to 128×128×128 voxels of
4.26 mm³.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from transforms.boxes import bounding_box
from transforms.labels import BACKGROUND, ENHANCING_IN_FILES_TO_2022, NECROTIC_CORE, OEDEMA
from workflows.phantom.anatomy import Array, Brain, Grid, Growth, Point, in_radii

ENHANCING = ENHANCING_IN_FILES_TO_2022

QUANTILE_LEVELS = (0.0, 0.05, 0.10, 0.25, 0.50, 0.75, 0.90, 0.95, 1.0)
WHOLE_TUMOUR_ML = (7.1, 20.8, 28.3, 50.2, 89.7, 144.4, 176.1, 200.4, 240.0)  # the real 360 ml would fill a hemisphere
TUMOUR_CORE_SHARE = (0.02, 0.087, 0.139, 0.236, 0.389, 0.565, 0.697, 0.753, 0.90)
"""Tumour core (necrosis and enhancing tumour) over whole tumour."""
ENHANCING_SHARE = (0.005, 0.025, 0.109, 0.492, 0.643, 0.801, 0.903, 0.942, 0.995)
"""Enhancing tumour over tumour core, in the cases that have any."""

WITHOUT_ENHANCING = 27 / 369
WITH_SATELLITE = 26 / 368
"""Cases with a second, separate piece of tumour of at least 1 ml."""
WITHOUT_OEDEMA = 0.03
"""In reality one case in 369. Ten times as many here, so that a set of some tens of cases holds one."""

ADDITIVE_STEPS = (0.6180339887, 0.4142135624, 0.7320508076, 0.3027756377, 0.7912878475)
"""Quadratic irrationals (from √5, √2, √3, √13, √21). Their multiples modulo 1 fill 0 to 1 evenly, each on its own."""


@dataclass(frozen=True)
class Tumour:
    """The tumour of one patient; `satellite_ml` is a part of `whole_ml`, 0 without a satellite."""

    whole_ml: float
    core_share: float
    enhancing_share: float
    satellite_ml: float
    centre: Point  # mm from BRAIN_CENTRE: left, front, up

    @property
    def growth(self) -> Growth:
        """How it pushes the brain aside: mostly by its core, a little by its oedema."""
        core_ml = self.whole_ml * self.core_share
        return Growth(self.centre, max(6.0, ball_radius_mm(0.7 * core_ml + 0.15 * self.whole_ml)))


def ball_radius_mm(volume_ml: float) -> float:
    """Radius of a ball of that volume."""
    return float((3000 * volume_ml / (4 * np.pi)) ** (1 / 3))


def draw_tumour(rng: np.random.Generator, seed: int, index: int) -> Tumour:
    """The tumour of case `index` (from 0). Sizes follow a sequence, so that a dozen cases span the real range."""
    start = np.random.default_rng([seed, 2020]).random(len(ADDITIVE_STEPS))
    size, core, rim, oedema, satellite = (start + index * np.array(ADDITIVE_STEPS)) % 1
    core_share = 1.0 if oedema < WITHOUT_OEDEMA else _quantile(core, TUMOUR_CORE_SHARE)
    rim = (rim - WITHOUT_ENHANCING) / (1 - WITHOUT_ENHANCING)
    enhancing_share = 0.0 if rim < 0 else _quantile(rim, ENHANCING_SHARE)
    whole_ml = _quantile(size, WHOLE_TUMOUR_ML)
    satellite_ml = min(rng.uniform(1.5, 6.0), 0.2 * whole_ml) if satellite < WITH_SATELLITE else 0.0
    return Tumour(whole_ml, core_share, enhancing_share, satellite_ml, _draw_centre(rng))


def _quantile(level: float, values: tuple[float, ...]) -> float:
    return float(np.interp(level, QUANTILE_LEVELS, values))


def _draw_centre(rng: np.random.Generator) -> Point:
    """A place in the white matter of either hemisphere, rarely near the poles."""
    side = rng.choice([-1.0, 1.0])
    front, up = rng.uniform(-48, 46), rng.uniform(-14, 34)
    return (float(side * rng.uniform(20, 40)), float(front), float(up))


def grow_tumour(rng: np.random.Generator, grid: Grid, brain: Brain, tumour: Tumour) -> NDArray[np.int16]:
    """Label map in the values of the files (0, 1, 2, 4). Shape: the grid's."""
    voxels_per_ml = 1000 / float(np.prod(grid.spacing_mm))
    main, satellite = _reach(rng, grid, brain, tumour)
    allowed = (brain.depth_mm > 0.3) & (brain.ventricle < 0.5)
    wanted = (tumour.whole_ml - tumour.satellite_ml) * voxels_per_ml
    whole = _one_piece(main, allowed & (satellite < -0.4), wanted)
    second = _strongest(satellite, allowed & (satellite > -0.4) & ~whole, tumour.satellite_ml * voxels_per_ml)
    labels = np.where(whole | second, OEDEMA, BACKGROUND).astype(np.int16)
    claim = np.where(second, satellite - 0.45, 0.8 * (main - main[whole].min())) + _lumps(rng, grid, 0.10, 0.04)
    patches = grid.noise(rng, 5.0)
    box = bounding_box(labels > 0)
    core = _strongest(claim[box], labels[box] > 0, tumour.core_share * np.count_nonzero(labels))
    labels[box][core] = NECROTIC_CORE
    labels[box][_rim(core, patches[box], grid.spacing_mm, tumour.enhancing_share)] = ENHANCING
    return labels


def _reach(rng: np.random.Generator, grid: Grid, brain: Brain, tumour: Tumour) -> tuple[Array, Array]:
    """How strongly the main tumour and the satellite claim each voxel; falls by about 1 per radius."""
    lattice = Grid.lattice()
    offsets = lattice.offsets_mm(tumour.centre)
    radius = ball_radius_mm(tumour.whole_ml)
    stretch = rng.uniform(0.75, 1.3, 3)
    lobe = rng.normal(0, 0.45 * radius, 3)
    first = in_radii(offsets, np.zeros(3), radius * stretch)
    main = -np.minimum(first, 0.15 + in_radii(offsets, lobe, 0.8 * radius * stretch[::-1]))
    main = grid.from_lattice(main) + _lumps(rng, grid, 0.17, 0.05)
    # Oedema follows white matter, spares cortex, and crosses the midline only through the callosum.
    crossing = np.clip(-np.sign(tumour.centre[0]) * brain.left_mm / 4, 0, 1)
    main = main - 0.15 * brain.grey - 0.15 * brain.fluid - crossing * np.where(brain.midline_mm > 0, 2.0, 0.5)
    if tumour.satellite_ml == 0:
        return main, np.full_like(main, -1)
    towards = _unit(rng, tumour.centre)
    away = 1.25 * radius + ball_radius_mm(tumour.satellite_ml) + rng.uniform(4, 12)
    satellite_radius = ball_radius_mm(tumour.satellite_ml)
    satellite = 1 - in_radii(offsets, away * towards, np.full(3, satellite_radius))
    return main, grid.from_lattice(satellite) + 0.12 * grid.noise(rng, 4.0)


def _lumps(rng: np.random.Generator, grid: Grid, coarse: float, fine: float) -> Array:
    """Noise that makes a border irregular, with lobes of about 2 cm and fingers of about 8 mm."""
    return np.float32(coarse) * grid.noise(rng, 11.0) + np.float32(fine) * grid.noise(rng, 4.0)


def _unit(rng: np.random.Generator, centre: Point) -> NDArray[np.float64]:
    """A direction from `centre` that stays in its hemisphere and in the brain."""
    _, y, _ = centre
    sideways, lengthwise, upwards = 0.15 * rng.uniform(-1, 1), rng.uniform(0.7, 1), rng.uniform(0, 0.5)
    direction = np.array([sideways, -lengthwise if y > 0 else lengthwise, upwards])
    return np.asarray(direction / np.linalg.norm(direction))


def _strongest(claim: Array, allowed: NDArray[np.bool_], count: float) -> NDArray[np.bool_]:
    """The `count` allowed voxels (fewer if there are fewer) with the highest claim."""
    candidates = claim[allowed]
    count = min(round(count), candidates.size)
    if count == 0:
        return np.zeros(claim.shape, bool)
    limit = np.partition(candidates, candidates.size - count)[candidates.size - count]
    return np.asarray(allowed & (claim >= limit))


def _one_piece(claim: Array, allowed: NDArray[np.bool_], count: float) -> NDArray[np.bool_]:
    """About `count` connected voxels of high claim: without islands, for which others are taken once."""
    taken = _strongest(claim, allowed, count)
    largest = _largest_piece(taken)
    missing = count / max(1, int(np.count_nonzero(largest)))
    return largest if missing < 1.03 else _largest_piece(_strongest(claim, allowed, count * missing))


def _largest_piece(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    pieces, count = ndimage.label(mask)
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)[1:]
    return pieces == 1 + int(sizes.argmax()) if count else mask


def _rim(core: NDArray[np.bool_], patches: Array, spacing_mm: Point, share: float) -> NDArray[np.bool_]:
    """The part of the core that enhances: an uneven shell, with gaps where there is too little of it."""
    wanted = share * np.count_nonzero(core)
    depth = ndimage.distance_transform_edt(np.pad(core, 1), sampling=spacing_mm)[1:-1, 1:-1, 1:-1]
    claim = (0.22 * depth.max() * patches - depth).astype(np.float32)
    shell = core & (depth <= max(spacing_mm))
    if np.count_nonzero(shell) < 0.9 * wanted:
        claim[shell] += np.float32(1e3)
    return _strongest(claim, core, wanted)
