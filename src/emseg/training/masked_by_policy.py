"""Predicting hidden patches, chosen by a policy that is trained together with the network."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Annotated, Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer

from emseg.bounds import Weight, above, checked, within
from emseg.errors import UserError
from emseg.losses.loss_arguments import with_parts
from emseg.losses.membrane import patch_means
from emseg.training.masked import MaskedPretraining
from emseg.training.masking_policy import Choice, MaskingPolicy, Samples
from emseg.training.objective import Batch, Losses, Parts

_POLICY = "policy."


class PolicyPretraining(MaskedPretraining):
    """A `MaskedPretraining` in which `policy` chooses what is hidden in each training sample.

    The policy learns from optimizer step `warmup_steps` to `freeze_steps`; the reward of a sample
    is minus the mean squared error of its hidden patches. The losses of network and policy give no
    gradient to each other's part. Before these steps, and after them for a `PatchPolicy`,
    `strategy` and its settings hide patches, as in validation. A draw depends on the sample's
    `seed` and the policy's weights alone. (dbMiM.)

    It also logs `mask_ratio`, `mask_edge_fraction` if the policy chooses one, and, while it learns,
    `mask_reward` and `train_loss_policy`.

    Args:
        policy_lr: the policy's learning rate in the network's optimizer.
        policy_weight: multiplies the policy's loss, `Choice.loss`, which explains the next three.
        strategy, ratio, fraction, power, noise: see `masking_by`; `ratio` is also the policy's
            wanted share.

    Raises:
        UserError: `warmup_steps` is not below `freeze_steps`, the policy does not hide `ratio`, or
            as for `masking_by`.
    """

    @checked
    def __init__(
        self,
        parts: Parts,
        *,
        policy: Callable[[nn.Module], MaskingPolicy],
        policy_lr: Annotated[float, above(0)],
        policy_weight: Annotated[float, above(0)],
        entropy_weight: Weight,
        value_weight: Weight,
        ratio_weight: Weight,
        warmup_steps: Annotated[int, within(0)],
        freeze_steps: int,
        strategy: str = "random",
        ratio: float = 0.75,
        fraction: float | None = None,
        power: float | None = None,
        noise: float | None = None,
    ) -> None:
        if warmup_steps >= freeze_steps:
            raise UserError(
                f"objective.freeze_steps is {freeze_steps}; it must be above "
                f"objective.warmup_steps, {warmup_steps}"
            )

        def make_both(params: Iterable[tuple[str, nn.Parameter]]) -> Optimizer:
            named = list(params)
            optimizer = parts.make_optimizer(
                [one for one in named if not one[0].startswith(_POLICY)]
            )
            own = [one for one in named if one[0].startswith(_POLICY)]
            optimizer.add_param_group({"params": own, "lr": policy_lr})
            return optimizer

        super().__init__(
            replace(parts, make_optimizer=make_both),
            strategy=strategy,
            ratio=ratio,
            fraction=fraction,
            power=power,
            noise=noise,
        )
        self.policy = policy(parts.net)
        if not self.policy.least <= ratio <= self.policy.most:
            raise UserError(
                f"objective.ratio is {ratio}; objective.policy hides {self.policy.least} to "
                f"{self.policy.most}"
            )
        self.policy_weight = policy_weight
        self.weights = {
            "entropy_weight": entropy_weight,
            "value_weight": value_weight,
            "ratio_weight": ratio_weight,
        }
        self.warmup_steps, self.freeze_steps = warmup_steps, freeze_steps
        self._logged: dict[str, Tensor] = {}

    @property
    def learning(self) -> bool:
        """Whether the policy learns in the next step."""
        return self.warmup_steps <= self.global_step < self.freeze_steps

    def hidden(self, batch: Batch) -> Tensor:
        """Which patches of a batch are hidden in training, (B, *grid)."""
        choice = self.choice(batch)
        return super().hidden(batch) if choice is None else choice.mask

    def choice(self, batch: Batch) -> Choice | None:
        """The policy's choice for a batch; None if it does not choose."""
        frozen = self.global_step >= self.freeze_steps
        if not self.learning and not (frozen and self.policy.chooses_when_frozen):
            return None
        net: Any = self.net
        with torch.no_grad():
            tokens = net.patch_embed["proj"](batch["image"]).flatten(2).transpose(1, 2)
        generators = [torch.Generator().manual_seed(seed) for seed in batch["seed"].tolist()]
        samples = Samples(batch["image"], tokens, net.grid, generators)
        return self.policy.choose(samples, self.masking, likeliest=frozen)

    def losses(self, batch: Batch) -> Losses:
        image = batch["image"]
        choice = self.choice(batch) if self.training else None
        mask = super().hidden(batch) if choice is None else choice.mask
        guess = self(image, mask)
        total, parts = with_parts(self.loss(guess, image, mask))
        if not self.training:
            return total, parts
        self._logged = {"mask_ratio": mask.float().mean()} | (choice.logged if choice else {})
        if choice is None or not self.learning:
            # Distributed processes wait for the gradients of all parameters.
            return total + 0 * sum(one.sum() for one in self.policy.parameters()), parts
        reward = -_errors(guess.detach(), image, mask)
        self._logged["mask_reward"] = reward.mean()
        own = choice.loss(reward, **self.weights)
        return total + self.policy_weight * own, parts | {"policy": own.detach()}

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        total = super().training_step(batch, batch_idx)
        self.log_dict(self._logged)
        return total

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        if not self.learning:  # with a gradient of 0, momentum and decay would still change it
            for one in self.policy.parameters():
                one.grad = None

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clips the gradients of the network and of the policy separately, each by its norm."""
        if gradient_clip_val:
            named = [*self.named_parameters()]
            for own in (True, False):
                part = [weight for name, weight in named if name.startswith(_POLICY) is own]
                clip_grad_norm_(part, gradient_clip_val)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        own = {name: value.shape for name, value in self.state_dict().items()}
        stored = {name: value.shape for name, value in checkpoint["state_dict"].items()}
        for name in {*own, *stored}:
            if name.startswith(_POLICY) and own.get(name) != stored.get(name):
                raise UserError(
                    f"objective.policy: the checkpoint was trained with another one, and cannot go "
                    f"on with {type(self.policy).__name__} (model.init_from takes its weights into "
                    "a new run)"
                )


def _errors(guess: Tensor, image: Tensor, mask: Tensor) -> Tensor:
    """The mean squared error (B) of the hidden patches of each sample."""
    errors = patch_means((guess.float() - image).square(), mask.shape[1:])
    return (errors * mask).sum((1, 2, 3)) / mask.sum((1, 2, 3))
