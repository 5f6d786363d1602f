"""Training in processes of its own: killed and resumed, and shared by two of them."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from emseg.config import load
from emseg.stages.train import train
from emseg.training.checkpoints import read_checkpoint
from stages.tiny_tutorial import DEMO, MAIN, TINY, environment, train_tiny, weights, write_volumes

KILLED_MAIN = Path(__file__).with_name("killed_main.py")
# All that a run goes on from: average, live weights, moments, schedule, the next sample.
STATES = (
    "state_dict",
    "current_model_state",
    "averaging_state",
    "optimizer_states",
    "lr_schedulers",
    "PatchDataModule",
)


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    write_volumes(tmp_path)
    monkeypatch.chdir(tmp_path)
    # As the other processes: the number of threads changes the order of sums.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _start(script: Path, *arguments: str, processes: int = 1) -> subprocess.CompletedProcess:
    command = [sys.executable]
    if processes > 1:
        command += ["-m", "torch.distributed.run", f"--nproc_per_node={processes}"]
        command += ["--master_port=0", "--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0"]
    command += [str(script), *arguments]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=180)


def _train(*overrides: str) -> list[str]:
    return ["--config", str(DEMO), *TINY, *overrides]


def _only_run(experiment: str) -> Path:
    (run,) = Path("outputs", experiment).iterdir()
    return run


def _last(run: Path) -> Path:
    return run / "checkpoints" / "last.ckpt"


def _assert_same_states(checkpoint: Path, reference: Path) -> None:
    ours, theirs = read_checkpoint(checkpoint), read_checkpoint(reference)
    for stored in (ours, theirs):
        for group in (group for s in stored["optimizer_states"] for group in s["param_groups"]):
            assert all(group.pop("param_names"))  # text, which assert_close does not take
    torch.testing.assert_close(
        {name: ours[name] for name in STATES},
        {name: theirs[name] for name in STATES},
        rtol=0,
        atol=1e-6,
    )


def test_killed_and_resumed_run_ends_like_an_uninterrupted_one():
    length = (
        "optimization.max_steps=40",
        "optimization.n_steps_per_epoch=15",
        "monitor.checkpoint.every_n_steps=20",
        "system.num_workers=1",
    )
    whole = train_tiny(*length, "experiment_name=whole")
    broken = (*length, "experiment_name=broken")
    killed = _start(KILLED_MAIN, "22", *_train(*broken))
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    run = _only_run("broken")
    config = (run / "config.yaml").read_text()
    assert read_checkpoint(_last(run))["global_step"] == 20

    train_tiny(*broken, checkpoint=_last(run))
    _assert_same_states(_last(run), _last(whole))
    stored = read_checkpoint(_last(run))
    live, average = stored["current_model_state"], stored["state_dict"]
    assert any((live[name] != average[name]).any() for name in average)
    assert _only_run("broken") == run
    assert (run / "config.yaml").read_text() == config
    assert (run / "run.log").read_text().count("command: ") == 2


def test_two_processes_train_and_resume_like_one_with_the_doubled_batch():
    length = (
        "optimization.max_steps=10",
        "optimization.n_steps_per_epoch=4",
        "optimization.precision=32-true",
        "monitor.checkpoint.every_n_steps=6",
        "data.split_train_range=[0,8]",
        "data.split_val_range=[8,12]",
    )
    one = train_tiny(*length, "data.dataloader.batch_size=2", "experiment_name=one")
    command = _train(*length, "data.dataloader.batch_size=1", "experiment_name=two")
    killed = _start(KILLED_MAIN, "7", *command, processes=2)
    assert killed.returncode != 0
    run = _only_run("two")
    assert read_checkpoint(_last(run))["global_step"] == 6

    resumed = _start(MAIN, *command, "--checkpoint", str(_last(run)), processes=2)
    assert resumed.returncode == 0, resumed.stderr
    assert _only_run("two") == run
    ours, theirs = weights(_last(run)), weights(_last(one))
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=1e-5)
    stored = [read_checkpoint(_last(each)) for each in (run, one)]
    assert stored[0]["PatchDataModule"] == stored[1]["PatchDataModule"]
    # Rank 0 alone speaks and writes.
    assert resumed.stderr.count("emseg: training 10 steps on 2 cpu") == 1
    assert len(list((run / "tensorboard").glob("events*"))) == 2
    assert {path.name for path in Path().iterdir()} == {"datasets", "outputs"}


MEDNEXT = (
    "model=mednext_s",
    "model.width=2",
    "data.dataloader.patch_size=[32,32,32]",
    "data.pad_small=true",
)
UNETR = (
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
)


@pytest.mark.parametrize(
    ("network", "in_two"), [(MEDNEXT, ("model.checkpointing=true",)), (UNETR, ())]
)
def test_every_parameter_takes_part_in_two_processes(network, in_two):
    # Distributed training ends at the second step where a parameter takes no part in the loss.
    words = [word for word in TINY if not word.startswith("model.")] + [
        *network,
        "optimization/optimizer=sgd",  # Adam would blow rounding up to a step
        "optimization.precision=32-true",
        "monitor.logging.images.n_images=0",
    ]
    alone = [*words, "experiment_name=one", "data.dataloader.batch_size=2"]
    train(load(DEMO, mode="train", overrides=alone), checkpoint=None, command="emseg")
    command = [*words, *in_two, "experiment_name=two", "data.dataloader.batch_size=1"]
    trained = _start(MAIN, "--config", str(DEMO), *command, processes=2)
    assert trained.returncode == 0, trained.stderr
    ours, theirs = (weights(_last(_only_run(name))) for name in ("two", "one"))
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=1e-5)
