"""Parts of a prediction: of an image at once, or into an unfinished file, by several workers."""

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import chdir
from dataclasses import dataclass
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
from emseg.inference.tta import Forward
from emseg.inference.windows import Span
from emseg.progress import track
from emseg.runs.run_folder import say
from emseg.stages.devices import Devices, resolve_devices
from emseg.stages.network import Trained, load_trained
from emseg.stages.prediction_settings import settings_of, sums_in_cells, window_memory
from emseg.stages.sources import Source, open_test
from emseg.stages.workers import done_by_workers, while_locked, workers_of
from emseg.volumes import PartialVolume, Volume
from emseg.volumes.cells import Area
from emseg.volumes.places import shown_region

# Cells of one area between two voxels along the first axis: the area, the first, the one after.
Part = tuple[Area, int, int]
# A part for a worker is at most so many windows deep: those at its ends are computed twice.
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
class PartJob:
    """A part of a prediction."""

    of: Filling
    part: Part


def predict_image(
    image: Volume,
    trained: Trained,
    root: Root,
    settings: Settings | None = None,
    *,
    write: Callable[[int, np.ndarray], None] | None = None,
    region: Sequence[Span] | None = None,
    mask: Volume | None = None,
) -> np.ndarray | None:
    """The prediction (C, Z, Y, X) of a region (None: all), or None if `write` gets its planes.

    Probabilities are 0 where windows hold nothing, or nothing of the mask, as of `mask_of`.
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
        as_memory_allows(trained.net.to(device=device, memory_format=order)),
        image,
        settings,
        normalize=lambda array: to_unit(array, intensity_range=intensity_range),
        device=device,
        accumulator_device=_device("output_device", window.output_device, devices),
        autocast_dtype=trained.autocast,
        write=write,
        region=region,
        skip_empty=settings.are_probabilities,
        mask=mask,
        lanes=lanes_here(image, trained, root, settings),
    )


def as_memory_allows(net: Forward) -> Forward:
    """The network on parts of a batch, half as large whenever the GPU's memory does not suffice."""
    most = sys.maxsize

    def forward(batch: torch.Tensor) -> torch.Tensor:
        nonlocal most
        while True:
            size = min(most, len(batch))
            try:
                parts = [net(part) for part in batch.split(size)]
            except torch.OutOfMemoryError:
                if size == 1:
                    raise
                most = size // 2
            else:
                return parts[0] if len(parts) == 1 else torch.cat(parts)
            torch.cuda.empty_cache()
            say(
                f"the GPU's memory does not suffice for {size} windows at a time: going on with "
                f"{most} (inference.window.sw_batch_size)"
            )

    return forward


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


def parts_of(
    unfinished: PartialVolume, shard: tuple[int, int] | None, areas: list[Area]
) -> list[Part]:
    """What is missing of the shard's cells, or of all: long parts, each in one of the areas."""
    rows, step = unfinished.cells.rows, unfinished.cells.size[0]
    number, count = shard or (1, 1)
    begin, end = (rows * len(areas) * at // count for at in (number - 1, number))
    parts = []
    for at, area in enumerate(areas):
        start, stop = (min(max(bound - at * rows, 0), rows) * step for bound in (begin, end))
        stretches = unfinished.missing(start, min(stop, unfinished.depth), area)
        parts += [(area, *stretch) for stretch in stretches]
    return parts


def fill(
    filling: Filling,
    unfinished: PartialVolume,
    source: Source,
    trained: Trained,
    shard: tuple[int, int] | None = None,
) -> None:
    """Predicts what is missing, of a shard perhaps, as `system.executor` says.

    Args:
        filling: what other processes get.
        unfinished, source, trained: the same in this process.
        shard: its number, from 1, and how many there are.

    Raises:
        UserError: parts are missing at the end; the others are on the disk.
    """
    root, settings, cells = filling.root, filling.settings, unfinished.cells
    # The parts of shards are the same whatever memory their machines have.
    whole = shard is None and not sums_in_cells(source.image, settings, root)
    parts = parts_of(unfinished, shard, [cells.section] if whole else cells.areas)
    if root.system.executor == "serial":
        for number, part in enumerate(parts, 1):
            if len(parts) > 1:
                say(f"{filling.source}: part {number} of {len(parts)}")
            _predict_part(part, unfinished, source, trained, filling)
        return
    each = -(-workers_of(root.system) // max(len(parts), 1))
    short = [
        (area, *ends)
        for area, first, stop in parts
        for ends in cut(
            first, stop, parts=each, step=cells.size[0], most=WINDOWS * settings.window_size[0]
        )
    ]
    names = [f"voxels {shown_region([*zip(*_region(part), strict=True)])}" for part in short]
    jobs = Jobs(predict_part, [PartJob(filling, part) for part in short])
    _follow(done_by_workers(jobs, root.system, names), unfinished)


def _predict_part(
    part: Part,
    unfinished: PartialVolume,
    source: Source,
    trained: Trained,
    filling: Filling,
    check: Callable[[], None] = lambda: None,
) -> None:
    area = part[0]

    def write(start: int, planes: np.ndarray) -> None:
        check()
        unfinished.write(start, planes, area)

    settings, mask = filling.settings, mask_of(source, filling.settings)
    about = {"write": write, "region": _region(part), "mask": mask}
    predict_image(source.image, trained, filling.root, settings, **about)


def mask_of(source: Source, settings: Settings) -> Volume | None:
    """The mask that restricts a prediction: of the whole image, and for probabilities."""
    mask = source.mask
    fits = mask is not None and mask.shape == source.image.shape
    return mask if fits and settings.are_probabilities else None


def _region(part: Part) -> tuple[Span, ...]:
    area, *ends = part
    return tuple(ends), *area


def _follow(moments: Iterator[None], unfinished: PartialVolume) -> None:
    """Shows the progress of the workers until they are done."""
    cells, done = unfinished.cells, len(unfinished.ledger.done)
    new = (cell for _ in moments for cell in unfinished.ledger.refresh())
    each = math.prod(cells.shape) / len(cells)
    for _ in track(new, total=len(cells), done=done, label="predict", unit="voxel", each=each):
        pass


def predict_part(job: PartJob, place: Place) -> None:
    """Predicts those cells of the job that are not in the ledger yet.

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
        (source,) = (one for one in sources if one.name == of.source)
        unfinished = PartialVolume(**of.volume, joined=True)
        check = while_locked(of.locked, of.token)
        area, start, stop = job.part
        for stretch in unfinished.missing(start, stop, area):
            _predict_part((area, *stretch), unfinished, source, trained, of, check)


def _loaded(of: Filling) -> Trained:
    key = (of.checkpoint.absolute(), of.weights)
    if key not in _LOADED:
        _LOADED.clear()
        trained = load_trained(of.root, of.checkpoint, allow=of.allow)
        if trained.weights != of.weights:
            raise UserError(f"{of.checkpoint} was changed while its network predicts")
        _LOADED[key] = trained
    return _LOADED[key]
