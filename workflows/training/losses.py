"""Losses: of the nested regions that BraTS scores, and of a network's answers at several levels."""

from __future__ import annotations

import torch
from monai.losses import DeepSupervisionLoss, DiceLoss
from torch import Tensor, nn

from transforms.labels import NUM_CLASSES, REGIONS


class RegionDiceCELoss(nn.Module):
    """Dice of WT, TC and ET over the batch plus cross-entropy of the classes.

    A region's probability is the sum of its classes' softmax, so the regions are nested whatever the network says, and
    scores, post-processing and files stay those of classes. `lambda_ce` weighs the cross-entropy.
    """

    def __init__(self, lambda_ce: float = 1.0) -> None:
        super().__init__()
        self.lambda_ce = lambda_ce
        self.dice = DiceLoss(batch=True)
        members = torch.zeros(len(REGIONS), NUM_CLASSES)
        for row, classes in zip(members, REGIONS.values(), strict=True):
            row[list(classes)] = 1
        self.register_buffer("members", members, persistent=False)  # (regions, classes)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Mean over the batch; both (B, classes, H, W), the target one-hot or soft."""
        cross_entropy = nn.functional.cross_entropy(logits, target)
        dice: Tensor = self.dice(self._regions(logits.softmax(dim=1)), self._regions(target))
        return dice + self.lambda_ce * cross_entropy

    def _regions(self, classes: Tensor) -> Tensor:
        members = self.members.to(classes)
        return torch.einsum("rc,bchw->brhw", members, classes)


class DeeplySupervised(nn.Module):
    """The loss of a network's answers at several of its levels, each with half the weight of the one before (Lee et al.
    2014, arXiv:1409.5185); in evaluation a network has one answer, and this is the loss of that.
    """

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = DeepSupervisionLoss(loss)  # type: ignore[arg-type]  # any loss will do

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Weighted sum of the losses of (B, answers, classes, H, W), the finest first, as MONAI's DynUNet gives them in
        training; or the loss of one answer, which has the target's shape (B, classes, H, W).
        """
        one = logits.ndim == target.ndim
        loss: Tensor = self.loss(logits if one else list(logits.unbind(dim=1)), target)
        return loss


def finest(logits: Tensor, target: Tensor) -> Tensor:
    """The answer (B, classes, H, W) that counts, of one or of several as `DeeplySupervised` takes them."""
    return logits if logits.ndim == target.ndim else logits[:, 0]
