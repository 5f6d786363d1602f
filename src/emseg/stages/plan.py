"""What a prediction will need, before it begins: windows, parts, memory, disk and time."""

import math
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from emseg.blocks.memory import GIB, cores
from emseg.config import Loaded
from emseg.errors import UserError
from emseg.inference.settings import Settings
from emseg.inference.windows import window_grid
from emseg.progress import in_words
from emseg.runs.run_folder import run_of
from emseg.stages.decode_blocks import LABEL_BYTES
from emseg.stages.devices import resolve_devices
from emseg.stages.network import Trained, load_trained
from emseg.stages.prediction_parts import lanes_here
from emseg.stages.prediction_settings import settings_of, window_memory
from emseg.stages.sources import Source, open_test
from emseg.stages.workers import workers_of


def plan(loaded: Loaded, checkpoint: Path) -> list[str]:
    """Lines on what the prediction of each test volume takes. No voxel is read.

    The network predicts one batch of noise, which is timed.
    """
    sources = open_test(loaded.root.data.test)
    trained = load_trained(loaded.root, checkpoint, allow=loaded.allow)
    folder = run_of(checkpoint) or Path()
    return [line for source in sources for line in _lines(loaded, trained, source, folder)]


def require_disk(folder: Path, needed: int, *, what: str) -> None:
    """Raises UserError if the folder's disk has less than `needed` bytes free."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{what} takes up to {_gib(needed)}, the disk of {folder} has {_gib(free)} free "
            "(inference.output_dtype=uint8 takes a quarter of float32)"
        )


def _lines(loaded: Loaded, trained: Trained, source: Source, folder: Path) -> Iterator[str]:
    root, image = loaded.root, source.image
    settings = settings_of(image, trained, root)
    windows = math.prod(map(len, window_grid(image.shape, settings).starts))
    views = len(settings.tta.views) if settings.tta else 1
    workers = workers_of(root.system)
    lanes = lanes_here(image, trained, root, settings)
    if root.system.executor != "serial":
        lanes = min(lanes, max(cores() // workers, 1))
    size = "x".join(map(str, image.shape))
    yield (
        f"{source.name}: {size} voxels in {windows} windows of {list(settings.window_size)}, "
        f"{views} view{'s'[: views > 1]} of each, by {workers} worker{'s'[: workers > 1]}"
    )
    memory = window_memory(image, trained, root)
    batches = _gib(lanes * memory.batch(settings.window_size))
    yield (
        f"memory of a worker: about {batches} for {lanes} x {settings.sw_batch_size} windows at a "
        f"time, {_gib(memory.sums(settings.window_size))} for their sums"
    )
    voxels = math.prod(image.shape)
    prediction = voxels * len(settings.offsets) * np.dtype(settings.output_dtype).itemsize
    yield (
        f"disk: up to {_gib(prediction)} for the prediction ({settings.output_dtype}), twice that "
        f"while its HDF5 file is made, {_gib(voxels * LABEL_BYTES)} for the segmentation; "
        f"{_gib(shutil.disk_usage(folder).free)} are free"
    )
    if resolve_devices(root.system).accelerator == "gpu":
        yield "time: how long it takes on the GPU shows with its first windows"
        return
    each = _batch_seconds(trained, settings) * views / settings.sw_batch_size / lanes
    all_windows = in_words(each * windows / workers)
    yield f"time: about {in_words(each)} a window here, {all_windows} for all of them"


def _batch_seconds(trained: Trained, settings: Settings) -> float:
    """How long one thread predicts one batch; the second time, which is as quick as later ones."""
    threads = torch.get_num_threads()
    shape = (settings.sw_batch_size, trained.facts.in_channels, *settings.window_size)
    net = trained.net.to(memory_format=torch.channels_last_3d)
    torch.set_num_threads(1)
    try:
        with (
            torch.inference_mode(),
            torch.autocast("cpu", trained.autocast, trained.autocast is not None),
        ):
            net(torch.rand(shape))
            start = time.monotonic()
            net(torch.rand(shape))
        return time.monotonic() - start
    finally:
        torch.set_num_threads(threads)


def _gib(size: float) -> str:
    return f"{size / GIB:.2g} GiB"
