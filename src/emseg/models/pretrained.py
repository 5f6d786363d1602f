"""Parts of a network's weights, by the first of each name."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from emseg.errors import UserError


def parts_of(weights: Mapping[str, Tensor]) -> set[str]:
    """The names of the parts that weights are of."""
    return {name.partition(".")[0] for name in weights}


def encoder_of(weights: Mapping[str, Tensor], encoder: Sequence[str]) -> dict[str, Tensor]:
    """The pretrained weights of the parts named in `encoder`; UserError if it lacks one."""
    parts = parts_of(weights)
    lacking = [part for part in encoder if part not in parts]
    if lacking:
        raise UserError(
            f"no weights of the encoder's {', '.join(lacking)} are among the pretrained ones, "
            f"which are those of {', '.join(sorted(parts)) or 'nothing'}"
        )
    return {name: value for name, value in weights.items() if name.partition(".")[0] in encoder}
