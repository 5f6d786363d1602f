"""Learning from a few labels and from agreement of student and teacher on unlabelled patches."""

import copy
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from emseg.bounds import Positive, Rule, Weight, checked
from emseg.errors import UserError
from emseg.training.objective import Batch, Losses, Objective, Parts
from emseg.training.outputs import levels_of
from emseg.training.supervised import fit, fit_pictures, parts_of_fit

Decay = Annotated[float, Rule("0 or more and below 1", lambda decay: 0 <= decay < 1)]
Confidence = Annotated[float, Rule("from 0.5 to below 1", lambda chance: 0.5 <= chance < 1)]


class Consistency(Objective):
    """Fits `net`, the student, to targets and, on unlabelled patches, to a teacher.

    A training batch has `image`, `target` and `mask`, as for `Supervised`, and as many patches
    without labels, `unlabelled` and `perturbed`: the teacher sees the first, the student the
    second, and the student is fitted to the teacher's probabilities, which get no gradient:

        loss(student(image), target) + w consistency(student(perturbed), teacher(unlabelled))

    (SSNS-Net, Huang et al. 2022; Tarvainen and Valpola 2017.)

    Args:
        teacher: the student itself, `shared`, or `ema`, a second network of averaged weights. That
            begins as a copy of the student, buffers included, and after step t = 0, 1 ... all of it
            is a * teacher + (1 - a) * student, a = min(1 - 1 / (t + 1), `decay`). It is what
            validates, is shown and is tested.
        teacher_norm: what batch norm does in the teacher: `eval` goes by running statistics and
            leaves them alone; `train` by those of the unlabelled patches, which also move the
            running ones (of an `ema` teacher in place of the student's).
        consistency: `mse` of probabilities or `bce`, the mean over entries that count.
        weight: w, after `ramp_steps`; in step t before, it is times exp(-5 (1 - t / ramp_steps)^2).
        ramp_steps: None: w is `weight` at once.
        confidence: entries count where the teacher's probability, or that of the contrary, is this
            or more; in [0.5, 1). None: all count.

    Raises:
        UserError: the target has channels that are distances.
    """

    of_target = True
    perturbs = True

    @checked
    def __init__(
        self,
        parts: Parts,
        *,
        teacher: Literal["shared", "ema"] = "shared",
        decay: Decay = 0.999,
        teacher_norm: Literal["eval", "train"] = "eval",
        consistency: Literal["mse", "bce"] = "mse",
        weight: Weight = 1.0,
        ramp_steps: Positive | None = None,
        confidence: Confidence | None = None,
    ) -> None:
        super().__init__(parts)
        if {*(self.activations or ())} - {"sigmoid"}:
            raise UserError(
                "objective: Consistency is of probabilities, and the target has channels that are "
                "distances"
            )
        self.teacher = copy.deepcopy(self.net).requires_grad_(False) if teacher == "ema" else None
        self.decay = decay
        self.teacher_norm = teacher_norm
        self.consistency = consistency
        self.weight = weight
        self.ramp_steps = ramp_steps
        self.confidence = confidence
        # Lightning does not change the mode of modules.
        self.train()

    def setup(self, stage: str) -> None:
        # The student may have got weights from `model.init_from`; checkpoints are loaded later.
        if self.teacher is not None:
            self.teacher.load_state_dict(self.net.state_dict())

    def train(self, mode: bool = True) -> "Consistency":
        super().train(mode)
        if self.teacher is not None:
            self.teacher.train(mode and self.teacher_norm == "train")
        return self

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        net = self.net if self.training or self.teacher is None else self.teacher
        logits: Tensor | list[Tensor] = net(image.to(memory_format=self.memory_format))
        return logits

    def losses(self, batch: Batch) -> Losses:
        if "unlabelled" not in batch:
            return fit(self.loss, levels_of(self(batch["image"])), batch)
        taught = self.taught(batch["unlabelled"])
        # One forward of all: batch norm sees labelled and perturbed patches together.
        count = len(batch["image"])
        levels = levels_of(self(torch.cat([batch["image"], batch["perturbed"]])))
        supervised, parts = fit(self.loss, [logits[:count] for logits in levels], batch)
        drawn = self.disagreement(levels[0][count:], taught)
        weight = self.weight_at(self.global_step)
        own = {"supervised": supervised, "consistency": drawn}
        return supervised + weight * drawn, parts | {k: v.detach() for k, v in own.items()}

    def loss_parts(self, channels: int) -> list[str]:
        """The parts of the labelled loss, which validation has too."""
        return parts_of_fit(self.loss, channels)

    @torch.no_grad()
    def taught(self, image: Tensor) -> Tensor:
        """The teacher's probabilities of clean patches, float32."""
        with self._teaching() as net:
            outputs = net(image.to(memory_format=self.memory_format))
        return levels_of(outputs)[0].float().sigmoid()

    def disagreement(self, logits: Tensor, taught: Tensor) -> Tensor:
        """How far the student is from the teacher's probabilities where the teacher is sure."""
        logits = logits.float()
        if self.consistency == "bce":
            entries = binary_cross_entropy_with_logits(logits, taught, reduction="none")
        else:
            entries = (logits.sigmoid() - taught).square()
        if self.confidence is None:
            return entries.mean()
        sure = torch.maximum(taught, 1 - taught) >= self.confidence
        return (entries * sure).sum() / sure.sum().clamp(min=1)

    def weight_at(self, step: int) -> float:
        """The weight of the disagreement in a step, counted from 0."""
        if self.ramp_steps is None:
            return self.weight
        missing = 1 - min(step / self.ramp_steps, 1)
        return self.weight * math.exp(-5 * missing**2)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        step = self.global_step
        super().optimizer_step(*args, **kwargs)
        if self.teacher is not None:
            follow(self.teacher, self.net, own_share=min(1 - 1 / (step + 1), self.decay))

    def pictures(self, batch: Batch) -> list[Tensor]:
        """As for `Supervised`; in training also both unlabelled views and the teacher's output."""
        logits = self(batch["image"])
        shown = fit_pictures(logits, batch, self.activations)
        if "unlabelled" not in batch:
            return shown
        clean, seen = batch["unlabelled"], batch["perturbed"]
        return [*shown, clean[0], seen[0], self.taught(clean)[0]]

    @contextmanager
    def _teaching(self) -> Iterator[nn.Module]:
        """The teacher; a shared one is set to its teaching mode."""
        if self.teacher is not None:
            yield self.teacher
            return
        was = self.net.training
        self.net.train(was and self.teacher_norm == "train")
        try:
            yield self.net
        finally:
            self.net.train(was)


@torch.no_grad()
def follow(teacher: nn.Module, student: nn.Module, *, own_share: float) -> None:
    """Moves the teacher towards the student: `own_share` of it stays; integer buffers are copied.

    In train mode its batch norms have their own statistics, which are not changed.
    """
    followed: list[tuple[Iterable[Tensor], Iterable[Tensor]]] = [
        (teacher.parameters(), student.parameters())
    ]
    if not teacher.training:
        followed.append((teacher.buffers(), student.buffers()))
    for mine, theirs in followed:
        for own, other in zip(mine, theirs, strict=True):
            if own.is_floating_point():
                own.lerp_(other, 1 - own_share)
            else:
                own.copy_(other)
