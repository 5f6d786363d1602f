"""The search space of tune: which arguments of the decoder are sampled, and which one is swept."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import optuna

from emseg.config.schema import Space
from emseg.decoding.decoder import Sweeping
from emseg.stages.decode_job import DecodeJob, decoder_for


@dataclass(frozen=True)
class Search:
    """The search: Optuna draws `sampled`; every trial tries all values of `swept`."""

    sampled: dict[str, Space]
    swept: tuple[str, list[float]] | None


def split_space(space: Mapping[str, Space], job: DecodeJob) -> Search:
    """The space, with the decoder's swept argument separated if it has a step."""
    decoder = decoder_for(job)
    swept = decoder.swept if isinstance(decoder, Sweeping) else ""
    found = space.get(swept)
    if found is None or found.step is None:
        return Search(dict(space), None)
    sampled = {key: one for key, one in space.items() if key != swept}
    return Search(sampled, (swept, _grid(found)))


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


def own_values(space: Iterable[str], decoding: Mapping[str, Any]) -> dict[str, Any]:
    """The config's own values for the arguments of a space, or of a part of it."""
    return {
        key: decoding[name][int(index)] if index else decoding[name]
        for key, (name, _, index) in ((key, key.partition(".")) for key in space)
    }


def start_of(space: Mapping[str, Space], decoding: Mapping[str, Any]) -> dict[str, Any]:
    """The config's own arguments, tried first, without those outside the space's bounds.

    They need not be on its steps: the first trial shows where tuning starts.
    """
    own = own_values(space, decoding)
    return {key: value for key, value in own.items() if _lies_in(space[key], value)}


def _grid(found: Space) -> list[float]:
    assert found.low is not None and found.high is not None and found.step is not None
    count = int((found.high - found.low) / found.step + 1e-9) + 1
    return [_tidy(found.low + index * found.step) for index in range(count)]


def _tidy(value: float) -> float:
    # 0.1 + 2 * 0.1 is 0.30000000000000004; people read the YAML of the best.
    return round(value, 12)


def _lies_in(found: Space, value: Any) -> bool:
    if found.choices is not None:
        return value in found.choices
    assert found.low is not None and found.high is not None
    return isinstance(value, int | float) and bool(found.low <= value <= found.high)
