"""Two masks of one region, and what scores are made of."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from transforms.geometry import voxel_ml
from workflows.scoring.lesions import LesionScores, score_lesions
from workflows.scoring.surface_distances import Definition, Mask, Spacing, Surface, hausdorff_mm, hd95_mm


@dataclass(frozen=True, eq=False)
class MaskPair:
    """The predicted and the true mask of one region. What scores share is worked out once, and only if it is needed.

    Attributes:
        prediction, reference: (H, W, D), cut out of a volume; outside the cut both are empty.
        volume_voxels: how many voxels that volume has.
        spacing_mm: edge lengths of a voxel along the array's axes.
        definition: of HD95, see `workflows.scoring.surface_distances`.
    """

    prediction: Mask
    reference: Mask
    volume_voxels: int
    spacing_mm: Spacing
    definition: Definition

    @cached_property
    def predicted(self) -> int:
        """Voxels of the prediction."""
        return int(np.count_nonzero(self.prediction))

    @cached_property
    def true(self) -> int:
        """Voxels of the reference."""
        return int(np.count_nonzero(self.reference))

    @cached_property
    def both(self) -> int:
        """Voxels that belong to both masks."""
        return int(np.count_nonzero(self.prediction & self.reference))

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel."""
        return voxel_ml(self.spacing_mm)

    @cached_property
    def surfaces(self) -> tuple[Surface, Surface]:
        """Of the prediction and of the reference, neither of them empty."""
        return Surface(self.prediction, self.spacing_mm), Surface(self.reference, self.spacing_mm)

    @cached_property
    def hd95_mm(self) -> float:
        """Of two masks that are not empty."""
        if self.definition == "brats":
            return hausdorff_mm(*self.surfaces)
        return hd95_mm(self.prediction, self.reference, self.spacing_mm, self.definition)

    @cached_property
    def lesions(self) -> LesionScores:
        """The scores of 2023, lesion by lesion."""
        return score_lesions(self.prediction, self.reference, self.spacing_mm, self._lesion_hd95_mm)

    def _lesion_hd95_mm(self, pieces: Mask, lesion: Mask) -> float:
        if np.count_nonzero(pieces) == self.predicted and np.count_nonzero(lesion) == self.true:
            return self.hd95_mm  # the only lesion
        return hd95_mm(pieces, lesion, self.spacing_mm, self.definition)
