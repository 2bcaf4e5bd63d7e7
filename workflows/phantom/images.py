"""The images of a generated head: contrasts, bright structures that are not tumour, noise, blur and bias field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from transforms.boxes import bounding_box, widened
from transforms.labels import NECROTIC_CORE
from workflows.phantom.anatomy import Array, Brain, Grid, ramp
from workflows.phantom.tumour import ENHANCING


class Contrast(NamedTuple):
    """Signal relative to white matter; of tumour tissue the range from which each case draws."""

    grey: float
    fluid: float
    core: tuple[float, float]
    oedema: tuple[float, float]
    enhancing: tuple[float, float]


CONTRASTS = {  # of tumour from the medians within the label maps of nine real cases, of other tissue by eye
    "flair": Contrast(1.16, 0.12, (0.6, 1.75), (1.55, 2.05), (1.35, 1.85)),
    "t1ce": Contrast(0.80, 0.28, (0.50, 0.80), (0.84, 0.96), (1.35, 2.00)),
    "t1": Contrast(0.80, 0.32, (0.70, 0.88), (0.86, 0.98), (0.84, 1.00)),
    "t2": Contrast(1.25, 2.60, (1.60, 2.60), (1.50, 2.10), (1.40, 1.80)),
}


class Extras(NamedTuple):
    """Where there are bright structures that are not tumour: shares from 0 to 1 in the grid's shape."""

    hyperintensity: Array  # white-matter lesions of old age, around the ventricles and scattered
    cortex: Array  # patches of bright cortex
    surface: Array  # dura and sinuses that skull stripping left behind
    vessel: Array
    choroid: Array  # plexus in the ventricles


EXTRA_SIGNALS = {  # what each of `Extras` adds, relative to white matter
    "flair": (0.55, 0.25, 0.40, -0.10, 0.50),
    "t1ce": (-0.10, 0.00, 0.90, 1.30, 1.50),
    "t1": (-0.10, 0.00, 0.10, -0.10, 0.30),
    "t2": (0.55, 0.20, 0.30, -0.30, -0.80),
}


@dataclass(frozen=True)
class Scene:
    """All that a scanner would see of one head: shares from 0 to 1 in the grid's shape."""

    brain: Brain
    oedema: Array
    core: Array
    enhancing: Array
    liquid: float  # 0: the core is tissue, 1: it is fluid, dark on FLAIR and bright on T2
    mottle: Array  # zero mean, unit variance: tumour tissue is nowhere even
    extras: Extras


def compose_scene(rng: np.random.Generator, grid: Grid, brain: Brain, labels: NDArray[np.int16]) -> Scene:
    """Add to the anatomy what differs between patients: oedema, texture of the tumour, bright structures."""
    mottle = (grid.noise(rng, 4.0) + grid.noise(rng, 9.0)) * np.float32(0.7)
    oedema = _oedema_share(rng, grid, labels, mottle)
    core, enhancing = (_share(labels == value, grid) for value in (NECROTIC_CORE, ENHANCING))
    return Scene(brain, oedema, core, enhancing, rng.uniform(0, 1), mottle, _extras(rng, grid, brain, mottle))


def scan_image(rng: np.random.Generator, grid: Grid, scene: Scene, modality: str) -> NDArray[np.int16]:
    """The image of one modality, with its own noise, blur, bias field and gain. Shape: the grid's."""
    signal = _signal(rng, scene, modality)
    noise = rng.uniform(0.06, 0.10) / np.sqrt(np.prod(grid.spacing_mm))  # a larger voxel averages more
    signal += np.float32(noise) * rng.standard_normal(grid.shape, np.float32)
    signal = ndimage.gaussian_filter(signal, [0.5 / s for s in grid.spacing_mm], truncate=3)
    bias = np.exp(np.float32(rng.uniform(0.05, 0.14)) * grid.noise(rng, 70.0))
    # Real brain masks differ slightly between the modalities of a case.
    mask = scene.brain.depth_mm > np.float32(rng.uniform(-0.2, 0.3)) + np.float32(0.3) * scene.mottle
    intensities = np.clip(np.rint(signal * bias * np.float32(rng.uniform(250, 600))), 1, np.iinfo(np.int16).max)
    return np.where(mask, intensities, 0).astype(np.int16)


def _share(mask: NDArray[np.bool_], grid: Grid) -> Array:
    """How much of each voxel the tissue fills, with its border blurred as by a scanner."""
    share = mask.astype(np.float32)
    if mask.any():
        box = widened(bounding_box(mask), 3, mask.shape)
        share[box] = ndimage.gaussian_filter(share[box], [0.7 / s for s in grid.spacing_mm])
    return share


def _oedema_share(rng: np.random.Generator, grid: Grid, labels: NDArray[np.int16], mottle: Array) -> Array:
    """Oedema is uneven and fades towards its border and beyond, over a width that differs between cases."""
    fade_mm, at_border, uneven = rng.uniform(3, 10), rng.uniform(0.35, 0.75), rng.uniform(0.10, 0.20)
    share = np.zeros(grid.shape, np.float32)
    if not labels.any():
        return share
    box = widened(bounding_box(labels > 0), 6, labels.shape)
    inside = ndimage.distance_transform_edt(labels[box] > 0, sampling=grid.spacing_mm)
    outside = ndimage.distance_transform_edt(labels[box] == 0, sampling=grid.spacing_mm)
    strength = np.where(inside > 0, at_border + inside / fade_mm, 0.7 * at_border * np.exp(-outside / 2))
    share[box] = np.clip(strength, 0, 1) * (1 + uneven * mottle[box])
    return np.clip(share, 0, 1.3)


def _extras(rng: np.random.Generator, grid: Grid, brain: Brain, mottle: Array) -> Extras:
    age = rng.uniform(0, 1)
    wide, patchy, middling = grid.noise(rng, 16.0), grid.noise(rng, 8.0), grid.noise(rng, 5.0)
    white = (1 - brain.grey) * (1 - brain.fluid) * ramp(brain.depth_mm - 6, 4)
    caps = ramp(brain.ventricle_mm + 4 * age + 1.5 * patchy, 2.5) * (1 - brain.ventricle)
    spots = ramp(mottle - (2.9 - 0.6 * age), 0.4)
    cortex = brain.grey * ramp(wide - rng.uniform(0.4, 1.2), 0.8) * ramp(brain.cortical * 2 - 1)
    surface = ramp(3.0 - brain.depth_mm, 2) * ramp(patchy - rng.uniform(0.6, 1.2), 0.6)
    tubes = ramp(np.minimum(1.5 - 4 * np.abs(brain.sulcus), 1.3 - 5 * np.abs(middling)))
    vessel = tubes * ramp(10 - brain.depth_mm, 4) * ramp(brain.cortical * 2 - 1) * ramp(wide + 0.2, 0.5)
    sinus = ramp(np.minimum(2.5 - np.abs(brain.left_mm), np.minimum(5 - brain.depth_mm, brain.midline_mm)))
    choroid = ramp(np.minimum(brain.ventricle_mm - 1.0, 3 * (middling + patchy - 1.5)), 1.5)
    return Extras(np.maximum(caps, spots) * white, cortex, surface, np.maximum(vessel, 0.8 * sinus), choroid)


def _signal(rng: np.random.Generator, scene: Scene, modality: str) -> Array:
    """The signal without noise, 1 in white matter."""
    brain, contrast = scene.brain, CONTRASTS[modality]
    grey = (contrast.grey - 1) * rng.uniform(0.7, 1.3)
    dry = 1 - scene.liquid if contrast.fluid < 1 else scene.liquid
    core = np.interp(dry, (0, 1), contrast.core)
    oedema, enhancing = rng.uniform(*contrast.oedema), rng.uniform(*contrast.enhancing)
    signal = 1 + np.float32(grey) * brain.grey
    for share, added in zip(scene.extras[:2], EXTRA_SIGNALS[modality], strict=False):
        signal += share * np.float32(added * rng.uniform(0.6, 1.2))
    signal = _blend(signal, scene.oedema, np.float32(oedema))
    fluid = np.maximum(brain.ventricle, brain.fluid * (1 - 0.8 * np.clip(scene.oedema, 0, 1)))  # swelling empties sulci
    signal = _blend(signal, fluid, np.float32(contrast.fluid))
    signal = _blend(signal, scene.core, np.float32(core) * (1 + 0.10 * scene.mottle))
    signal = _blend(signal, scene.enhancing, np.float32(enhancing) * (1 + 0.15 * scene.mottle))
    for share, added in zip(scene.extras[2:], EXTRA_SIGNALS[modality][2:], strict=True):
        signal += share * np.float32(added * rng.uniform(0.6, 1.2))
    return signal


def _blend(signal: Array, share: Array, other: Array | np.float32) -> Array:
    return signal + share * (other - signal)
