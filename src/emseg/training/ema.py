"""The exponential moving average of the weights."""

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor


class Ema(WeightAveraging):
    """A callback that averages the weights over optimizer steps, for validation and checkpoints.

    Buffers are copied from the live module. In a checkpoint `state_dict` is the average and
    `current_model_state` the live weights, from which a resumed run continues; after training the
    module holds the average.

    Args:
        decay: after a step the average is `decay * average + (1 - decay) * live`.
        warmup_steps: after the first step, and each of the first so many, it equals the live ones.
        validate_with_ema: whether validation uses the average.
    """

    def __init__(
        self, *, decay: float = 0.999, warmup_steps: int = 0, validate_with_ema: bool = True
    ) -> None:
        self._decay = decay
        self._warmup_steps = warmup_steps
        self._validate_with_ema = validate_with_ema
        # Without use_buffers PyTorch's AveragedModel copies all buffers, integer ones whole.
        super().__init__(use_buffers=False, multi_avg_fn=self._average)

    @torch.no_grad()
    def _average(
        self, average: list[Tensor], live: list[Tensor], updates_before: Tensor | int
    ) -> None:
        weight = 1.0 if updates_before < self._warmup_steps else 1 - self._decay
        torch._foreach_lerp_(average, live, weight)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._validate_with_ema:
            super().on_validation_epoch_start(trainer, pl_module)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._validate_with_ema:
            super().on_validation_epoch_end(trainer, pl_module)
