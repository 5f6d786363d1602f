"""The verbs of the command line: demo, synth, download, prepare, convert, inspect."""

import time
from contextlib import nullcontext
from pathlib import Path

from emseg.runs.lock import locked
from emseg.runs.run_folder import say, working_in
from emseg.stages.convert import convert
from emseg.stages.download import download
from emseg.stages.inspect import inspect
from emseg.stages.prepare import prepare
from emseg.volumes import check_writable, open_volume

__all__ = ["convert", "demo", "download", "inspect", "prepare", "synth"]

COMMAND = "emseg demo"


def demo() -> None:
    """Train, tune and test on synthetic volumes below the current folder, and print the scores.

    The tutorial is `tutorials/demo.yaml`, the data lie in `datasets/demo`, the run in `outputs`.
    Beside the result stands what a watershed of the smoothed raw image reaches on the same volume.
    """
    # Here and below, what other verbs need not wait for.
    from emseg.config import load
    from emseg.config.choices import tutorials_folder
    from emseg.stages.session import Session
    from emseg.stages.train import train
    from emseg.stages.tune import tune_decoder
    from emseg.synthetic.layouts import write_layout

    start = time.monotonic()
    data, tutorial = Path("datasets/demo"), tutorials_folder() / "demo.yaml"
    check_writable(data)
    with locked(data / "emseg", COMMAND, tell=say):
        say(f"demo: synthetic volumes in {data}")
        write_layout("demo", data)
        plan, tuning, testing = (
            load(tutorial, mode=mode, overrides=()) for mode in ("train", "tune", "test")
        )
        run = train(plan, checkpoint=None, command=COMMAND)
        session = Session(tuning, force=False, verify=False, command=COMMAND)
        tune_decoder(session, testing, run / "checkpoints" / "last.ckpt", then_test=True)
        print(f"watershed of the smoothed raw image, adapted Rand error: {_baseline(data):.4f}")
        say(f"demo: done in {time.monotonic() - start:.0f} s")


def synth(layout: str, folder: str) -> None:
    """Write a synthetic data set in a recipe's layout."""
    from emseg.synthetic.layouts import LAYOUTS, write_layout

    to = Path(folder)
    # An unknown layout makes no folder.
    with working_in(to, f"emseg synth {layout}") if layout in LAYOUTS else nullcontext():
        write_layout(layout, to)
    say(f"{layout}: written to {folder}")


def _baseline(data: Path) -> float:
    from emseg.evaluation.adapted_rand import adapted_rand
    from emseg.synthetic.baseline import raw_watershed

    raw, truth = open_volume(data / "test_raw.h5"), open_volume(data / "test_labels.h5")
    assert raw.voxel_size is not None
    labels = raw_watershed(raw[...], voxel_size=raw.voxel_size)
    return adapted_rand(labels, truth[...], variant="skimage")["adapted_rand_skimage"]
