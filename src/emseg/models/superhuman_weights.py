"""The pretrained weights with which SSNS-Net's segmentation network starts."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from emseg.errors import UserError


def pretrained_encoder(
    weights: Mapping[str, Tensor], saved_model: Mapping[str, Any], *, encoder: Sequence[str]
) -> dict[str, Tensor] | None:
    """The weights of the parts named in `encoder`, with their batch norms' statistics.

    None if `weights` are not of a pretraining, which has no skips and as many output as input
    channels, or only an encoder. `saved_model` are the model's settings in the file.
    Raises UserError if a part of the encoder is missing, or the number of levels differs.
    """
    parts = {name.partition(".")[0] for name in weights}
    if not (_without_skips(weights, saved_model) or (parts and parts <= {*encoder})):
        return None
    lacking = [part for part in encoder if part not in parts]
    if lacking:
        raise UserError(
            f"no weights of the encoder's {', '.join(lacking)} are among the pretrained ones, "
            f"which are those of {', '.join(sorted(parts))}"
        )
    levels = sum(part.startswith("up") for part in parts)
    if levels and levels != len(encoder) - 2:
        # A name of our encoder may then belong to the decoder of the other network.
        raise UserError(
            f"the pretrained weights have {levels + 1} levels, model.width has {len(encoder) - 1}"
        )
    return {name: value for name, value in weights.items() if name.partition(".")[0] in encoder}


def _without_skips(weights: Mapping[str, Tensor], saved_model: Mapping[str, Any]) -> bool:
    names = ("up0.1.weight", "cat0.0.weight", "embed_in.0.weight", "out_put.0.weight")
    if not {*names} <= weights.keys():
        return False
    if "merge" in saved_model:
        return bool(saved_model["merge"] == "none")
    up, seen, first, last = (weights[name].shape for name in names)
    # Networks with added skips have the same shapes, but not as many output as input channels.
    return up[:1] == seen[:1] and last[:1] == first[1:2]
