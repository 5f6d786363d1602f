"""Absolute error of values, squared where it is small."""

from functools import partial

import torch.nn.functional as F

from emseg.losses.mse import ValueLoss


class SmoothL1(ValueLoss):
    """The mean of d^2 / 2 if |d| < 1, else |d| - 1/2; d is the activated logit minus the target."""

    errors = staticmethod(partial(F.smooth_l1_loss, reduction="none"))
