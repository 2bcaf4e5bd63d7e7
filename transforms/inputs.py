"""What a network is shown of a patient: slices of a cube around the brain, or axial slices of a window.

Training and prediction are given one object of these two kinds; whatever depends on the geometry asks it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from monai.transforms import CastToTyped, Resized, Transform
from torch import Tensor, uint8

from transforms.crop import CropToBraind, CropToCubed, CropToSameBoxd
from transforms.intensity import ClampIntensityd, DivideByWindowMaximumd, ZScoreInBraind
from transforms.labels import MODALITIES, STUDY_MODALITIES
from transforms.planes import AXIAL, PLANES
from transforms.resizing import ResizedVolumed
from transforms.slices import SelectSlicesd, own_channels
from transforms.soft_labels import SoftLabelsd
from transforms.windows import STUDY_WINDOW

CROP_MARGIN_PX = 4
"""Room for the brain's edge to be seen as one, on either side of the square around it."""
Z_SCORE_LIMIT = 5.0
"""Brain voxels further than this many standard deviations from their mean are vessels or artefacts."""
BRATS_SLICES = 155
ZSCORE, WINDOW_MAXIMUM = "zscore", "window_maximum"


@dataclass(frozen=True)
class BrainCube:
    """A cube around the brain, whose slices along up to three planes are shown; intensities are z-scores of the brain.

    Args:
        modalities: the patient's images, in the order of the network's channels.
        edge_mm: edge of the cube in mm; the cube grows with a brain that is longer.
        size_px: voxels along each edge of the cube, and so pixels of a slice.
        planes: along which the cube is sliced, see `transforms.planes`; one network is trained on the slices of all.
        mirrored: beside each slice the network is shown that of the mirrored brain, see `planes.mirror_image`.
    Raises:
        ValueError: naming the argument, and what it may be.
    """

    modalities: Sequence[str] = STUDY_MODALITIES
    edge_mm: float = 192
    size_px: int = 128
    planes: Sequence[str] = PLANES
    mirrored: bool = True

    neighbours = 0
    slice_range = None

    def __post_init__(self) -> None:
        _check(self)
        if not self.edge_mm > 0:
            raise ValueError(f"edge_mm is {self.edge_mm}; it must be greater than 0.")
        if not self.planes or set(map(str, self.planes)) - set(PLANES):
            raise ValueError(f"planes is {list(self.planes)}; choose from {', '.join(PLANES)}.")

    @property
    def in_channels(self) -> int:
        """Of a slice that the network is shown."""
        return len(self.modalities) * (1 + self.mirrored)

    @property
    def grid(self) -> tuple[int, int, int]:
        """The size (H, W, D) that the volume is resized to."""
        return (self.size_px, self.size_px, self.size_px)

    @property
    def cached_slices(self) -> int:
        """Of one patient, in the stack that training keeps."""
        return self.size_px

    def crop_steps(self) -> list[Transform]:
        """Steps that cut "image" (C, H, W, D)."""
        return [CropToCubed(keys="image", edge_mm=self.edge_mm)]

    def intensity_steps(self) -> tuple[list[Any], list[Any]]:
        """Steps for the intensities of "image", before and after it is resized."""
        return _z_scores(), []

    def selection_steps(self, _key: str, _neighbours: int = 0) -> list[Transform]:
        """Steps that keep of a volume (C, H, W, D) under `key` the slices that training may show: here all."""
        return []


@dataclass(frozen=True)
class AxialWindow:
    """Axial slices of the whole field of view, or of the square around the brain; trained on are those of a window.

    Args:
        modalities: the patient's images, in the order of the network's channels.
        slice_range: first slice of the window and the one after the last, in slices of 1 mm from the bottom.
        size_px: height and width of a slice.
        normalisation: "zscore" over the brain voxels of each modality, or "window_maximum", the study's division.
        crop_to_brain: cut slices to the square around the brain before they are resized.
        neighbours: each slice brings the channels of this many slices below and above it, see `slices.with_neighbours`.
        whole_brain: train on all slices that show any brain instead of the window.
        planes, mirrored: axial and not mirrored, always; they are here so that one overlay fits both kinds of input.
    Raises:
        ValueError: naming the argument, and what it may be.
    """

    modalities: Sequence[str] = STUDY_MODALITIES
    slice_range: Sequence[int] = STUDY_WINDOW
    size_px: int = 128
    normalisation: str = ZSCORE
    crop_to_brain: bool = False
    neighbours: int = 0
    whole_brain: bool = False
    planes: Sequence[str] = (AXIAL,)
    mirrored: bool = False

    def __post_init__(self) -> None:
        _check(self)
        if list(self.planes) != [AXIAL]:
            raise ValueError(f"planes is {list(self.planes)}; planes other than {AXIAL} need a BrainCube.")
        if self.mirrored:
            raise ValueError("mirrored is True; the brain's middle is known in a BrainCube only.")
        if self.normalisation not in (ZSCORE, WINDOW_MAXIMUM):
            raise ValueError(f"unknown normalisation {self.normalisation!r}: choose {ZSCORE} or {WINDOW_MAXIMUM}.")
        edges = tuple(self.slice_range)
        if len(edges) != 2 or not all(isinstance(edge, int | float) for edge in edges):
            raise ValueError(f"slice_range is {list(edges)}; give the first slice and the one after the last.")
        if not 0 <= edges[0] < edges[1]:
            raise ValueError(f"slice_range is {list(edges)}; it holds no slice.")
        if type(self.neighbours) is not int or self.neighbours < 0:
            raise ValueError(f"neighbours is {self.neighbours!r}; give the number of slices on either side.")

    @property
    def in_channels(self) -> int:
        """Of a slice that the network is shown."""
        return len(self.modalities) * (2 * self.neighbours + 1)

    @property
    def grid(self) -> tuple[int, int, int]:
        """The size (H, W, D) that the volume is resized to; -1 keeps the number of slices."""
        return (self.size_px, self.size_px, -1)

    @property
    def cached_slices(self) -> int:
        """Of a patient with slices of 1 mm, in the stack that training keeps, at most."""
        first, end = self.slice_range
        return (BRATS_SLICES if self.whole_brain else end - first) + 2 * self.neighbours

    def crop_steps(self) -> list[Transform]:
        """Steps that cut "image" (C, H, W, D)."""
        return [CropToBraind(keys="image", margin_px=CROP_MARGIN_PX)] if self.crop_to_brain else []

    def intensity_steps(self) -> tuple[list[Any], list[Any]]:
        """Steps for the intensities of "image", before and after it is resized."""
        if self.normalisation == ZSCORE:
            return _z_scores(), []
        return [], [DivideByWindowMaximumd(keys="image", slice_range=self.slice_range)]

    def selection_steps(self, key: str, neighbours: int = 0) -> list[Transform]:
        """Steps that keep of a volume (C, H, W, D) under `key` the slices that training may show.

        Args:
            neighbours: how many more on either side.
        """
        window = None if self.whole_brain else self.slice_range
        return [SelectSlicesd(keys=key, slice_range=window, neighbours=neighbours)]


Input = BrainCube | AxialWindow


def slice_shape(input: Input) -> tuple[int, int, int]:
    """(channels, H, W) of one slice that the network is shown."""
    return (input.in_channels, input.size_px, input.size_px)


def study_slices_of(input: Input) -> AxialWindow:
    """The window of axial slices on which the study's figures are computed, at the size of a network's slices."""
    if isinstance(input, AxialWindow):
        return replace(input, whole_brain=False)
    return AxialWindow(input.modalities, size_px=input.size_px)


def fit_label(input: Input, soft_labels: bool = False) -> list[Transform]:
    """Steps that bring "label", (1, H, W, D) class indices in the orientation of "image", onto the input's grid."""
    resize: list[Any] = (
        [SoftLabelsd(keys="label", spatial_size=input.grid)]
        if soft_labels
        else [Resized(keys="label", spatial_size=input.grid, mode="nearest-exact"), CastToTyped("label", uint8)]
    )
    return [CropToSameBoxd(keys="label"), *resize, *input.selection_steps("label")]


def fit_image(input: Input) -> list[Transform]:
    """Steps that bring "image" (C, H, W, D) onto the input's grid, with its intensities."""
    before, after = input.intensity_steps()
    return [*before, *input.crop_steps(), ResizedVolumed(keys="image", spatial_size=input.grid), *after]


def bytes_per_case(input: Input, soft_labels: bool = False) -> int:
    """Memory of one cached case: 16 bits per modality and pixel, 8 for the label map or 3 × 8 for soft labels."""
    return input.cached_slices * input.size_px**2 * (2 * len(input.modalities) + (3 if soft_labels else 1))


def shown_itself(input: Input, slices: Tensor, channel_dim: int = 1) -> Tensor:
    """Of the channels of slices, those of the slices themselves and not of neighbours or a mirror image."""
    return own_channels(slices, input.neighbours, channel_dim, input.mirrored)


def definition_of_old_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The definition of an input in the configuration of a run from before there were inputs.

    Args:
        settings: its flat switches; runs older than the cube do not name that.
    """
    shared = ("modalities", "size_px")
    of_window = ("slice_range", "normalisation", "crop_to_brain", "neighbours", "whole_brain")
    given = {name: settings[name] for name in (*shared, *of_window) if name in settings}
    if settings.get("cube_mm") is None:
        return {"_target_": "transforms.inputs.AxialWindow", **given}
    of_cube = {name: settings[name] for name in (*shared, "planes", "mirrored") if name in settings}
    return {"_target_": "transforms.inputs.BrainCube", **of_cube, "edge_mm": settings["cube_mm"]}


def described(input: Input) -> dict[str, Any]:
    """The input as JSON holds it, in a record or beside weights."""
    return {"kind": type(input).__name__, **asdict(input)}


def _z_scores() -> list[Transform]:
    return [ZScoreInBraind(keys="image"), ClampIntensityd(keys="image", limit=Z_SCORE_LIMIT)]


def _check(input: Input) -> None:
    if not input.modalities or set(map(str, input.modalities)) - set(MODALITIES):
        raise ValueError(f"modalities is {list(input.modalities)}; choose from {', '.join(MODALITIES)}.")
    if type(input.size_px) is not int or input.size_px <= 0:
        raise ValueError(f"size_px is {input.size_px!r}; it must be a whole number greater than 0.")
    for name in (field.name for field in fields(input) if field.type == "bool"):
        if type(getattr(input, name)) is not bool:
            raise ValueError(f"{name} is {getattr(input, name)!r}; it must be True or False.")
