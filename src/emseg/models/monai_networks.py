"""Networks of MONAI, with the sizes of images that they take.

Each maps images `(N, in_channels, Z, Y, X)` to logits `(N, out_channels, Z, Y, X)`, and has a
`stride` or `volume_size` (`emseg.models.stride.check_input`).
"""

from collections.abc import Sequence
from typing import Annotated

from monai.networks.nets import UNETR, BasicUNet, DynUNet, SegResNet, SegResNetDS, SwinUNETR
from torch import nn

from emseg.bounds import Positive, Rule, at_least, checked, within
from emseg.models.stride import Axes, stride_of_levels

# Voxels along an axis, a multiple of those of a UNETR's token.
Tokens = Annotated[int, Rule("a multiple of 16", lambda size: size > 0 and size % 16 == 0)]


@checked
def unetr(
    in_channels: int,
    out_channels: int,
    *,
    volume_size: tuple[Tokens, Tokens, Tokens] = (96, 96, 96),
    feature_size: int = 16,
    hidden_size: int = 768,
    mlp_dim: int = 3072,
    num_heads: int = 12,
    dropout: float = 0.0,
) -> nn.Module:
    """A UNETR (Hatamizadeh et al. 2022, arXiv 2103.10504), only for images of `volume_size`.

    The unused cross attention of its transformer needs no gradient; otherwise training on several
    devices would wait for it.

    Args:
        in_channels, out_channels: of images and logits.
        volume_size: voxels along z, y, x, multiples of 16: positions are learned for each token.
        feature_size: channels of the decoder's finest level.
        hidden_size: of the transformer's tokens, a multiple of `num_heads`.
        mlp_dim: of the layer inside each of its 12 blocks.
        num_heads: of its attention.
        dropout: of its layers.
    """
    net = UNETR(
        in_channels,
        out_channels,
        volume_size,
        feature_size=feature_size,
        hidden_size=hidden_size,
        mlp_dim=mlp_dim,
        num_heads=num_heads,
        dropout_rate=dropout,
    )
    for name, weight in net.named_parameters():
        weight.requires_grad_("cross_attn" not in name)
    net.volume_size = volume_size
    return net


def swin_unetr(
    in_channels: int,
    out_channels: int,
    *,
    feature_size: int = 48,
    depths: Sequence[int] = (2, 2, 2, 2),
    num_heads: Sequence[int] = (3, 6, 12, 24),
    window_size: Axes = (7, 7, 7),
    checkpointing: bool = False,
) -> nn.Module:
    """A Swin UNETR (Hatamizadeh et al. 2022, arXiv 2201.01266); every axis is halved five times.

    Args:
        in_channels, out_channels: of images and logits.
        feature_size: channels of the finest level, a multiple of 12.
        depths: transformer blocks of each of the four stages.
        num_heads: of the attention of each stage.
        window_size: tokens along z, y, x that attend to each other.
        checkpointing: compute activations again in the backward pass: less memory, more time.
    """
    net = SwinUNETR(
        in_channels,
        out_channels,
        feature_size=feature_size,
        depths=depths,
        num_heads=num_heads,
        window_size=window_size,
        use_checkpoint=checkpointing,
    )
    net.stride = (32, 32, 32)
    return net


def segresnet(
    in_channels: int,
    out_channels: int,
    *,
    init_filters: int = 32,
    blocks_down: Sequence[int] = (1, 2, 2, 4),
) -> nn.Module:
    """A SegResNet (Myronenko 2018, arXiv 1810.11654); all axes are halved between its levels.

    Args:
        in_channels, out_channels: of images and logits.
        init_filters: channels of the finest level, a multiple of 8; doubled at each coarser level.
        blocks_down: residual blocks of each level on the way down; one on the way up.
    """
    net = SegResNet(
        in_channels=in_channels,
        out_channels=out_channels,
        init_filters=init_filters,
        blocks_down=tuple(blocks_down),
        blocks_up=(1,) * (len(blocks_down) - 1),
    )
    net.stride = (2 ** (len(blocks_down) - 1),) * 3
    return net


def segresnet_ds(
    in_channels: int,
    out_channels: int,
    *,
    resolution: Sequence[float] = (30, 6, 6),
    init_filters: int = 32,
    blocks_down: Sequence[int] = (1, 2, 2, 4, 4),
    deep_supervision: bool = True,
) -> nn.Module:
    """MONAI's second SegResNet (`SegResNetDS`): long axes are halved first, until voxels are cubes.

    Args:
        in_channels, out_channels: of images and logits.
        resolution: of the images along z, y, x; only the ratios count.
        init_filters: channels of the finest level; doubled at each coarser level.
        blocks_down: residual blocks of each level on the way down; one on the way up.
        deep_supervision: logits of every decoder level in training, finest first.
    """
    net = SegResNetDS(
        in_channels=in_channels,
        out_channels=out_channels,
        init_filters=init_filters,
        norm="instance",  # batches of volumes are too small for MONAI's batch norm
        blocks_down=tuple(blocks_down),
        dsdepth=len(blocks_down) - 1 if deep_supervision else 1,
        resolution=tuple(resolution),
    )
    z, y, x = (int(step) for step in net.shape_factor())
    net.stride = (z, y, x)
    return net


@checked
def dynunet(
    in_channels: int,
    out_channels: int,
    *,
    width: Annotated[Sequence[Positive], at_least(3)] = (32, 64, 128, 256, 320),
    down_factors: Sequence[Axes] = ((1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2)),
    depth_2d: Annotated[int, within(0)] = 2,
    residual: bool = False,
    deep_supervision: bool = True,
) -> nn.Module:
    """The U-Net of nnU-Net (Isensee et al. 2021, arXiv 1904.08128), MONAI's `DynUNet`.

    Args:
        in_channels, out_channels: of images and logits.
        width: channels of each level, finest first, three or more.
        down_factors: how much coarser (z, y, x) each level is than the one before.
        depth_2d: how many levels, from the finest, use kernels of 1 x 3 x 3, others 3 x 3 x 3.
        residual: residual blocks on the way down.
        deep_supervision: logits of every decoder level in training, `(N, levels, C, Z, Y, X)`,
            finest first, coarser ones enlarged to the image's size.

    Raises:
        UserError: `width`, `down_factors` and `depth_2d` do not fit each other.
    """
    stride = stride_of_levels(width, down_factors, depth_2d=depth_2d)
    net = DynUNet(
        3,
        in_channels,
        out_channels,
        kernel_size=[(1, 3, 3)] * depth_2d + [(3, 3, 3)] * (len(width) - depth_2d),
        strides=[(1, 1, 1), *down_factors],
        upsample_kernel_size=down_factors,
        filters=width,
        res_block=residual,
        deep_supervision=deep_supervision,
        deep_supr_num=len(width) - 2,
    )
    net.stride = stride
    return net


def basic_unet(
    in_channels: int,
    out_channels: int,
    *,
    features: tuple[int, int, int, int, int, int] = (32, 32, 64, 128, 256, 32),
) -> nn.Module:
    """A plain U-Net of five levels (Falk et al. 2019), MONAI's `BasicUNet`; all axes are halved.

    Args:
        in_channels, out_channels: of images and logits.
        features: channels of the five levels, finest first, and of the layer before the logits.
    """
    net = BasicUNet(3, in_channels, out_channels, features=features)
    # MONAI pads what it cannot halve, which would change the results at borders.
    net.stride = (16, 16, 16)
    return net
