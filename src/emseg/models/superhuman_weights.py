"""What SSNS-Net's segmentation network takes from the one that was pretrained before it."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from emseg.errors import UserError


def pretrained_encoder(
    weights: Mapping[str, Tensor], saved_model: Mapping[str, Any], *, encoder: Sequence[str]
) -> dict[str, Tensor] | None:
    """The weights of the parts named in `encoder`, with their batch norms' statistics.

    None where `weights` are not of a pretraining: one has no skips, and makes as many channels as
    it sees, or `weights` are of an encoder alone. `saved_model` is what the file says of its model.
    UserErrors: a part of the encoder is not among them, another number of levels.
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
        # What is the encoder's here may then be the decoder's there, under the same name.
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
    # Sums have the shapes of no skips at all; but what they make has other channels than images.
    return up[:1] == seen[:1] and last[:1] == first[1:2]
