"""The demo's tutorial cut down to a fraction of a second, and volumes for it."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from emseg.cli import main
from emseg.config import check_targets, load
from emseg.config.choices import tutorials_folder
from emseg.stages.train import train
from emseg.training.checkpoints import net_weights, read_checkpoint
from emseg.volumes import write_volume

DEMO = tutorials_folder() / "demo.yaml"
MAIN = Path(__file__).parents[2] / "scripts" / "main.py"
SHAPE = (12, 40, 40)
TINY = (
    "system.num_workers=0",
    "data.dataloader.patch_size=[4,16,16]",
    "model.width=[4,6]",
    "model.down_factors=[[1,2,2]]",
    "optimization.max_steps=2",
    "optimization.n_steps_per_epoch=2",
    "optimization.val_steps_per_epoch=1",
    "optimization.scheduler.warmup_epochs=0.5",
    "optimization.ema.warmup_steps=1",
    "inference.window.window_size=[4,16,16]",
    "monitor.logging.images.n_images=1",
)


def write_volumes(folder: Path, *, first_seed: int = 0) -> None:
    """Cells with dark membranes under the names that the demo's tutorial reads, and a spare."""
    data = folder / "datasets" / "demo"
    data.mkdir(parents=True)
    for seed, split in enumerate(("train", "val", "test", "spare"), first_seed):
        raw, labels = cells(SHAPE, seed=seed)
        for name, array in (("raw", raw), ("labels", labels)):
            file = data / f"{split}_{name}.h5"
            write_volume(file, array, axes="zyx", voxel_size=(30, 6, 6), attributes={})


def cells(shape: tuple[int, int, int], *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Raw uint8 and labels uint32: a dozen Voronoi cells, dark where two of them meet."""
    rng = np.random.default_rng(seed)
    seeds = np.zeros(shape, np.uint32)
    seeds[tuple(rng.integers(0, shape, (12, 3)).T)] = np.arange(1, 13)
    _, nearest = ndimage.distance_transform_edt(seeds == 0, sampling=(3, 1, 1), return_indices=True)
    labels = seeds[tuple(nearest)]
    membrane = ndimage.maximum_filter(labels, 3) != ndimage.minimum_filter(labels, 3)
    raw = np.where(membrane, 60, 190) + rng.normal(0, 12, shape)
    return raw.clip(0, 255).astype(np.uint8), labels


def environment() -> dict[str, str]:
    """For a process of its own: this source tree, one thread."""
    source = str(Path(__file__).parents[2] / "src")
    return os.environ | {"PYTHONPATH": source, "OMP_NUM_THREADS": "1"}


def train_tiny(*overrides: str, checkpoint: Path | None = None) -> Path:
    """The run folder of the cut-down demo with overrides, below the current folder."""
    loaded = load(DEMO, mode="train", overrides=[*TINY, *overrides])
    check_targets(loaded, "train")
    return train(loaded, checkpoint=checkpoint, command="emseg")


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    """The network's weights in a checkpoint."""
    return net_weights(read_checkpoint(checkpoint))


@dataclass(frozen=True)
class SmallTutorial:
    """A tutorial in the current folder, with overrides that make it small."""

    path: Path
    small: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def checkpoint(self) -> Path:
        """The last one of its only run."""
        experiment = load(self.path, mode="train", overrides=()).root.experiment_name
        (last,) = Path("outputs", experiment).glob("*/checkpoints/last.ckpt")
        return last

    @property
    def results(self) -> Path:
        (found,) = self.checkpoint.parents[1].glob("results_step=*")
        return found

    def emseg(self, mode: str, *words: str) -> int:
        """The exit code of a mode; all but `train` work with the checkpoint."""
        given = ["--config", str(self.path), "--mode", mode, *self.small, *words]
        if mode != "train" and not {"--input", "--checkpoint"} & {*words}:
            given += ["--checkpoint", str(self.checkpoint)]
        return main(given)
