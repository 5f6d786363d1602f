"""The search space of tune: which arguments of the decoder are sampled, and which swept."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import optuna

from emseg.config import build
from emseg.config.schema import Space
from emseg.decoding import sweep_of
from emseg.stages.decode import DecodeJob


@dataclass(frozen=True)
class Search:
    """What is searched: `sampled` by Optuna, the values of `swept` all tried in every trial."""

    sampled: dict[str, Space]
    swept: tuple[str, list[float]] | None


def split_space(space: Mapping[str, Space], job: DecodeJob) -> Search:
    """The space with the decoder's swept argument apart, where that has a step."""
    sweep = sweep_of(build(job.decoding, kind="decoding", allow=job.allow).func)
    found = space.get(sweep.argument) if sweep else None
    if sweep is None or found is None or found.step is None:
        return Search(dict(space), None)
    sampled = {key: one for key, one in space.items() if key != sweep.argument}
    return Search(sampled, (sweep.argument, _grid(found)))


def suggest(trial: optuna.Trial, key: str, found: Space) -> Any:
    """The sampler's value of one argument."""
    if found.choices is not None:
        return trial.suggest_categorical(key, found.choices)
    assert found.low is not None and found.high is not None
    step = 1 if found.step is None else found.step
    if all(isinstance(number, int) for number in (found.low, found.high, step)):
        return trial.suggest_int(key, found.low, found.high, step=step, log=found.log)
    value = trial.suggest_float(key, found.low, found.high, step=found.step, log=found.log)
    return _tidy(value) if found.step else value


def start_of(space: Mapping[str, Space], decoding: Mapping[str, Any]) -> dict[str, Any]:
    """The config's own arguments, tried first, but for those that lie outside the space."""
    start = {}
    for key, found in space.items():
        name, _, index = key.partition(".")
        value = decoding[name][int(index)] if index else decoding[name]
        if _lies_in(found, value):
            start[key] = value
    return start


def _grid(found: Space) -> list[float]:
    assert found.low is not None and found.high is not None and found.step is not None
    count = int((found.high - found.low) / found.step + 1e-9) + 1
    return [_tidy(found.low + index * found.step) for index in range(count)]


def _tidy(value: float) -> float:
    # 0.1 + 2 * 0.1 is 0.30000000000000004; the YAML of the best is for reading, too.
    return round(value, 12)


def _lies_in(found: Space, value: Any) -> bool:
    if found.choices is not None:
        return value in found.choices
    assert found.low is not None and found.high is not None
    if not isinstance(value, int | float) or not found.low <= value <= found.high:
        return False
    steps = (value - found.low) / found.step if found.step else 0
    return abs(steps - round(steps)) < 1e-8
