"""Weights of other MedNeXt implementations under the names that ours has."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from emseg.errors import UserError
from emseg.models.mednext import LEVELS, MedNeXt

# What training programs put before a network's own names.
WRAPPERS = ("state_dict", "module", "model", "net", "_orig_mod", "ema_model")
# The official implementation, then MONAI's, which counts the decoder from the bottom.
PARTS = {
    r"enc_block_(\d)": ("encoder", False),
    r"down_(\d)": ("down", False),
    r"up_(\d)": ("up", False),
    r"dec_block_(\d)": ("decoder", False),
    r"out_(\d)\.conv_out": ("out", False),
    r"enc_stages\.(\d)": ("encoder", False),
    r"down_blocks\.(\d)": ("down", False),
    r"up_blocks\.(\d)": ("up", True),
    r"dec_stages\.(\d)": ("decoder", True),
}


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same weights by our names; the official dummy parameter is left out.

    `state` has the names of the official implementation, of MONAI's, or either below what BANIS,
    PyTorch Connectomics, Lightning or torch.compile put before them. A name that none of them has
    is a UserError.
    """
    found = {}
    for name, value in state.items():
        bare = _bare(name)
        if bare != "dummy_tensor":
            found[_our_name(bare)] = value
    return found


def grow_kernels(small: Mapping[str, Tensor], net: MedNeXt) -> dict[str, Tensor]:
    """Weights for `net` from those of one with smaller depthwise kernels (UpKern, Roy et al. 2023).

    Kernels are interpolated trilinearly to the larger size, all else is taken as it is. Weights of
    another shape in any other way are a UserError.
    """
    grown = {}
    for name, wanted in net.state_dict().items():
        value = small.get(name)
        if value is None:
            raise UserError(f"the weights have no {name}")
        if value.shape != wanted.shape:
            kernel = name.endswith("conv1.weight") and value.shape[:2] == wanted.shape[:2]
            if not kernel:
                raise UserError(
                    f"the weights' {name} is {tuple(value.shape)}, the network's "
                    f"{tuple(wanted.shape)}: only kernels may grow"
                )
            value = nn.functional.interpolate(
                value, size=wanted.shape[2:], mode="trilinear", align_corners=False
            )
        grown[name] = value
    return grown


def _bare(name: str) -> str:
    first, _, rest = name.partition(".")
    return _bare(rest) if first in WRAPPERS and rest else name


def _our_name(name: str) -> str:
    for pattern, (part, from_bottom) in PARTS.items():
        match = re.match(pattern, name)
        if match:
            level = LEVELS - 1 - int(match[1]) if from_bottom else int(match[1])
            return f"{part}.{level}{_within(name[match.end() :])}"
    if re.match(r"stem\.|bottleneck\.", name):
        head, _, rest = name.partition(".")
        return f"{head}{_within('.' + rest)}"
    raise UserError(f"'{name}' is no weight of a MedNeXt: neither the official names nor MONAI's")


def _within(rest: str) -> str:
    """The name within a block, where norm and pointwise layers are together."""
    rest = re.sub(r"\.(norm|conv2|conv3)\.", r".inner.\1.", rest)
    return re.sub(r"\.grn_(gamma|beta)$", r".inner.grn.\1", rest)


def load_official(net: MedNeXt, state: Mapping[str, Tensor]) -> None:
    """Nothing; `net` has the weights of `state`, by any names; a UserError where they differ."""
    weights = renamed(state)
    own = net.state_dict()
    wrong = [
        name
        for name in sorted(own.keys() | weights.keys())
        if name not in own or name not in weights or own[name].shape != weights[name].shape
    ]
    if wrong:
        shown = ", ".join(wrong[:3])
        raise UserError(f"{len(wrong)} weights are not those of this MedNeXt, such as {shown}")
    with torch.no_grad():
        net.load_state_dict(weights)
