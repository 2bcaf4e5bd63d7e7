"""Whether two label maps of one case lie on the same voxels, which may be stored along other axes."""

from __future__ import annotations

from collections.abc import Mapping

import nibabel as nib

from transforms.geometry import is_identity, same_place
from workflows.image_files.nifti_files import describes_a_volume, format_shape, says_no_place, states_no_orientation
from workflows.image_files.oriented import turned_like

Maps = Mapping[str, nib.Nifti1Image]
"""Two images with three axes by the side that they belong to: first the one that is compared, then the reference."""


def of_one_affine(maps: Maps) -> Maps:
    """Both with the reference's affine, or with that of the other where the reference's says nothing."""
    stated = [image for image in reversed(list(maps.values())) if describes_a_volume(image.affine)]
    if not stated:
        return maps
    affine = next((image.affine for image in stated if not says_no_place(image)), stated[0].affine)
    return {side: nib.Nifti1Image(image.dataobj, affine, image.header) for side, image in maps.items()}


def why_apart(maps: Maps) -> str:
    """Why the voxels of two maps are not the same; empty where they are."""
    for side, image in maps.items():
        if not describes_a_volume(image.affine):
            return f"the {side}'s affine does not describe a volume"
    (side, image), (reference, there) = maps.items()
    turned = turned_like(image, there)
    if turned.shape != there.shape:
        return f"the {side} has {format_shape(turned.shape)} voxels, the {reference} {format_shape(there.shape)}"
    if same_place(turned.affine, there.affine):
        return ""
    problem = f"different affines: {'; '.join(_placed(side, image) for side, image in maps.items())}"
    return problem + (_way_out(maps) if image.shape == there.shape else "")


def _way_out(maps: Maps) -> str:
    mute = [side for side, image in maps.items() if says_no_place(image)]
    if not mute:
        return ""
    identity = is_identity(maps[mute[0]].affine)
    why = f"; the {mute[0]}'s is an identity matrix, which says nothing" if identity else ""
    return f"{why}; if the voxels of both are in one order, say so by --ignore-affine"


def _placed(side: str, image: nib.Nifti1Image) -> str:
    axes = "".join(nib.orientations.aff2axcodes(image.affine))
    origin = ", ".join(f"{place:g}" for place in image.affine[:3, 3] + 0.0)  # -0.0 reads oddly
    unstated = ", its header states no orientation" if states_no_orientation(image) else ""
    return f"the {side}'s axes run {axes} from ({origin}) mm{unstated}"
