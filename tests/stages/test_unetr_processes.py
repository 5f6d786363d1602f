"""The UNETR in two processes: every one of its parameters takes part in the loss."""

import subprocess
import sys
from pathlib import Path

import torch

from emseg.config import load
from emseg.stages.train import train
from stages.tiny_tutorial import DEMO, MAIN, environment, weights, write_volumes

# Distributed training ends at the second step where a parameter takes no part in the loss.
SMALL = (
    "system=cpu",
    "system.num_workers=0",
    "model=unetr_aniso_em",
    "model.volume_size=[4,16,16]",
    "model.patch_size=[2,8,8]",
    "model.embed_dim=8",
    "model.depth=4",
    "model.num_heads=2",
    "model.feature_size=2",
    "model.dropout=0",  # by the ranks' own chance
    "target=aff3_dbmim",
    "loss=mse_maws",
    "data.dataloader.patch_size=[4,16,16]",
    "optimization/optimizer=sgd",  # Adam would blow rounding up to a step
    "optimization/scheduler=constant",
    "optimization.precision=32-true",
    "optimization.max_steps=4",
    "optimization.n_steps_per_epoch=4",
    "optimization.val_steps_per_epoch=1",
    "optimization.ema.enabled=false",
    "monitor.logging.images.n_images=0",
)
LAUNCHER = ["-m", "torch.distributed.run", "--nproc_per_node=2", "--rdzv-backend=c10d"]
LAUNCHER += ["--rdzv-endpoint=localhost:0"]


def test_unetr_in_two_processes_trains_like_one_with_the_doubled_batch(tmp_path, monkeypatch):
    write_volumes(tmp_path)
    monkeypatch.chdir(tmp_path)
    alone = [*SMALL, "experiment_name=one", "data.dataloader.batch_size=2"]
    one = train(load(DEMO, mode="train", overrides=alone), checkpoint=None, command="emseg")
    command = [sys.executable, *LAUNCHER, str(MAIN), "--config", str(DEMO), *SMALL]
    command += ["experiment_name=two", "data.dataloader.batch_size=1"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    (two,) = Path("outputs/two").iterdir()
    ours, theirs = (weights(run / "checkpoints" / "last.ckpt") for run in (two, one))
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=1e-5)
