"""How tumours differ from patient to patient: the contrast of their tissues, drawn anew for every slice."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from transforms.labels import ENHANCING, NECROTIC_CORE, NUM_CLASSES, OEDEMA
from transforms.soft_labels import expand_labels

CONTRAST: dict[str, tuple[tuple[int, ...], tuple[float, float]]] = {
    "flair": ((NECROTIC_CORE, OEDEMA, ENHANCING), (0.4, 1.3)),
    "t2": ((NECROTIC_CORE, OEDEMA, ENHANCING), (0.4, 1.3)),
    "t1ce": ((ENHANCING,), (0.5, 1.3)),
}
"""By modality: tissues whose contrast to the brain changes together, and the limits of the factor. Tumours are brighter
than the brain in FLAIR by very different amounts, and enhancement ranges from faint to bright."""
NECROSIS_SHIFT = {"flair": 1.2, "t2": 0.4, "t1ce": 0.4}
"""Standard deviations of the shift of necrosis, in those of the brain: in FLAIR it may be as dark as the ventricles or
brighter than oedema."""
BLENDED_PX = 3
"""Borders of tissues are blended over this many pixels, so that no edge shows the label."""


class RandTissueContrastd(RandomizableTransform, MapTransform):
    """Changes the grey values of tumour tissue, of every slice of a batch for itself.

    For z-scores, in which the brain's mean is 0: a factor on a tissue's values is its contrast. The background stays
    zero. Values and limits for FLAIR and T1ce were chosen on the real cases of docs/experiments.md, those for T2 are a
    guess after them, and T1 stays as it is.

    Args:
        prob: of a change, per slice.
        modalities: of a slice's own channels; those of its neighbours or of its mirror image stay as they are.
        label_key: (B, 1 or more, H, W) as `expand_labels` takes it.
    """

    def __init__(self, keys: KeysCollection, prob: float, modalities: Sequence[str], label_key: str = "label") -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        self.modalities, self.label_key = tuple(modalities), label_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Change the batches (B, C, H, W); the labels stay as they are."""
        return {**data, **{key: self._change(data[key], data[self.label_key]) for key in self.key_iterator(data)}}

    def _change(self, batch: Tensor, labels: Tensor) -> Tensor:
        each = len(self.modalities)
        first = (batch.shape[1] // each - 1) // 2 * each  # the middle of neighbours, before a mirror image
        changed, *drawn = self._draw(len(batch))
        places = torch.as_tensor(np.flatnonzero(changed)).to(batch.device, non_blocking=True)
        gain, shift = (torch.as_tensor(values[changed]).to(batch, non_blocking=True) for values in drawn)
        tissues = _blended(expand_labels(labels[places]))  # (changed slices, classes, H, W)
        own = batch[places, first : first + each]
        other = own + own * _spread(gain, tissues) + _spread(shift, tissues)
        result = batch.clone()  # the slices that were not drawn stay as they are, and cost no more than this
        result[places, first : first + each] = torch.where(own != 0, other, own)
        return result

    def _draw(self, slices: int) -> tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.float64]]:
        """Which slices change, what is added to a factor of 1, and what to the values: (slices,), and (slices, classes,
        modalities) each.
        """
        gain, shift = (np.zeros((slices, NUM_CLASSES, len(self.modalities))) for _ in range(2))
        changed = self.R.uniform(size=slices) < self.prob
        for channel, modality in enumerate(self.modalities):
            classes, limits = CONTRAST.get(modality, ((), (1.0, 1.0)))
            factor = self.R.uniform(*limits, size=slices)
            gain[:, list(classes), channel] = (changed * (factor - 1))[:, None]
            shift[:, NECROTIC_CORE, channel] = changed * self.R.normal(0, NECROSIS_SHIFT.get(modality, 0), size=slices)
        return changed, gain, shift


def _blended(tissues: Tensor) -> Tensor:
    """Means over squares of `BLENDED_PX`, zero beyond the border: `avg_pool2d`, which takes six times as long."""
    padded = functional.pad(tissues, [BLENDED_PX // 2] * 4)
    return padded.unfold(2, BLENDED_PX, 1).mean(-1).unfold(3, BLENDED_PX, 1).mean(-1)


def _spread(values: Tensor, tissues: Tensor) -> Tensor:
    """(B, classes, modalities) over the pixels of the classes (B, classes, H, W): (B, modalities, H, W)."""
    return torch.einsum("bchw,bcm->bmhw", tissues, values)
