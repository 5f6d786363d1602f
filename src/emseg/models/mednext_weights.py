"""Weights of other MedNeXt implementations, renamed for ours."""

import re
from collections.abc import Mapping

from torch import Tensor, nn

from emseg.errors import UserError

LEVELS = 4
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
# Prefixes that training programs put before the names of a network's weights.
WRAPPERS = ("state_dict", "module", "model", "net", "_orig_mod", "ema_model")


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same weights with our names; the official dummy parameter is left out.

    `state` has the names of the official implementation or of MONAI's, possibly with a prefix of
    BANIS, PyTorch Connectomics, Lightning or torch.compile.

    Raises:
        UserError: it has any other name.
    """
    found = {}
    for name, value in state.items():
        bare = _bare_name(name)
        if bare != "dummy_tensor":
            found[_our_name(bare)] = value
    return found


def grown_kernels(weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights with depthwise kernels interpolated to the size of the `wanted` ones, if larger.

    Trilinear; all other weights are unchanged. (UpKern, Roy et al. 2023.)
    """
    grown = dict(weights)
    for name, value in weights.items():
        own = wanted.get(name)
        if own is None or not name.endswith("conv1.weight") or own.shape[:2] != value.shape[:2]:
            continue
        if own.shape[-1] > value.shape[-1]:
            grown[name] = nn.functional.interpolate(
                value, size=own.shape[2:], mode="trilinear", align_corners=False
            )
    return grown


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
    """The name within our block, which has norm and pointwise layers in one part."""
    rest = re.sub(r"\.(norm|conv2|conv3)\.", r".inner.\1.", rest)
    return re.sub(r"\.grn_(gamma|beta)$", r".inner.grn.\1", rest)


def _bare_name(name: str) -> str:
    """The network's own name for a weight, without the names of its wrappers."""
    first, _, rest = name.partition(".")
    return _bare_name(rest) if first in WRAPPERS and rest else name
