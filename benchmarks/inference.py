"""Prediction from disk to disk: emseg's windows beside MONAI's `sliding_window_inference`.

    python benchmarks/inference.py [--quick] [--runs 3]

The same RSUNet with fresh weights, image, window, overlap and batch; each run is a process of its
own, in turns, medians. MONAI reads the whole image and returns the whole prediction, which is then
written; emseg reads and writes as it goes. Compared: seconds from reading to the closed file, peak
memory at two depths, and values, of a network in float64 (constant blending to 1e-5, Gaussian to
1e-3: emseg's weights are whole numbers). In float32 this network itself is exact to some 1e-5 only,
and the two systems sum in other orders. At the end one process of one thread is compared with two
(`system.executor=process` shares out planes in the same way).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from emseg.inference.predict import predict_volume
from emseg.inference.settings import Settings
from emseg.models.rsunet import RSUNet
from emseg.volumes import PartialVolume, default_chunks, from_array, open_volume, write_volume

CHANNELS, WINDOW, OVERLAP, BATCH = 3, (16, 64, 64), 0.5, 4


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return RSUNet(1, CHANNELS).eval()


class InDouble(torch.nn.Module):
    """The network, computed in float64."""

    def __init__(self) -> None:
        super().__init__()
        self.net = network().double()

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return self.net(batch.double()).float()


def settings_for(blending: str) -> Settings:
    return Settings(
        window_size=WINDOW,
        overlap=OVERLAP,
        snap_to_edge=True,
        sw_batch_size=BATCH,
        blending=blending,
        offsets=((0, 0, 0),) * CHANNELS,
    )


def by_emseg(image: Path, out: Path, blending: str, planes: tuple[int, int] | None) -> None:
    volume = open_volume(image)
    shape = (CHANNELS, *volume.shape)
    place = {"axes": "czyx", "voxel_size": None, "attributes": {"fingerprint": "none"}}
    unfinished = PartialVolume(
        out, shape=shape, dtype="float32", chunks=default_chunks(shape), **place
    )
    first, stop = planes or (0, volume.shape[0])
    predict_volume(
        network().to(memory_format=torch.channels_last_3d),
        volume,
        settings_for(blending),
        normalize=to_unit,
        write=unfinished.write,
        region=[(first, stop), *((0, size) for size in volume.shape[1:])],
    )
    if planes is None:
        unfinished.finish()


def by_monai(image: Path, out: Path, blending: str, planes: None) -> None:
    found = monai_windows(network(), to_unit(open_volume(image)[...]), blending)
    write_volume(out, found, axes="czyx", voxel_size=None, attributes={})


def to_unit(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32) / 255


def monai_windows(net: torch.nn.Module, array: np.ndarray, blending: str) -> np.ndarray:
    from monai.inferers import sliding_window_inference

    with torch.inference_mode():
        found = sliding_window_inference(
            torch.from_numpy(array)[None, None],
            WINDOW,
            BATCH,
            lambda batch: torch.sigmoid(net(batch)),
            overlap=OVERLAP,
            mode=blending,
        )
    return found[0].numpy()


def apart(blending: str) -> float:
    """The largest difference of the two with a network in float64, on a small volume."""
    raw = np.random.default_rng(1).integers(0, 256, (32, 128, 128), dtype=np.uint8)
    net = InDouble()
    ours = predict_volume(net, from_array(raw), settings_for(blending), normalize=to_unit)
    return float(np.abs(ours - monai_windows(net, to_unit(raw), blending)).max())


def in_double(blending: str) -> float:
    """`apart` in a process of its own, since later ones would inherit this one's peak memory."""
    words = [sys.executable, __file__, "--apart", blending]
    return float(subprocess.run(words, capture_output=True, text=True, check=True).stdout)


def one_run(system: str, image: Path, out: Path, blending: str, threads: int, planes: str) -> None:
    torch.set_num_threads(threads)
    reach = tuple(map(int, planes.split(","))) if planes else None
    start = time.perf_counter()
    {"emseg": by_emseg, "monai": by_monai}[system](image, out, blending, reach)
    print(json.dumps(time.perf_counter() - start))


def timed(
    system: str, image: Path, out: Path, blending: str, threads: int, planes: str = ""
) -> tuple[float, int]:
    """Seconds of a run in a process of its own, and its peak memory in bytes."""
    words = [system, str(image), str(out), blending, str(threads), planes]
    run = subprocess.Popen(
        [sys.executable, __file__, "--one", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    printed = run.stdout.read()
    _, status, used = os.wait4(run.pid, 0)
    assert status == 0, f"{words} failed"
    return float(printed), used.ru_maxrss * 1024


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--one", nargs=6)
    parser.add_argument("--apart")
    asked = parser.parse_args()
    if asked.apart:
        print(apart(asked.apart))
        return
    if asked.one:
        system, image, out, blending, threads, planes = asked.one
        one_run(system, Path(image), Path(out), blending, int(threads), planes)
        return
    section = (128, 128) if asked.quick else (256, 256)
    depths = (32, 64) if asked.quick else (64, 128)
    threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        report(Path(folder), [(depth, *section) for depth in depths], threads, asked.runs)


def report(folder: Path, shapes: list[tuple[int, int, int]], threads: int, runs: int) -> None:
    ratios, equal, memory = {}, True, {}
    for shape in shapes:
        name = "x".join(map(str, shape))
        image = folder / f"{name}.h5"
        raw = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        write_volume(image, raw, axes="zyx", voxel_size=None, attributes={})
        for blending, most in (("constant", 1e-5), ("gaussian", 1e-3)):
            times: dict[str, list[float]] = {"emseg": [], "monai": []}
            for _ in range(runs):
                for system, seconds in times.items():
                    out = folder / f"{name}_{blending}_{system}.h5"
                    took, peak = timed(system, image, out, blending, threads)
                    seconds.append(took)
                    memory[f"{name} {system}"] = peak / 2**30
            ours, theirs = (statistics.median(seconds) for seconds in times.values())
            arrays = [open_volume(folder / f"{name}_{blending}_{one}.h5")[...] for one in times]
            single, double = float(np.abs(arrays[0] - arrays[1]).max()), in_double(blending)
            equal &= double <= most
            ratios[f"{name} {blending}"] = theirs / ours
            print(
                f"{name} {blending}: emseg {ours:.2f} s, MONAI {theirs:.2f} s, "
                f"{theirs / ours:.2f}; largest difference {single:.1e}, "
                f"with a network in float64 {double:.1e}"
            )
    ratios["two workers"] = workers(folder, image, shapes[-1][0], runs)
    for what, peak in memory.items():
        print(f"peak memory {what}: {peak:.2f} GiB")
    print(
        json.dumps({"benchmark": "inference", "ratios": ratios, "equal": equal, "memory": memory})
    )


def workers(folder: Path, image: Path, depth: int, runs: int) -> float:
    """How much faster two processes predict the halves than one the whole, a thread each."""
    once, twice = [], []
    for _ in range(runs):
        once.append(timed("emseg", image, folder / "whole.h5", "gaussian", 1)[0])
        halves = (f"0,{depth // 2}", f"{depth // 2},{depth}")
        outs = [folder / f"half{number}.h5" for number in range(2)]
        with ThreadPoolExecutor(2) as pool:
            took = pool.map(
                lambda pair: timed("emseg", image, pair[0], "gaussian", 1, pair[1])[0],
                zip(outs, halves, strict=True),
            )
            twice.append(max(took))
    ratio = statistics.median(once) / statistics.median(twice)
    print(f"two workers, a thread each: {ratio:.2f} times one")
    return ratio


if __name__ == "__main__":
    main()
