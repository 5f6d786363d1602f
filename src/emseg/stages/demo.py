"""The demo: train, tune and test on synthetic volumes, end to end."""

import time
from pathlib import Path

from emseg.config import load
from emseg.config.choices import tutorials_folder
from emseg.evaluation.adapted_rand import adapted_rand
from emseg.runs.run_folder import say, working_in
from emseg.stages.session import Session
from emseg.stages.train import train
from emseg.stages.tune import tune_decoder
from emseg.synthetic.baseline import raw_watershed
from emseg.synthetic.layouts import write_layout
from emseg.volumes import open_volume

COMMAND = "emseg demo"


def demo() -> None:
    """Trains, tunes and tests on synthetic volumes below the current folder, prints the scores.

    The tutorial is `tutorials/demo.yaml`, the data are in `datasets/demo`, the run in `outputs`.
    For comparison it also prints the score of a watershed of the smoothed raw image.
    """
    start = time.monotonic()
    data, tutorial = Path("datasets/demo"), tutorials_folder() / "demo.yaml"
    with working_in(data, COMMAND):
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


def _baseline(data: Path) -> float:
    raw, truth = open_volume(data / "test_raw.h5"), open_volume(data / "test_labels.h5")
    assert raw.voxel_size is not None
    labels = raw_watershed(raw[...], voxel_size=raw.voxel_size)
    return adapted_rand(labels, truth[...], variant="skimage")["adapted_rand_skimage"]
