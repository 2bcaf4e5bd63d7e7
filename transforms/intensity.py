"""What MONAI has no transform for: the background's own value, the study's division, changes of the brain alone."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, NormalizeIntensity, NormalizeIntensityd, RandomizableTransform
from torch import Tensor

from transforms.background import find_background
from transforms.boxes import box_around
from transforms.labels import MODALITY_TITLES
from transforms.slices import plain, spacing_mm
from transforms.windows import slice_window

UNUSUAL = "unusual"
"""Under this key a sample says in lines what is unusual about its images."""


class ZeroBackgroundd(MapTransform):
    """Shift each channel so that its background is zero, which tells brain from background from here on.

    What else counts as background, see `transforms.background`, becomes zero too, and is said under `UNUSUAL`.

    Args:
        names: of the channels, for what is said.
    """

    def __init__(self, keys: KeysCollection, names: Sequence[str] = ()) -> None:
        super().__init__(keys)
        self.names = [MODALITY_TITLES.get(name, name) for name in names]

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Shift the images (C, H, W, D); one of a background of zero alone is handed on as it is."""
        shifted: dict[Hashable, Any] = dict(data)
        said: list[str] = []
        for key in self.key_iterator(data):
            image = data[key]
            channels = plain(image).cpu().numpy()
            found = [find_background(channel) for channel in channels]
            levels = torch.tensor([background.level for background in found], dtype=image.dtype, device=image.device)
            if bool(levels.any()):
                shifted[key] = image - levels.reshape(-1, 1, 1, 1)
            for number, (background, channel) in enumerate(zip(found, channels, strict=True)):
                if not background.is_one_value:
                    said += [f"{self._name(number)}: {words}" for words in background.in_words(channel)]
                    brain = torch.from_numpy(background.brain_in(channel)).to(image.device)
                    shifted[key] = shifted[key].clone() if shifted[key] is image else shifted[key]
                    shifted[key][number].masked_fill_(~brain, 0)
        return {**shifted, UNUSUAL: "\n".join(said)}

    def _name(self, number: int) -> str:
        return self.names[number] if number < len(self.names) else f"channel {number}"


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
