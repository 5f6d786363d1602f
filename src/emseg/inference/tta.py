"""Test-time augmentation: predicts a patch from all its views."""

from collections.abc import Callable

import torch

from emseg.errors import UserError
from emseg.inference.settings import EnsembleMode, Settings
from emseg.kernels.symmetry import Symmetry, channel_sources, edge_span

Forward = Callable[[torch.Tensor], torch.Tensor]


def merged_views(forward: Forward, settings: Settings) -> Forward:
    """A network that predicts each patch from all views: (N, C_in, *window) to (N, C, *window).

    Views are transformed back exactly, affinity channels by `channel_sources`. Edges with an end
    outside the patch are trained in no view: they have the value of the original view.
    Views are merged one by one and never all in memory. Without `settings.tta` it is `forward`.

    Raises:
        UserError: a view needs an offset that is missing, or turns a window that is not square.
    """
    window, ensemble, edge_side = settings.window_size, settings.tta, settings.edge_side
    if ensemble is None:
        return forward
    for view in ensemble.views:
        seen = tuple(window[axis] for axis in view.permutation)
        if seen != tuple(window):
            raise UserError(
                "inference.test_time_augmentation.rotation90_axes turn the window "
                f"{list(window)} into {list(seen)}: rotated axes must have windows of one size"
            )
    sources = [
        channel_sources(view, settings.offsets, edge_side=edge_side) for view in ensemble.views
    ]
    spans = [
        [edge_span(n, step, edge_side=edge_side) for n, step in zip(window, offset, strict=True)]
        for offset in settings.offsets
    ]

    def merged(batch: torch.Tensor) -> torch.Tensor:
        # A clone, because the network may return its input, which the other views still need.
        result = forward(batch).clone()
        for view, channels in zip(ensemble.views[1:], sources[1:], strict=True):
            back = _transformed(forward(_transformed(batch, view).contiguous()), view.inverse())
            for channel, (source, shift) in enumerate(channels):
                span = spans[channel]
                origin = [slice(s.start - d, s.stop - d) for s, d in zip(span, shift, strict=True)]
                into = result[:, channel][(slice(None), *span)]
                _merge(into, back[:, source][(slice(None), *origin)], ensemble.mode)
        if ensemble.mode == "mean":
            for channel, span in enumerate(spans):
                result[:, channel][(slice(None), *span)] /= len(ensemble.views)
        return result

    return merged


def _transformed(batch: torch.Tensor, view: Symmetry) -> torch.Tensor:
    order = [0, 1, *(2 + axis for axis in view.permutation)]
    return batch.permute(order).flip([2 + axis for axis, flip in enumerate(view.flips) if flip])


def _merge(into: torch.Tensor, values: torch.Tensor, mode: EnsembleMode) -> None:
    if mode == "mean":
        into += values
    elif mode == "min":
        torch.minimum(into, values, out=into)
    else:
        torch.maximum(into, values, out=into)
