"""Leaves as the package has them, for tests of the config; loaded as `emseg.models.sample`."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from torch import nn

from emseg.bounds import within
from emseg.data.targets import Target


class Net(nn.Module):
    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        widths: Sequence[int] = (8, 16),
        norm: Literal["group", "batch", "none"] = "group",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if dropout < 0:
            raise ValueError(f"dropout must be 0 or more, got {dropout}")
        self.channels = (in_channels, out_channels)
        self.widths, self.norm, self.dropout = widths, norm, dropout
        self.kernel = nn.Conv3d(in_channels, out_channels, 1)


class Flip:
    def __init__(self, *, p: Annotated[float, within(0, 1)] = 0.5) -> None:
        self.p = p


class Pipeline:
    def __init__(self, *, transforms: dict[str, Flip | None]) -> None:
        self.transforms = transforms


class Offsets(Target):
    def __init__(self, *, offsets: list[tuple[int, int, int]], weights: dict[str, float]) -> None:
        self.offsets, self.weights = offsets, weights
        self.names = tuple(map(str, offsets))


def loss(logits: Any, target: Any, mask: Any, *, max_weight: float | None = 10.0) -> float:
    return 1.0


def decode(
    prediction: Any,
    *,
    threshold: float = 0.5,
    aff_threshold: tuple[float, float] = (0.1, 0.999),
    affinity_mask_path: str | None = None,
    offsets: Sequence[Sequence[int]],
) -> Any:
    return prediction, threshold, aff_threshold, offsets


def score(segmentation: Any, truth: Any, *, variant: Literal["snemi", "skimage"] = "snemi") -> Any:
    return {"score": 0.0}
