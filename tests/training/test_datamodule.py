import itertools
import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from emseg.data.augment import Flip, GaussianNoise, Pipeline
from emseg.data.dataset import PatchDataset
from emseg.data.labelled import LabelledVolume
from emseg.data.targets import Affinity
from emseg.errors import UserError
from emseg.training.datamodule import PatchDataModule, SampleStream
from emseg.volumes import open_volume, write_volume

# Lightning remarks on small runs: few workers, no logger, no progress.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")


class Numbers:
    """Every sample is its own number, and the random numbers its worker would draw."""

    channels = 1

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        return {"index": np.int64(index), "drawn": np.float64(torch.rand(()).item())}


class Recorder(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = torch.nn.Linear(1, 1)
        self.seen: list[list[int]] = []
        self.validated: list[list[int]] = []

    def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
        self.seen.append(batch["index"].tolist())
        return self.net(batch["index"].float()[:, None] / 100).mean()

    def validation_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> None:
        self.validated.append(batch["index"].tolist())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def fit(
    folder: Path,
    *,
    accumulate: int = 1,
    num_workers: int = 0,
    every: int | None = None,
    resume: Path | None = None,
    batch_size: int = 3,
    **limits: int,
) -> Recorder:
    """A run of epochs of 15 optimizer steps, with a validation in the middle of each."""
    data = PatchDataModule(
        Numbers(),
        batch_size=batch_size,
        batches_per_epoch=15 * accumulate,
        val=Numbers(),
        val_samples=4,
        num_workers=num_workers,
    )
    keep = ModelCheckpoint(
        folder,
        "{step}",
        every_n_train_steps=every,
        save_top_k=-1,
        save_on_train_epoch_end=every is None,
    )
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        accumulate_grad_batches=accumulate,
        val_check_interval=7,
        callbacks=[keep],
        **limits,
    )
    module = Recorder()
    trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)
    return module


@pytest.mark.parametrize(
    ("accumulate", "num_workers", "step"),
    [(1, 0, 20), (1, 2, 20), (2, 0, 20), (2, 2, 20), (1, 0, 15)],
)
def test_resumed_run_sees_the_samples_of_an_uninterrupted_one(
    tmp_path: Path, accumulate: int, num_workers: int, step: int
) -> None:
    whole = fit(tmp_path, accumulate=accumulate, num_workers=num_workers, every=step, max_steps=40)
    assert list(itertools.chain(*whole.seen)) == list(range(40 * accumulate * 3))

    rest = fit(
        tmp_path / "rest",
        accumulate=accumulate,
        num_workers=num_workers,
        resume=next(tmp_path.glob(f"*step={step}.ckpt")),
        max_steps=40,
    )
    assert rest.seen == whole.seen[step * accumulate :]
    assert torch.equal(rest.net.weight, whole.net.weight)


def test_checkpoint_of_the_epoch_end_resumes_with_the_next_sample(tmp_path: Path) -> None:
    # Here Lightning counts the epoch as finished and forgets the state of the loader.
    fit(tmp_path, max_epochs=1)
    rest = fit(tmp_path / "rest", resume=next(tmp_path.glob("*.ckpt")), max_epochs=2)
    assert rest.seen[0] == [45, 46, 47]
    assert len(rest.seen) == 15


def test_other_batch_size_goes_on_with_the_first_sample_not_seen(tmp_path: Path) -> None:
    fit(tmp_path, every=20, max_steps=20)
    rest = fit(
        tmp_path / "rest", resume=next(tmp_path.glob("*step=20.ckpt")), max_steps=22, batch_size=5
    )
    assert rest.seen == [[60, 61, 62, 63, 64], [65, 66, 67, 68, 69]]


def test_validation_takes_the_same_samples_every_time(tmp_path: Path) -> None:
    module = fit(tmp_path, max_steps=30, num_workers=2)
    assert module.validated == [[0, 1, 2], [3]] * 4


def test_training_leaves_the_global_random_numbers_alone(tmp_path: Path) -> None:
    stream = SampleStream(Numbers(), batch_size=2, batches_per_epoch=3, num_workers=1)
    state = torch.get_rng_state()
    batches = list(stream)
    stream.close()
    assert torch.equal(state, torch.get_rng_state())
    assert len(batches) == len(stream) == 3


def test_workers_are_seeded_by_the_seed_and_the_rank() -> None:
    def drawn(**settings: int) -> list[float]:
        stream = SampleStream(
            Numbers(), batch_size=2, batches_per_epoch=1, num_workers=1, **settings
        )
        return next(iter(stream))["drawn"].tolist()

    assert drawn(seed=1) == drawn(seed=1)
    assert drawn(seed=1) != drawn(seed=2)
    assert drawn(seed=1) != drawn(seed=1, rank=1)


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_ranks_share_out_consecutive_samples(world_size: int) -> None:
    streams = [
        SampleStream(
            Numbers(),
            batch_size=2,
            batches_per_epoch=4,
            next_index=10,
            rank=rank,
            world_size=world_size,
        )
        for rank in range(world_size)
    ]
    epochs = [[b["index"].tolist() for _ in range(2) for b in stream] for stream in streams]
    in_order = [i for step in zip(*epochs, strict=True) for batch in step for i in batch]
    assert in_order == list(range(10, 10 + 8 * 2 * world_size))
    assert {stream.state_dict()["next_index"] for stream in streams} == {10 + 16 * world_size}


@pytest.mark.parametrize("preload", [False, True])
@pytest.mark.parametrize(("world_size", "num_workers"), [(1, 0), (1, 2), (2, 1)])
def test_patches_do_not_depend_on_who_makes_them(
    tmp_path: Path, preload: bool, world_size: int, num_workers: int
) -> None:
    rng = np.random.default_rng(0)
    for name in ("image", "label"):
        array = rng.integers(0, 9, (6, 20, 20), dtype=np.uint8)
        write_volume(tmp_path / f"{name}.h5", array, axes="zyx", voxel_size=None, attributes={})
    patches = PatchDataset(
        [LabelledVolume(open_volume(tmp_path / "image.h5"), open_volume(tmp_path / "label.h5"))],
        patch_size=(4, 8, 8),
        seed=5,
        target=Affinity(offsets=[(1, 0, 0), (0, 0, 3)]),
        augment=Pipeline(transforms={"flip": Flip(), "noise": GaussianNoise()}),
        preload=preload,
    )
    expected = [patches[index] for index in range(8)]
    for rank in range(world_size):
        stream = SampleStream(
            patches,
            batch_size=2,
            batches_per_epoch=4 // world_size,
            rank=rank,
            world_size=world_size,
            num_workers=num_workers,
        )
        for number, batch in enumerate(stream):
            first = 2 * (number * world_size + rank)
            for key, values in batch.items():
                together = np.stack([expected[first][key], expected[first + 1][key]])
                np.testing.assert_array_equal(values.numpy(), together)
        stream.close()


def test_epoch_left_early_goes_on_with_what_was_not_handed_out() -> None:
    stream = SampleStream(Numbers(), batch_size=1, batches_per_epoch=4)
    first = [int(b["index"]) for b in itertools.islice(stream, 2)]
    assert first + [int(b["index"]) for b in stream] == [0, 1, 2, 3, 4, 5]


def still_alive() -> list[multiprocessing.process.BaseProcess]:
    """The child processes that go on, though a busy machine had a minute to end each."""
    children = multiprocessing.active_children()
    for child in children:
        child.join(timeout=60)
    return [child for child in children if child.is_alive()]


class Spoilt(Numbers):
    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        if index == 4:
            raise UserError("sample 4 cannot be read")
        return super().__getitem__(index)


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("split", ["train", "val"])
def test_a_users_mistake_in_a_worker_comes_out_as_it_was_said(split: str, num_workers: int) -> None:
    spoilt = {"train": Spoilt(), "val": Numbers()} if split == "train" else {"val": Spoilt()}
    data = PatchDataModule(
        **{"train": Numbers(), **spoilt},
        batch_size=3,
        batches_per_epoch=2,
        val_samples=6,
        num_workers=num_workers,
    )
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        logger=False,
        max_steps=2,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    with pytest.raises(UserError, match="^sample 4 cannot be read$"):
        trainer.fit(Recorder(), data)
    if split == "train":
        assert still_alive() == []
