"""Batches of samples, divided among devices, that a resumed run continues exactly."""

import itertools
import multiprocessing
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Subset, default_collate

from emseg.errors import UserError
from emseg.stopping import end_with_parent


class Samples(Protocol):
    """Samples by number, each a dict of arrays, as `emseg.data.dataset.PatchDataset` makes them."""

    @property
    def channels(self) -> int: ...

    def __getitem__(self, index: int) -> Mapping[str, Any]: ...


class SampleStream:
    """Micro-batches of consecutive samples for one device, without end.

    From `next_index` = n on, micro-batch k of device `rank` out of `world_size` holds the samples n
    + (k * world_size + rank) * batch_size onwards, so that all devices together take every sample
    once, in order. `next_index` counts samples that were used, not those that workers prepared
    ahead. An epoch has `batches_per_epoch` of them; workers start once and continue across epochs.
    """

    def __init__(
        self,
        samples: Samples,
        *,
        batch_size: int,
        batches_per_epoch: int,
        next_index: int = 0,
        rank: int = 0,
        world_size: int = 1,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        self.next_index = next_index
        self._samples = samples
        self._batch_size, self._batches_per_epoch = batch_size, batches_per_epoch
        self._rank, self._world_size = rank, world_size
        self._num_workers, self._seed = num_workers, seed
        self._batches: Iterator[Mapping[str, Any]] | None = None

    def __len__(self) -> int:
        return self._batches_per_epoch

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        if self._batches is None:
            self._batches = iter(self._loader())
        for _ in range(self._batches_per_epoch):
            batch = _raised(next(self._batches))
            self.next_index += self._world_size * self._batch_size
            yield batch

    def close(self) -> None:
        """Stops the workers."""
        self._batches = None

    # Lightning requires these two methods of a loader to resume within an epoch.
    def state_dict(self) -> dict[str, int]:
        """The position in the stream: the same on all devices."""
        return {"next_index": self.next_index}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Continues the stream from `state`."""
        self.next_index = state["next_index"]
        self.close()

    def _loader(self) -> DataLoader:
        batches = _consecutive(
            self.next_index + self._rank * self._batch_size,
            size=self._batch_size,
            stride=self._world_size * self._batch_size,
        )
        return DataLoader(
            _Batches(self._samples),  # type: ignore[arg-type]
            batch_sampler=batches,  # type: ignore[arg-type]
            **_loader_settings(self._num_workers, seed=self._seed + self._rank),
        )


class PatchDataModule(pl.LightningDataModule):
    """Training batches in the order of their global sample index, and fixed validation batches.

    The position in the stream is stored in the checkpoint as a sample index, so that a run resumed
    at any micro-batch, with any number of workers, sees the same samples; with another number of
    devices or batch size it continues with the first unseen sample. Workers are forked if the
    system can: preloaded volumes are then shared, not copied.

    Args:
        batch_size: of one device.
        batches_per_epoch: micro-batches of one device: optimizer steps times accumulation.
        val_samples: validation is samples 0 to `val_samples` - 1 of `val`, the same every time and
            on every device (the Trainer needs `use_distributed_sampler=False`).
        seed: of the workers' global random numbers.
    """

    def __init__(
        self,
        train: Samples,
        *,
        batch_size: int,
        batches_per_epoch: int,
        val: Samples | None = None,
        val_samples: int = 0,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self._train, self._val = train, val
        self._batch_size, self._batches_per_epoch = batch_size, batches_per_epoch
        self._val_samples = val_samples
        self._num_workers, self._seed = num_workers, seed
        self._next_index = 0
        self._stream: SampleStream | None = None

    @property
    def channels(self) -> int:
        """The number of image channels, which a network for these samples takes."""
        return self._train.channels

    @property
    def validates(self) -> bool:
        """Whether there are samples to validate on."""
        return self._val is not None

    def train_dataloader(self) -> SampleStream:
        assert self.trainer is not None
        self._stream = SampleStream(
            self._train,
            batch_size=self._batch_size,
            batches_per_epoch=self._batches_per_epoch,
            next_index=self._next_index,
            rank=self.trainer.global_rank,
            world_size=self.trainer.world_size,
            num_workers=self._num_workers,
            seed=self._seed,
        )
        return self._stream

    def val_dataloader(self) -> DataLoader | list[DataLoader]:
        if self._val is None:
            return []
        workers = min(self._num_workers, -(-self._val_samples // self._batch_size))
        return DataLoader(
            Subset(_Batches(self._val), range(self._val_samples)),  # type: ignore[arg-type]
            batch_size=self._batch_size,
            persistent_workers=workers > 0,
            **_loader_settings(workers, seed=self._seed),
        )

    def state_dict(self) -> dict[str, int]:
        """The position in the stream (Lightning loses a loader's state at the end of an epoch)."""
        return {"next_index": self._stream.next_index if self._stream else self._next_index}

    def load_state_dict(self, state_dict: Mapping[str, int]) -> None:
        self._next_index = state_dict["next_index"]

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return _raised(batch)

    def teardown(self, stage: str) -> None:
        if self._stream is not None:
            self._stream.close()

    def on_exception(self, exception: BaseException) -> None:
        # Lightning does no teardown then; the workers would outlive the training.
        self.teardown("fit")


class _Batches:
    """Lists of samples, or instead the UserError of one of them.

    If a worker raised it, we would get a text with PyTorch's traceback. So the error is returned as
    a value, and raised where the batch is used.
    """

    def __init__(self, samples: Samples) -> None:
        self._samples = samples

    def __getitems__(self, indices: list[int]) -> list[Mapping[str, Any]] | UserError:
        try:
            return [self._samples[index] for index in indices]
        except UserError as error:
            return error


def _raised(batch: Any) -> Any:
    if isinstance(batch, UserError):
        raise batch
    return batch


def _collated(samples: list[Mapping[str, Any]] | UserError) -> Any:
    return samples if isinstance(samples, UserError) else default_collate(samples)


def _consecutive(first: int, *, size: int, stride: int) -> Iterator[list[int]]:
    for start in itertools.count(first, stride):
        yield list(range(start, start + size))


def _loader_settings(num_workers: int, *, seed: int) -> dict[str, Any]:
    # A separate generator seeds the workers' torch and numpy and does not change the global one,
    # which dropout uses: a resumed run starts its loaders at another time.
    fork = "fork" in multiprocessing.get_all_start_methods()
    return {
        "num_workers": num_workers,
        "collate_fn": _collated,
        "generator": torch.Generator().manual_seed(seed),
        "multiprocessing_context": ("fork" if fork else "spawn") if num_workers else None,
        "worker_init_fn": end_with_parent,
        "pin_memory": torch.cuda.is_available(),
    }
