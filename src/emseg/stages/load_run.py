"""A trained run in a notebook: its config, its network, predictions of arrays."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from torch import nn

from emseg.config import load
from emseg.config.schema import Root
from emseg.errors import UserError
from emseg.runs.run_folder import run_of, say
from emseg.stages.channels import Channels, nearest_channels
from emseg.stages.infer import check_image, unlike_intensities
from emseg.stages.network import Trained, load_trained
from emseg.stages.prediction_parts import predict_image
from emseg.volumes import Volume, from_array


@dataclass(frozen=True, eq=False)
class Prediction:
    """A prediction, and what decoders need to know about it.

    Attributes:
        values: (C, Z, Y, X) of the type `inference.output_dtype` (uint8: 255 is 1).
        channels: their names.
        offsets: of affinities (1 = same object), in voxels of stored axes, else None; zero marks a
            channel that is not an affinity.
        edge_side: which of its two voxels stores an edge; None without affinities.
        heads: the named parts of its training target, as channels [first, stop).
    """

    values: np.ndarray
    channels: tuple[str, ...]
    offsets: tuple[tuple[int, int, int], ...] | None
    edge_side: Literal["source", "destination"] | None
    heads: dict[str, tuple[int, int]] = field(default_factory=dict)

    def nearest(self) -> "Prediction":
        """The three channels that affinity decoders take: the shortest edge along each axis.

        Raises:
            UserError: there are no affinities, or none along an axis.
        """
        if self.offsets is None:
            raise UserError(f"{', '.join(self.channels)}: these channels are no affinities")
        return self._of(nearest_channels(self.offsets))

    def head(self, name: str) -> "Prediction":
        """The channels of one head.

        Raises:
            UserError: there is no head of that name.
        """
        about = Channels(channels=self.channels, offsets=None, edge_side=None, heads=self.heads)
        return self._of(about.chosen(name, where="this prediction"))

    def _of(self, channels: list[int]) -> "Prediction":
        offsets = tuple(self.offsets[channel] for channel in channels) if self.offsets else ()
        affinities = any(map(any, offsets))
        return Prediction(
            values=self.values[channels],
            channels=tuple(self.channels[channel] for channel in channels),
            offsets=offsets if affinities else None,
            edge_side=self.edge_side if affinities else None,
        )


@dataclass(frozen=True, eq=False)
class Run:
    """A trained run, as `load_run` returns it.

    Attributes:
        config: as for `--mode test`.
        checkpoint: the file of the weights.
        trained: the network and what its checkpoint says about it.
    """

    config: Root
    checkpoint: Path
    trained: Trained

    @property
    def net(self) -> nn.Module:
        """The network in eval mode, with the averaged weights if training stored them.

        It maps images (N, C_in, Z, Y, X) in [0, 1] to logits (N, C, Z, Y, X).
        """
        return self.trained.net

    def predict(self, image: np.ndarray | Volume) -> Prediction:
        """The prediction of an image, as `--mode infer` makes it.

        Args:
            image: (Z, Y, X) or (C_in, Z, Y, X). Voxels are as stored: integers of the full range of
                their dtype, or floats in [0, 1], unless the config has a `data.intensity_range` or
                `data.intensity_percentiles`.

        Raises:
            UserError: the network cannot predict the image.
        """
        if isinstance(image, np.ndarray):
            volume = from_array(image, axes="czyx" if image.ndim == 4 else None)
        else:
            volume = image
        check_image(volume, self.trained, self.config)
        warning = unlike_intensities(volume, self.trained, self.config)
        if warning:
            say(f"warning: {warning}")
        values = predict_image(volume, self.trained, self.config)
        assert values is not None
        target = self.trained.target
        return Prediction(
            values=values,
            channels=target.channels,
            offsets=target.offsets,
            edge_side=target.edge_side,
            heads=target.heads or {},
        )


def load_run(
    run_or_checkpoint: str | Path,
    *,
    overrides: Sequence[str] = (),
    conf: Sequence[Path] = (),
    allow: Sequence[str] = (),
) -> Run:
    """The run in a folder, with the weights of its last checkpoint, or of the checkpoint named.

    Args:
        run_or_checkpoint: the run's folder, or a checkpoint in it.
        overrides: change its config as on the command line ("inference.window.overlap=0.25").
        conf, allow: folders of choices and module prefixes with which it was trained.

    Raises:
        UserError: there is no run, or no checkpoint in it, or they do not fit each other.
    """
    path = Path(run_or_checkpoint)
    checkpoint = _last_checkpoint(path) if path.is_dir() else path
    run = run_of(checkpoint)
    if run is None:
        raise UserError(f"{path} is no run's folder, and no checkpoint in one")
    loaded = load(run / "config.yaml", mode="predict", overrides=overrides, conf=conf, allow=allow)
    trained = load_trained(loaded.root, checkpoint, allow=loaded.allow)
    return Run(loaded.root, checkpoint, trained)


def _last_checkpoint(run: Path) -> Path:
    found = sorted((run / "checkpoints").glob("*.ckpt"), key=lambda path: path.stat().st_mtime_ns)
    if not found:
        raise UserError(f"{run} has no checkpoints/*.ckpt: it is no run's folder, or has not begun")
    last = run / "checkpoints" / "last.ckpt"
    return last if last in found else found[-1]
