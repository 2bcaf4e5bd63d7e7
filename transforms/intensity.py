"""What MONAI has no transform for: the background's own value, the study's division, changes of the brain alone."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, NormalizeIntensity, NormalizeIntensityd, RandomizableTransform
from torch import Tensor

from transforms.boxes import box_around
from transforms.slices import plain, spacing_mm
from transforms.windows import slice_window


def border_values(image: Tensor) -> Tensor:
    """The background value of each channel: the median over the faces of the volume.

    Args:
        image: (C, H, W, D).
    Returns:
        (C,); zero for scans as BraTS publishes them, something else for copies that were z-scored.
    """
    faces = [image.select(axis, index).flatten(1) for axis in (1, 2, 3) for index in (0, -1)]
    return torch.cat(faces, dim=1).median(dim=1).values


class ZeroBackgroundd(MapTransform):
    """Shift each channel so that its background is zero, which tells brain from background from here on."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Shift the images (C, H, W, D)."""
        shifted = dict(data)
        for key in self.key_iterator(data):
            values = border_values(data[key])
            if bool(values.any()):
                shifted[key] = data[key] - values.reshape(-1, 1, 1, 1)
        return shifted


class _NormalizeAlike(NormalizeIntensity):
    """MONAI's, with sums in float64, and in passes over the whole box around the brain.

    Its float32 sums depend on the number of threads in the digits that rounding to 16 bits then enlarges, so that a
    patient looked different in a loading process. And it reads and writes the brain's voxels by their places, for which
    torch takes three times as long as for all in the box around them.
    """

    def _normalize(self, img: Any, *_: Any, **__: Any) -> Any:
        """One channel (H, W, D) in place; a brain of one value becomes zero."""
        everything = plain(img)
        values = everything[box_around(everything != 0)]
        background = values == 0
        brain = torch.as_tensor(values.cpu().numpy()[~background.cpu().numpy()]).double()
        if len(brain):
            deviation = float(brain.std(unbiased=False))
            values.sub_(float(brain.mean())).div_(deviation or 1.0).masked_fill_(background, 0)
        return img


class ZScoreInBraind(NormalizeIntensityd):
    """(image - mean) / standard deviation, both over the brain's voxels of each channel; the background stays zero."""

    def __init__(self, keys: KeysCollection) -> None:
        super().__init__(keys)
        self.normalizer = _NormalizeAlike(nonzero=True, channel_wise=True)


class ClampIntensityd(MapTransform):
    """Values beyond ± `limit` become that, in place; MONAI's `ThresholdIntensityd` takes several for each side."""

    def __init__(self, keys: KeysCollection, limit: float) -> None:
        super().__init__(keys)
        self.limit = limit

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Clamp the images (C, H, W, D)."""
        return {**data, **{key: data[key].clamp_(-self.limit, self.limit) for key in self.key_iterator(data)}}


class DivideByWindowMaximumd(MapTransform):
    """The study's normalisation: all modalities divided by the one maximum of the slices in its window.

    A window without any signal is left as it is.
    """

    def __init__(self, keys: KeysCollection, slice_range: Sequence[int]) -> None:
        super().__init__(keys)
        self.slice_range = tuple(slice_range)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Divide the images (C, H, W, D)."""
        divided = dict(data)
        for key in self.key_iterator(data):
            volume = data[key]
            first, end = slice_window(self.slice_range, spacing_mm(volume), volume.shape[-1])
            maximum = volume[..., first:end].max()
            divided[key] = volume / maximum if maximum > 0 else volume
        return divided


class RandGainOffsetd(RandomizableTransform, MapTransform):
    """image × (1 + gain) + offset inside the brain, drawn for every slice and modality of a batch (B, C, H, W).

    MONAI's `RandShiftIntensity` would shift the background too, which must stay zero.

    Args:
        gain_range: gains are uniform within ± this.
        offset_range: offsets likewise, in the unit of the image (standard deviations after z-scoring).
        modalities: of the channels, so that a modality's neighbouring slices change alike; None if each is one.
        slab: this many consecutive slices of the batch change alike.
    """

    def __init__(
        self, keys: KeysCollection, gain_range: float, offset_range: float, modalities: int | None = None, slab: int = 1
    ) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob=1.0)
        self.gain_range, self.offset_range = gain_range, offset_range
        self.modalities, self.slab = modalities, slab

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Change the batches (B, C, H, W) inside the brain."""
        changed = dict(data)
        for key in self.key_iterator(data):
            batch = data[key]  # (B, C, H, W)
            gain = 1 + self._draw(self.gain_range, batch)
            offset = self._draw(self.offset_range, batch)
            changed[key] = torch.where(batch != 0, batch * gain + offset, batch)
        return changed

    def _draw(self, limit: float, batch: Tensor) -> Tensor:
        slices, channels = batch.shape[:2]
        modalities = self.modalities or channels
        values = torch.as_tensor(self.R.uniform(-limit, limit, size=(slices // self.slab, modalities, 1, 1)))
        return (
            values.repeat_interleave(self.slab, dim=0)
            .repeat(1, channels // modalities, 1, 1)
            .to(batch, non_blocking=True)
        )
