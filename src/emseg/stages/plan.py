"""What a prediction will need, before it begins: windows, parts, memory, disk and time."""

import math
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from emseg.blocks.memory import GIB, cores
from emseg.config import Loaded
from emseg.inference.settings import Settings
from emseg.inference.windows import window_grid
from emseg.progress import in_words
from emseg.runs.run_folder import run_of
from emseg.stages.decode_blocks import LABEL_BYTES
from emseg.stages.decode_job import DecodeJob, decoder_input
from emseg.stages.devices import resolve_devices
from emseg.stages.infer import prediction_attributes
from emseg.stages.network import Trained, load_trained
from emseg.stages.prediction_parts import lanes_here, predict_image
from emseg.stages.prediction_settings import settings_of, window_memory
from emseg.stages.sources import Source, open_test
from emseg.stages.workers import workers_of
from emseg.volumes import write_volume


def plan(loaded: Loaded, checkpoint: Path) -> list[str]:
    """Lines on what predicting and decoding each test volume takes.

    The network predicts one batch of noise, which is timed, and the window in the middle of the
    volume, which is decoded.
    """
    sources = open_test(loaded.root.data.test)
    trained = load_trained(loaded.root, checkpoint, allow=loaded.allow)
    folder = run_of(checkpoint) or Path()
    return [line for source in sources for line in _lines(loaded, trained, source, folder)]


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
    yield _decoding_line(loaded, trained, source, settings)
    if resolve_devices(root.system).accelerator == "gpu":
        yield "time: how long it takes on the GPU shows with its first windows"
        return
    each = _batch_seconds(trained, settings) * views / settings.sw_batch_size / lanes
    all_windows = in_words(each * windows / workers)
    yield f"time: about {in_words(each)} a window here, {all_windows} for all of them"


def _decoding_line(loaded: Loaded, trained: Trained, source: Source, settings: Settings) -> str:
    """Edges, memory and time of decoding, as the window in the middle of the volume has them."""
    root, shape = loaded.root, source.image.shape
    size = [min(*pair) for pair in zip(settings.window_size, shape, strict=True)]
    first = [(whole - part) // 2 for whole, part in zip(shape, size, strict=True)]
    image = source.image.crop(first, [a + b for a, b in zip(first, size, strict=True)])
    middle = replace(source, image=image, label=None, mask=None)
    predicted = predict_image(image, trained, root, settings)
    assert predicted is not None
    with tempfile.TemporaryDirectory(prefix="emseg-plan-") as folder:
        path = Path(folder) / "prediction.h5"
        about = prediction_attributes(middle, trained, root, settings)
        grid = {"axes": "c" + image.axes, "voxel_size": image.voxel_size}
        write_volume(path, predicted, **grid, attributes=about)
        job = DecodeJob(
            path, root.decoding, root.inference.model.selected, loaded.allow, root.system.memory
        )
        decoder, chosen, facts = decoder_input(job)
        array, share = chosen[...], math.prod(size) / math.prod(shape)
        decoder(array, **facts)  # compiles
        start = time.monotonic()
        decoder(array, **facts)
        seconds = (time.monotonic() - start) / share
        graph = _graph_line(decoder, array, facts, share)
    return f"decoding: {graph}about {in_words(seconds)}, as the window in the middle"


def _graph_line(decoder: object, array: np.ndarray, facts: Mapping[str, Any], share: float) -> str:
    from emseg.decoding.agglomerate import Agglomerate

    if not isinstance(decoder, Agglomerate):
        return ""
    _, graph = decoder.make_fragments(array, **facts)
    fragments, edges = (int(len(one) / share) for one in (graph.sizes, graph.edges))
    limit = decoder.edge_limit
    fits = "" if limit.fits(fragments, edges) else ", which is too little"
    return (
        f"about {fragments:,} fragments and {edges:,} edges, {_gib(limit.needed(fragments, edges))}"
        f" of decoding.memory_limit ({_gib(limit.memory)}){fits}; "
    )


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
