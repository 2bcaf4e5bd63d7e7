"""The window of slices in use, counted in millimetres so that it means the same in every volume."""

from __future__ import annotations

from collections.abc import Sequence

STUDY_WINDOW = (60, 135)
"""The study's axial slices 60 … 134 of 1 mm."""


def in_own_slices(slice_range: Sequence[int], spacing_mm: float) -> tuple[int, int]:
    """A window in slices of 1 mm, in a volume's own slices; it may leave the volume.

    Args:
        slice_range: first slice and the one after the last, counted in slices of 1 mm from the bottom.
        spacing_mm: distance of the volume's own axial slices.
    """
    first, end = (round(edge / spacing_mm) for edge in slice_range)
    return first, end


def slice_window(slice_range: Sequence[int], spacing_mm: float, depth: int) -> tuple[int, int]:
    """The slices of a volume that a window in 1 mm slices stands for.

    Args:
        slice_range: first slice and the one after the last, counted in slices of 1 mm from the bottom.
        spacing_mm: distance of the volume's own axial slices.
        depth: number of its axial slices.
    Returns:
        First slice and the one after the last, in the volume's own slices.
    Raises:
        ValueError: if the window is empty or leaves the volume; the message gives the volume's height.
    """
    first, end = in_own_slices(slice_range, spacing_mm)
    if not 0 <= first < end <= depth:
        highest = int(depth * spacing_mm + 1e-3)  # whole mm that fit, in spite of a spacing of 0.99999
        raise ValueError(
            f"slice range {slice_range[0]} to {slice_range[1]} (in slices of 1 mm) does not fit a volume of "
            f"{depth} slices of {spacing_mm:g} mm: choose a range within 0 to {highest}."
        )
    return first, end
