from functools import partial
from math import cos, pi

import pytest
import torch

from emseg.errors import UserError
from emseg.training.schedules import constant, cosine, warmup_cosine_lr


def _rates(make, *, steps, lrs=(3e-4,)):
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr} for lr in lrs]
    optimizer = torch.optim.SGD(groups, lr=1.0)
    schedule = make(optimizer)
    rates = []
    for _ in range(steps):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    return rates


def test_warmup_cosine_is_its_closed_form():
    make = partial(
        warmup_cosine_lr,
        total_steps=100,
        steps_per_epoch=10,
        warmup_epochs=2.5,
        warmup_start_lr=1e-5,
        min_lr=1e-6,
    )
    rates = _rates(make, steps=120, lrs=(3e-4, 2e-5))
    for step, pair in enumerate(rates):
        for rate, top in zip(pair, (3e-4, 2e-5), strict=True):
            if step < 25:
                wanted = 1e-5 + (top - 1e-5) * step / 25
            elif step < 100:
                wanted = 1e-6 + (top - 1e-6) / 2 * (1 + cos(pi * (step - 25) / 75))
            else:
                wanted = 1e-6
            assert rate == pytest.approx(wanted, rel=1e-12)
    assert rates[0] == pytest.approx([1e-5, 1e-5])
    assert rates[25] == pytest.approx([3e-4, 2e-5])


def test_warmup_steps_replace_warmup_epochs():
    make = partial(warmup_cosine_lr, total_steps=50, steps_per_epoch=1000, warmup_steps=5)
    assert _rates(make, steps=6)[5] == pytest.approx([3e-4])


def test_cosine_and_constant_are_their_closed_forms():
    rates = _rates(partial(cosine, total_steps=10, min_lr=1e-4), steps=12)
    wanted = [1e-4 + 1e-4 * (1 + cos(pi * min(step, 10) / 10)) for step in range(12)]
    assert [rate for (rate,) in rates] == pytest.approx(wanted, rel=1e-12)
    assert _rates(constant, steps=5) == [[3e-4]] * 5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"warmup_epochs": 3.0}, "warmup_epochs makes a warm-up of 30 steps.* below .* 30"),
        ({"warmup_steps": -1}, "warmup_steps=-1 must be 0 or more"),
        ({"warmup_steps": 3, "warmup_start_lr": 1e-3}, "warmup_start_lr is 0.001"),
        ({"warmup_steps": 0, "min_lr": 1e-3}, "min_lr is 0.001"),
    ],
)
def test_impossible_schedules_are_refused(settings, message):
    make = partial(warmup_cosine_lr, total_steps=30, steps_per_epoch=10, **settings)
    with pytest.raises(UserError, match=message):
        _rates(make, steps=1)
