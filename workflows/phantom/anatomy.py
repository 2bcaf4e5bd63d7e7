"""A head without tumour: smooth random fields, and the shapes of a brain and of its tissues.

Places are in millimetres of the full BraTS grid, so one seed gives one head at every voxel size. Shapes are computed
on a coarse lattice and interpolated. Thresholds are applied at the voxels, since sulci are thin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse

Array = NDArray[np.float32]
Triple = Sequence[float] | NDArray[np.float64]
Point = tuple[float, float, float]

# The part of the 240×240×155 grid that holds the head. Real brains lie in voxels 49…190, 42…219, 10…141.
BOX_FIRST = (38, 30, 5)
BOX_EXTENT_MM = (164, 200, 142)
LATTICE_MM = 2.0

BRAIN_CENTRE = (119.5, 131.0, 77.0)
"""Voxel of the full grid around which the shapes below are placed: the middle of the real brains' extent."""

SPLINE_NOISE_SD = 0.479**1.5
"""Standard deviation of white noise of unit variance after cubic B-spline interpolation in 3D."""


@dataclass(frozen=True)
class Grid:
    """The places at which values are computed: along each axis, positions in mm from the first voxel of the box."""

    positions_mm: tuple[Array, Array, Array]
    _weights: dict[float, list[sparse.csr_matrix]] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def lattice(cls) -> Grid:
        """The coarse grid on which shapes are computed."""
        return cls.regular((LATTICE_MM,) * 3)

    @classmethod
    def regular(cls, spacing_mm: Point) -> Grid:
        """Cells of this size that fill the box. The centre of a 2 mm cell lies between two 1 mm voxels."""
        along = [(np.arange(round(e / s)) + 0.5) * s - 0.5 for e, s in zip(BOX_EXTENT_MM, spacing_mm, strict=True)]
        x, y, z = (axis.astype(np.float32) for axis in along)
        return cls((x, y, z))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of positions along each axis."""
        x, y, z = self.positions_mm
        return len(x), len(y), len(z)

    @property
    def spacing_mm(self) -> Point:
        """Distance of the positions along each axis."""
        x, y, z = (float(axis[1] - axis[0]) for axis in self.positions_mm)
        return x, y, z

    def offsets_mm(self, centre: Point) -> tuple[Array, Array, Array]:
        """Mm to the left, to the front and up from `centre`, as arrays that broadcast; `centre` from BRAIN_CENTRE."""
        at = zip(self.positions_mm, BOX_FIRST, BRAIN_CENTRE, (1, -1, 1), centre, strict=True)
        x, y, z = np.ix_(*[((p + first - mid) * way - c).astype(np.float32) for p, first, mid, way, c in at])
        return x, y, z

    def noise(self, rng: np.random.Generator, scale_mm: float) -> Array:
        """Smooth Gaussian noise of unit variance, with features about 2 `scale_mm` wide. Shape: `shape`."""
        counts = [int(extent / scale_mm) + 5 for extent in BOX_EXTENT_MM]
        return self._interpolate(rng.standard_normal(counts, np.float32), scale_mm, 2.0) / np.float32(SPLINE_NOISE_SD)

    def from_lattice(self, values: Array) -> Array:
        """Values given on `Grid.lattice()`, slightly smoothed, at these positions."""
        return self._interpolate(values, LATTICE_MM, -0.25)

    def _interpolate(self, control: Array, step_mm: float, first: float) -> Array:
        """Cubic B-spline of control values `step_mm` apart; position 0 mm lies at control index `first`.

        The products are sparse: with BLAS the last bit would depend on the number of threads.
        """
        key = step_mm + first
        if key not in self._weights:
            sizes = zip(self.positions_mm, control.shape, strict=True)
            self._weights[key] = [_spline_weights(at / step_mm + first, count) for at, count in sizes]
        values = control
        for axis in (2, 1, 0):  # the largest product comes last and needs no transposition
            moved = np.moveaxis(values, axis, 0)
            flat = self._weights[key][axis] @ moved.reshape(moved.shape[0], -1)
            values = np.moveaxis(flat.reshape(-1, *moved.shape[1:]), 0, axis)
        return np.ascontiguousarray(values, np.float32)


def _spline_weights(positions: Array, count: int) -> sparse.csr_matrix:
    """(len(positions), count) weights of the uniform cubic B-spline, four per row."""
    base = np.floor(positions).astype(int)
    t = positions - base
    taps = [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]
    rows = np.tile(np.arange(len(positions)), 4)
    columns = np.clip(np.concatenate([base + k for k in (-1, 0, 1, 2)]), 0, count - 1)
    weights = (np.concatenate(taps) / 6).astype(np.float32)
    return sparse.csr_matrix((weights, (rows, columns)), shape=(len(positions), count))


def ramp(distance_mm: Array, width_mm: float = 1.0) -> Array:
    """1 inside, 0 outside, linear over `width_mm` around distance 0: the share of a voxel that a tissue fills."""
    return np.asarray(np.clip(distance_mm * np.float32(1 / width_mm) + np.float32(0.5), 0, 1))


@dataclass(frozen=True)
class Growth:
    """A ball that pushes the brain aside; `centre` in mm from BRAIN_CENTRE, x left, y front, z up."""

    centre: Point
    radius_mm: float


@dataclass(frozen=True)
class Brain:
    """Tissue of one head on a grid. Arrays have the grid's shape; distances are in mm, positive inside.

    `fluid`, its part `ventricle`, and `grey` are shares from 0 to 1. The rest is white matter.
    """

    depth_mm: Array
    ventricle_mm: Array
    left_mm: Array
    midline_mm: Array
    sulcus: Array
    deep_grey_mm: Array
    cortical: Array
    cerebellum_mm: Array

    @cached_property
    def ventricle(self) -> Array:
        """The part of the fluid that lies in the ventricles."""
        return ramp(self.ventricle_mm)

    @cached_property
    def fluid(self) -> Array:
        """Cerebrospinal fluid: ventricles, sulci, fissure between the hemispheres, and a film on the surface."""
        reach = np.clip(1 - self.depth_mm / 15, -1, 1)
        sulci = ramp(1.5 * np.minimum(reach, self.cortical - 0.4) - np.abs(self.sulcus) * 4)
        fissure = ramp(np.minimum(1.3 - np.abs(self.left_mm), self.midline_mm))
        film = ramp(np.float32(0.5) - self.depth_mm, 1.5)
        return np.asarray(np.maximum.reduce([self.ventricle, sulci, fissure, film]))

    @cached_property
    def grey(self) -> Array:
        """Cortex along surface, sulci and fissure, the deep nuclei, and the folia of the cerebellum."""
        reach = np.clip((19 - self.depth_mm) / 6, -1, 1)
        ribbon = ramp(np.minimum(3.6 * reach, self.cortical * 8 - 4) - np.abs(self.sulcus) * 4, 1.5)
        surface = ramp(np.minimum(3.4 - self.depth_mm, self.cortical * 4 - 2), 1.5)
        fissure = ramp(np.minimum(4.2 - np.abs(self.left_mm), self.midline_mm), 1.5)
        folia = ramp(np.minimum(self.cerebellum_mm, 11 - self.cerebellum_mm), 3) * ramp(self.sulcus, 2)
        return np.asarray(np.maximum.reduce([ribbon, surface, fissure, 0.8 * ramp(self.deep_grey_mm, 2), folia]))


def grow_brain(rng: np.random.Generator, grid: Grid, growth: Growth | None = None) -> Brain:
    """One head, random in pose, size, shape, ventricles and folding; `growth` displaces the tissue around it."""
    lattice = Grid.lattice()
    x, y, z = _patient_coordinates(rng, lattice)
    ventricle_scale = rng.uniform(0.75, 1.6)
    warp_mm = rng.uniform(1.2, 2.4)
    x, y, z = (axis + np.float32(warp_mm) * lattice.noise(rng, 34.0) for axis in (x, y, z))
    if growth is not None:
        x, y, z = _pushed_aside(x, y, z, growth)
    side = np.abs(x)
    cerebrum = np.maximum(_cerebrum(side, y, z), _ellipsoid(side, y, z, (40, 6, -29), (27, 38, 25)))
    cerebellum = _ellipsoid(side, y, z, (0, -56, -42), (54, 33, 26))
    stem = np.minimum(_ellipsoid(side, y, z, (0, -20, -40), (16, 14, 55)), np.float32(-10) - z)
    brain = np.minimum(np.maximum.reduce([cerebrum, cerebellum, stem]), z + 66)  # skull stripping ends flat below
    fields = {
        "depth_mm": brain,
        "ventricle_mm": _ventricles(side, y, z, ventricle_scale),
        "left_mm": x,
        "midline_mm": _fissure(y, z),
        "sulcus": np.where(cerebellum > cerebrum, _folia(y, z), _folds(rng, lattice, x, y, z)),
        "deep_grey_mm": _deep_nuclei(side, y, z),
        "cortical": _has_cortex(side, y, z) * (cerebrum > np.maximum(cerebellum, stem)),
        "cerebellum_mm": np.where(cerebellum > np.maximum(cerebrum, stem), cerebellum, np.float32(-5)),
    }
    return Brain(**{name: grid.from_lattice(values) for name, values in fields.items()})


def _patient_coordinates(rng: np.random.Generator, grid: Grid) -> tuple[Array, Array, Array]:
    """Mm to the left, to the front and up from BRAIN_CENTRE, for a head slightly shifted, turned and scaled."""
    shift = rng.uniform((-3, -4, -2), (3, 4, 2))
    scale = rng.uniform((0.91, 0.91, 0.93), (0.99, 0.99, 0.99))
    nod, turn = rng.uniform(-0.07, 0.07, 2)  # radians
    at = zip(grid.positions_mm, BOX_FIRST, BRAIN_CENTRE, shift, scale, strict=True)
    i, j, k = np.ix_(*[((p + first - centre - s) / size).astype(np.float32) for p, first, centre, s, size in at])
    x, y = i * np.cos(turn) - j * np.sin(turn), -(i * np.sin(turn) + j * np.cos(turn))
    y, z = y * np.cos(nod) - k * np.sin(nod), y * np.sin(nod) + k * np.cos(nod)
    full_x, full_y, full_z = (axis.astype(np.float32) for axis in np.broadcast_arrays(x, y, z))
    return full_x, full_y, full_z


def _pushed_aside(x: Array, y: Array, z: Array, growth: Growth) -> tuple[Array, Array, Array]:
    """Where the tissue at (x, y, z) lay before the tumour grew: nearer to it by up to a quarter of its radius."""
    offsets = [axis - np.float32(c) for axis, c in zip((x, y, z), growth.centre, strict=True)]
    distance = np.sqrt(sum(o * o for o in offsets)) + np.float32(1)
    relative = distance / np.float32(growth.radius_mm)
    nearer = np.float32(0.25 * growth.radius_mm) * relative * np.exp(1 - relative) / distance
    moved = [axis - nearer * o for axis, o in zip((x, y, z), offsets, strict=True)]
    return moved[0], moved[1], moved[2]


def in_radii(places: tuple[Array, Array, Array], centre: Triple, radii: Triple) -> Array:
    """Distance from the centre of an ellipsoid: 1 on its surface."""
    at = zip(places, centre, radii, strict=True)
    a, b, c = (((axis - np.float32(middle)) / np.float32(radius)) ** 2 for axis, middle, radius in at)
    return np.asarray(np.sqrt(a + b + c))


def _ellipsoid(x: Array, y: Array, z: Array, centre: Triple, radii: Triple) -> Array:
    """About the distance to the surface in mm, positive inside."""
    return np.asarray((1 - in_radii((x, y, z), centre, radii)) * np.float32(np.prod(radii) ** (1 / 3)))


def _cerebrum(side: Array, y: Array, z: Array) -> Array:
    """Both hemispheres: an ovoid, narrower in front, with a flat base."""
    width = 66 - 0.11 * np.clip(y, -30, 90)
    height = np.where(z > 0, np.float32(65), np.float32(34))
    radius = (side / width) ** 2.3 + np.abs(y / 87) ** 2.3 + np.abs(z / height) ** 2.3
    return ((1 - radius ** (1 / 2.3)) * np.where(z > 0, 68, 45)).astype(np.float32)


VENTRICLE_TUBES: tuple[tuple[Point, Point, float, float], ...] = (  # start, end (mm), radius at either (mm)
    ((11, 34, 6), (8, 10, 16), 4.5, 5.0),  # frontal horn
    ((8, 10, 16), (13, -22, 18), 5.0, 5.0),  # body
    ((13, -22, 18), (24, -38, 6), 5.0, 7.0),  # atrium
    ((24, -38, 6), (23, -60, 2), 6.0, 2.0),  # occipital horn
    ((24, -38, 6), (33, -8, -22), 4.0, 2.0),  # temporal horn
)


def _ventricles(side: Array, y: Array, z: Array, scale: float) -> Array:
    tubes = [_tube(side, y, z, start, end, scale * r0, scale * r1) for start, end, r0, r1 in VENTRICLE_TUBES]
    third = _ellipsoid(side, y, z, (0, -4, -3), (2.2 * scale, 14, 11))
    fourth = _ellipsoid(side, y, z, (0, -37, -40), (7, 6, 9))
    return np.asarray(np.maximum.reduce([*tubes, third, fourth]))


def _tube(x: Array, y: Array, z: Array, start: Point, end: Point, radius_mm: float, end_radius_mm: float) -> Array:
    along = np.subtract(end, start).astype(np.float32)
    dx, dy, dz = (axis - np.float32(c) for axis, c in zip((x, y, z), start, strict=True))
    t = np.clip((dx * along[0] + dy * along[1] + dz * along[2]) / along.dot(along), 0, 1)
    distance = np.sqrt((dx - t * along[0]) ** 2 + (dy - t * along[1]) ** 2 + (dz - t * along[2]) ** 2)
    return np.asarray(np.float32(radius_mm) + t * np.float32(end_radius_mm - radius_mm) - distance)


def _fissure(y: Array, z: Array) -> Array:
    """Positive where the hemispheres are apart, which is around the corpus callosum and not in it."""
    callosum = np.sqrt(((y + 5) / 46) ** 2 + ((z - 4) / 26) ** 2)
    return np.asarray(np.minimum((callosum - 1) * 25, z + 20))


def _deep_nuclei(side: Array, y: Array, z: Array) -> Array:
    caudate = _ellipsoid(side, y, z, (16, 18, 9), (5, 14, 9))
    putamen = _ellipsoid(side, y, z, (26, 4, 0), (6, 17, 10))
    thalamus = _ellipsoid(side, y, z, (11, -15, 3), (9, 14, 9))
    return np.asarray(np.maximum.reduce([caudate, putamen, thalamus]))


def _folds(rng: np.random.Generator, lattice: Grid, x: Array, y: Array, z: Array) -> Array:
    """Noise that is 0 in the sulci. It changes along the surface and little with depth, so that sulci run inwards."""
    noise = lattice.noise(rng, 6.0)
    radius = np.sqrt((x / 0.8) ** 2 + y**2 + (z / 0.75) ** 2) + 1
    outward = (85 / radius) ** np.float32(0.65)
    middle = [(c - first) / LATTICE_MM for c, first in zip(BRAIN_CENTRE, BOX_FIRST, strict=True)]
    places = [outward * axis / np.float32(LATTICE_MM) + c for axis, c in zip((x, -y, z), middle, strict=True)]
    return np.asarray(ndimage.map_coordinates(noise, places, order=1, mode="reflect").astype(np.float32))


def _folia(y: Array, z: Array) -> Array:
    """Shells around the fourth ventricle, about 4 mm wide."""
    radius = np.sqrt((y + 30) ** 2 + (z + 36) ** 2)
    return np.asarray(np.sin(radius * np.float32(2 * np.pi / 8)) * np.float32(1.8))


def _has_cortex(side: Array, y: Array, z: Array) -> Array:
    """0 in the middle of the base, where there are chiasm and cisterns and no gyri; 1 elsewhere."""
    return ((side > 24) | (z > 2) | (y > 42)).astype(np.float32)
