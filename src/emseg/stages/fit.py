"""Runs the trainer, and explains how to continue if it does not finish."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from pytorch_lightning.callbacks import Callback

from emseg.config.schema import Root
from emseg.errors import UserError
from emseg.faults import UNWRITABLE, is_gpu_full
from emseg.runs.run_folder import process_rank, say
from emseg.stages.devices import Devices
from emseg.stages.trainer import make_trainer
from emseg.stopping import Stopped, deferred_signals
from emseg.training.checkpoint_file import plain_numbers
from emseg.training.datamodule import PatchDataModule
from emseg.training.objective import Objective
from emseg.training.saving import WholeCheckpoints
from emseg.training.workers import worker_fault


def fit(
    root: Root,
    module: Objective,
    data: PatchDataModule,
    devices: Devices,
    *,
    run: Path,
    checkpoint: Path | None,
    command: str,
    callbacks: Sequence[Callback] = (),
) -> None:
    """Trains the module, from the start or from `checkpoint`, with further callbacks.

    Raises `Stopped` after a signal, with what is saved and how to continue, and `UserError` if
    memory, a loader worker or a disk fails.
    """
    writer = WholeCheckpoints()

    def left() -> str:
        return "" if process_rank() else _left(writer, checkpoint, command)

    with deferred_signals(left) as asked:
        trainer = make_trainer(
            root,
            devices,
            run,
            validates=data.validates,
            writer=writer,
            asked=asked,
            callbacks=callbacks,
        )
        try:
            with plain_numbers():
                trainer.fit(module, data, ckpt_path=checkpoint, weights_only=True)
        except Stopped as stop:
            raise Stopped(stop.number, left()) from None
        except SystemExit as ended:
            # Lightning ends the process itself on Ctrl-C; only the command line should do that.
            if isinstance(ended.__context__, KeyboardInterrupt):
                raise ended.__context__ from None
            raise Stopped(asked(), left()) if asked() else ended from None
        except (RuntimeError, OSError, EOFError) as error:
            if asked():  # for example workers that the same signal ended
                raise Stopped(asked(), left()) from error
            fault = _fault(error, root, devices, run)
            if fault is None:
                raise
            raise fault from error
        if trainer.global_step < trainer.max_steps and not asked() and not process_rank():
            early = root.monitor.early_stopping
            say(
                f"ended early: {early.monitor} has not become better {early.patience} times in a "
                f"row; {trainer.global_step} of {trainer.max_steps} steps are trained",
                run=run,
            )
        if asked():
            done = f"all {root.optimization.total_steps} steps are trained: {run / 'checkpoints'}"
            raise Stopped(asked(), "" if process_rank() else done)


def _left(writer: WholeCheckpoints, checkpoint: Path | None, command: str) -> str:
    if writer.written is not None:
        path, step = writer.written
        return f"step {step} is saved, go on with: {_going_on(command, path)}"
    if checkpoint is not None:
        return f"no step is saved since {checkpoint}, the same command goes on from there"
    return "no step is saved, the same command begins anew"


def _going_on(command: str, checkpoint: Path) -> str:
    """The command line with this checkpoint, and with the run's config if it has none."""
    words, remaining = shlex.split(command), []
    while words:
        word = words.pop(0)
        if word == "--checkpoint":
            words.pop(0)
        elif not word.startswith("--checkpoint="):
            remaining.append(word)
    if not any(word.split("=")[0] == "--config" for word in remaining):
        remaining = ["emseg", "--config", str(checkpoint.parents[1] / "config.yaml")]
    return shlex.join([*remaining, "--checkpoint", str(checkpoint)])


def _fault(error: Exception, root: Root, devices: Devices, run: Path) -> UserError | None:
    if isinstance(error.__context__, UserError):  # a library failed again while it ended
        return error.__context__
    loader = root.data.dataloader
    if is_gpu_full(error):
        return UserError(
            f"the GPU's memory does not suffice for data.dataloader.batch_size={loader.batch_size} "
            f"patches of data.dataloader.patch_size={list(loader.patch_size)}: lower one of them"
        )
    fault = worker_fault(error, workers=devices.workers)
    if fault is None and isinstance(error, OSError) and error.errno in UNWRITABLE:
        return UserError(f"cannot write '{error.filename or run}': {error.strerror}")
    return fault
