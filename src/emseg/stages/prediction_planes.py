"""Planes of a prediction: of an image at once, or into an unfinished file, by several workers."""

from collections.abc import Callable, Iterator
from contextlib import chdir
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from emseg.blocks.executors import Jobs, Place, cut
from emseg.config.schema import Root
from emseg.data.intensity import range_of, to_unit
from emseg.errors import UserError
from emseg.inference.predict import predict_volume
from emseg.inference.settings import Settings
from emseg.progress import track
from emseg.runs.run_folder import say
from emseg.stages.devices import Devices, resolve_devices
from emseg.stages.network import Trained, load_trained
from emseg.stages.prediction_settings import settings_of, window_memory
from emseg.stages.sources import open_test
from emseg.stages.workers import done_by_workers, while_locked, workers_of
from emseg.volumes import PartialVolume, Volume

# A job is at most so many windows deep: the windows at its ends are computed by two jobs.
WINDOWS = 8
# Networks of this process, by checkpoint and hash: a worker has many jobs of one.
_LOADED: dict[tuple[Path, str], Trained] = {}


@dataclass(frozen=True)
class Filling:
    """How an unfinished prediction is filled; plain values, for other processes.

    Attributes:
        checkpoint, weights: of the network, with the hash that it must have.
        source: the volume's name in `data.test`.
        volume: the arguments of the `PartialVolume`.
        locked, token: what the run has locked. Workers stop when it is no longer locked so.
        folder: what paths are relative to.
    """

    root: Root
    allow: tuple[str, ...]
    checkpoint: Path
    weights: str
    source: str
    volume: dict[str, Any]
    settings: Settings
    locked: Path
    token: str
    folder: Path


@dataclass(frozen=True)
class PlanesJob:
    """Planes [start, stop) of a prediction."""

    of: Filling
    start: int
    stop: int


def predict_image(
    image: Volume,
    trained: Trained,
    root: Root,
    settings: Settings | None = None,
    *,
    write: Callable[[int, np.ndarray], None] | None = None,
    first_plane: int = 0,
    stop_plane: int | None = None,
) -> np.ndarray | None:
    """The prediction (C, Z, Y, X), or None if `write` gets the planes.

    `settings`: None for those of the config.
    """
    window, intensity_range = root.inference.window, range_of(image, **root.data.intensities)
    devices = resolve_devices(root.system)
    device = _device("sw_device", window.sw_device, devices)
    # On a CPU convolutions are several times faster with channels last.
    last = device.type == "cpu"
    order = torch.channels_last_3d if last else torch.contiguous_format
    settings = settings or settings_of(image, trained, root)
    return predict_volume(
        trained.net.to(device=device, memory_format=order),
        image,
        settings,
        normalize=lambda array: to_unit(array, intensity_range=intensity_range),
        device=device,
        accumulator_device=_device("output_device", window.output_device, devices),
        autocast_dtype=trained.autocast,
        write=write,
        first_plane=first_plane,
        stop_plane=stop_plane,
        lanes=lanes_here(image, trained, root, settings),
    )


def lanes_here(image: Volume, trained: Trained, root: Root, settings: Settings) -> int:
    """How many batches are predicted at a time: on a CPU one for each thread, if memory allows."""
    threads = torch.get_num_threads()
    if threads == 1 or resolve_devices(root.system).accelerator == "gpu":
        return 1
    try:
        fit = window_memory(image, trained, root).batches(settings.window_size)
    except UserError:  # a network of the user's that runs on no meta device
        return 1
    return max(min(threads, fit), 1)


def _device(key: str, asked: str | None, devices: Devices) -> torch.device:
    if asked is None:
        return devices.torch_device
    if asked == "cuda" and devices.accelerator == "cpu":
        say(f"inference.window.{key}=cuda, but no GPU is in use: going on with the CPU")
        return devices.torch_device
    return torch.device(asked)


def fill(
    filling: Filling,
    unfinished: PartialVolume,
    image: Volume,
    trained: Trained,
    stretch: tuple[int, int],
) -> None:
    """Predicts the missing planes of a stretch, as `system.executor` says.

    Args:
        filling: what other processes get.
        unfinished, image, trained: the same in this process.
        stretch: first and last + 1, the first a multiple of the thickness of rows.

    Raises:
        UserError: planes are missing at the end; the others are on the disk.
    """
    root, missing = filling.root, unfinished.missing(*stretch)
    if root.system.executor == "serial":
        predict = partial(predict_image, image, trained, root, filling.settings)
        for first, stop in missing:
            predict(write=unfinished.write, first_plane=first, stop_plane=stop)
        return
    count, planes = workers_of(root.system), sum(stop - first for first, stop in missing)
    parts = [
        part
        for first, stop in missing
        for part in cut(
            first,
            stop,
            parts=-(-count * (stop - first) // planes),
            step=unfinished.thickness,
            most=WINDOWS * filling.settings.window_size[0],
        )
    ]
    jobs = Jobs(predict_planes, [PlanesJob(filling, *part) for part in parts])
    names = [f"planes {first} to {stop}" for first, stop in parts]
    _follow(done_by_workers(jobs, root.system, names), unfinished, stretch)


def _follow(moments: Iterator[None], unfinished: PartialVolume, stretch: tuple[int, int]) -> None:
    """Shows the progress of the workers until they are done."""

    def rows(parts: list[tuple[int, int]]) -> int:
        return sum(-(-(stop - first) // unfinished.thickness) for first, stop in parts)

    total, left = rows([stretch]), rows(unfinished.missing(*stretch))
    each = unfinished.thickness * unfinished.plane_voxels
    new = (row for _ in moments for row in unfinished.ledger.refresh())
    for _ in track(new, total=total, done=total - left, label="predict", unit="voxel", each=each):
        pass


def predict_planes(job: PlanesJob, place: Place) -> None:
    """Predicts those planes of the job that are not in the ledger yet.

    Raises:
        UserError: the checkpoint was changed, or the run that made the job has ended.
    """
    of, system = job.of, job.of.root.system
    if resolve_devices(system).accelerator == "gpu":
        torch.cuda.set_device(place.number % torch.cuda.device_count())
    else:
        torch.set_num_threads(place.threads)
    with chdir(of.folder):
        trained = _loaded(of)
        sources = open_test(of.root.data.test)
        (image,) = (one.image for one in sources if one.name == of.source)
        unfinished = PartialVolume(**of.volume, joined=True)

        check = while_locked(of.locked, of.token)

        def write(start: int, planes: np.ndarray) -> None:
            check()
            unfinished.write(start, planes)

        predict = partial(predict_image, image, trained, of.root, of.settings)
        for first, stop in unfinished.missing(job.start, job.stop):
            predict(write=write, first_plane=first, stop_plane=stop)


def _loaded(of: Filling) -> Trained:
    key = (of.checkpoint.absolute(), of.weights)
    if key not in _LOADED:
        _LOADED.clear()
        trained = load_trained(of.root, of.checkpoint, allow=of.allow)
        if trained.weights != of.weights:
            raise UserError(f"{of.checkpoint} was changed while its network predicts")
        _LOADED[key] = trained
    return _LOADED[key]
