"""The decoder's arguments that are searched: which one is swept, values of the others."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from emseg.config import build
from emseg.config.schema import Space
from emseg.decoding.decoder import Sweeping, decoder_of

if TYPE_CHECKING:
    import optuna

# The argument that the decoder sweeps in one pass, and its values.
Swept = tuple[str, list[float]] | None


def swept_argument(decoding: Mapping[str, Any], allow: Sequence[str]) -> str | None:
    """The argument that the decoder sweeps in one pass; None if it has none."""
    decoder = decoder_of(build(decoding, kind="decoding", allow=allow))
    return decoder.swept if isinstance(decoder, Sweeping) else None


def split_space(
    space: Mapping[str, Space], decoding: Mapping[str, Any], allow: Sequence[str]
) -> tuple[dict[str, Space], Swept]:
    """What the sampler draws, and the decoder's swept argument with all its values.

    The latter is drawn like others if its space has no step.
    """
    name = swept_argument(decoding, allow)
    found = None if name is None else space.get(name)
    if name is None or found is None or found.step is None:
        return dict(space), None
    assert found.low is not None and found.high is not None
    count = int((found.high - found.low) / found.step + 1e-9) + 1
    values = [_tidy(found.low + index * found.step) for index in range(count)]
    return {key: one for key, one in space.items() if key != name}, (name, values)


def suggest(trial: "optuna.Trial", key: str, found: Space) -> Any:
    """The sampler's value of one argument."""
    if found.choices is not None:
        return trial.suggest_categorical(key, found.choices)
    assert found.low is not None and found.high is not None
    step = 1 if found.step is None else found.step
    if all(isinstance(number, int) for number in (found.low, found.high, step)):
        return trial.suggest_int(key, found.low, found.high, step=step, log=found.log)
    value = trial.suggest_float(key, found.low, found.high, step=found.step, log=found.log)
    return _tidy(value) if found.step else value


def own_values(keys: Iterable[str], decoding: Mapping[str, Any]) -> dict[str, Any]:
    """The config's own values of some arguments (`aff_threshold.0` is an element of a list)."""
    parts = ((key, *key.partition(".")) for key in keys)
    return {
        key: decoding[name][int(index)] if index else decoding[name]
        for key, name, _, index in parts
    }


def with_parameters(decoding: Mapping[str, Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the decoder's leaf with other values of some arguments, or elements of lists."""
    changed: dict[str, Any] = {
        k: [*v] if isinstance(v, list | tuple) else v for k, v in decoding.items()
    }
    for key, value in parameters.items():
        name, _, index = key.partition(".")
        if index:
            changed[name][int(index)] = value
        else:
            changed[name] = value
    return changed


def start_of(space: Mapping[str, Space], decoding: Mapping[str, Any]) -> dict[str, Any]:
    """The config's own arguments, tried first, without those outside the space's bounds.

    They need not be on its steps: the first trial shows where tuning starts.
    """
    own = own_values(space, decoding)
    return {key: value for key, value in own.items() if _lies_in(space[key], value)}


def _tidy(value: float) -> float:
    # 0.1 + 2 * 0.1 is 0.30000000000000004; people read the YAML of the best.
    return round(value, 12)


def _lies_in(found: Space, value: Any) -> bool:
    if found.choices is not None:
        return value in found.choices
    assert found.low is not None and found.high is not None
    return isinstance(value, int | float) and bool(found.low <= value <= found.high)
