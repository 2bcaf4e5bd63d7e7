"""A cube as slices along the body's three planes, so that one 2D network sees every voxel in three ways."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor  # named alone, so that what checks settings stays light

AXIAL, CORONAL, SAGITTAL = "axial", "coronal", "sagittal"
PLANES = (AXIAL, CORONAL, SAGITTAL)
AXIS = {AXIAL: -1, CORONAL: -2, SAGITTAL: -3}
"""The axis of (…, H, W, D) across which a plane's slices are counted, in the orientation `AXIAL_ORIENTATION`."""


def across(volume: Tensor, plane: str) -> Tensor:
    """(…, H, W, D) with the axis across `plane` last; the other two keep their order."""
    return volume.movedim(AXIS[plane], -1)


def back_from(volume: Tensor, plane: str) -> Tensor:
    """Undoes `across`."""
    return volume.movedim(-1, AXIS[plane])


def as_volume(stack: Tensor) -> Tensor:
    """A cached stack (D, C, H, W) as (C, H, W, D), without a copy."""
    return stack.movedim(0, -1)


def slice_of(stack: Tensor, plane: str, position: int) -> Tensor:
    """One slice (C, rows, columns) of a stack (D, C, H, W), its axes as `across` leaves them."""
    return as_volume(stack).select(AXIS[plane], position)


def mirror_image(stack: Tensor, plane: str, position: int) -> Tensor:
    """The same slice of the stack mirrored from left to right: a sagittal one is that of the other hemisphere."""
    if plane == SAGITTAL:
        return slice_of(stack, plane, stack.shape[2] - 1 - position)
    return slice_of(stack, plane, position).flip(1)


def shown_slices(shown: Tensor, planes: Sequence[str]) -> list[tuple[str, int]]:
    """The plane and position of all slices in which anything is shown.

    Args:
        shown: (H, W, D), true where there is.
    """
    found = []
    for plane in planes:
        positions = across(shown, plane).flatten(0, 1).any(dim=0).nonzero().flatten().tolist()
        found += [(plane, position) for position in positions]
    return found
