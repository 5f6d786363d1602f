"""The Dice loss: overlap of probabilities and target."""

from torch import Tensor, nn

from emseg.bounds import AboveZero, checked
from emseg.losses.ranks import masked_mean, sum_over_ranks


class Dice(nn.Module):
    """One minus the soft Dice coefficient of the logits' sigmoid, where the mask is true.

    Called with logits, target (0 or 1) and mask, all `(B, C, Z, Y, X)`; computed in float32. Each
    sample and channel has a coefficient, and the losses are averaged over those with any valid
    voxel.

    Args:
        smooth: above 0; is added to numerator and denominator.
        batch: the samples of all ranks count as one, and only channels are averaged, so that a
            sample without foreground does not push predictions towards zero by itself.
    """

    @checked
    def __init__(self, *, smooth: AboveZero = 1e-5, batch: bool = False) -> None:
        super().__init__()
        self.smooth = smooth
        self.batch = batch

    def forward(self, logits: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        axes = tuple(range(2, logits.ndim))
        mask = mask.float()
        probability = logits.float().sigmoid() * mask
        truth = target.float() * mask
        valid = mask.sum(axes)
        overlap = (probability * truth).sum(axes)
        size = probability.sum(axes) + truth.sum(axes)
        if self.batch:
            valid, overlap, size = (
                sum_over_ranks(part.sum(0, keepdim=True)) for part in (valid, overlap, size)
            )
        loss = 1 - (2 * overlap + self.smooth) / (size + self.smooth)
        # Batch sums are equal on all ranks, and so is their mean over ranks.
        return masked_mean(loss, valid > 0)
