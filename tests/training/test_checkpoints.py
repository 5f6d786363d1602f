import csv
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pytorch_lightning.loggers import CSVLogger
from tiny_run import tiny_module, tiny_net, train

from emseg.data.target_facts import TargetFacts
from emseg.errors import UserError
from emseg.stages.network import facts_of
from emseg.training.checkpoints import load_weights, net_weights, read_checkpoint
from emseg.training.facts import Facts

MONITOR = "train_loss_total_epoch"
FACTS = Facts(
    global_step=0,
    axes="zyx",
    voxel_size=(30.0, 6.0, 6.0),
    in_channels=1,
    patch_size=(2, 8, 8),
    target=TargetFacts(
        channels=("0-0-1", "sdt"),
        offsets=((0, 0, 1), (0, 0, 0)),
        edge_side="source",
        heads={"affinity": (0, 1), "sdt": (1, 2)},
        activations=("sigmoid", "tanh"),
    ),
    version="1.0",
    config={"model": {"width": [4, 6]}},
)
# What earlier versions wrote of the same training.
STORED = {
    "axes": "zyx",
    "voxel_size": (30.0, 6.0, 6.0),
    "in_channels": 1,
    "patch_size": [2, 8, 8],
    "channels": ["0-0-1", "sdt"],
    "offsets": [[0, 0, 1], [0, 0, 0]],
    "edge_side": "source",
    "heads": {"affinity": [0, 1], "sdt": [1, 2]},
    "activations": ["sigmoid", "tanh"],
    "trained_on": [],
    "seen_unlabelled": [],
    "version": "1.0",
    "objective": {},
    "optimizer": {},
    "scheduler": {},
    "config": {"model": {"width": [4, 6]}},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    module = tiny_module(facts=FACTS)
    logger = CSVLogger(folder, name="log", version="")
    train(module, folder, steps=30, val=False, logger=logger, log_every_n_steps=1)
    return folder, module


def test_policy_keeps_the_best_the_last_and_every_nth(run):
    folder, _ = run
    names = {path.name for path in folder.glob("*.ckpt")}
    with (folder / "log" / "metrics.csv").open() as table:
        rows = list(csv.DictReader(table))
    # Epochs end after 12, 24 and 30 steps, the last cut short.
    losses = [float(row[MONITOR]) for row in rows if row[MONITOR]]
    ranked = sorted(zip(losses, (12, 24, 30), strict=True))
    best = {f"step={step}-{MONITOR}={loss:.4f}.ckpt" for loss, step in ranked[:2]}
    regular = {f"step={step}.ckpt" for step in range(5, 31, 5)}
    assert names == {*best, *regular, "last.ckpt"}
    assert read_checkpoint(folder / "last.ckpt")["global_step"] == 30
    assert read_checkpoint(folder / "step=5.ckpt")["global_step"] == 5


def test_a_checkpoint_is_plain_and_has_the_facts(run):
    folder, module = run
    contents = torch.load(folder / "last.ckpt", weights_only=True)
    assert contents["emseg"] == STORED | {"global_step": 30}
    assert facts_of(contents["emseg"], source=folder) == replace(FACTS, global_step=30)
    assert "hyper_parameters" not in contents
    net = tiny_net()
    load_weights(net, net_weights(contents), source="last.ckpt")
    torch.testing.assert_close(net.state_dict(), module.net.state_dict())


def test_weights_of_another_architecture_are_refused_in_one_line(run):
    weights = net_weights(read_checkpoint(run[0] / "last.ckpt"))
    net = tiny_net(out_channels=3, norm="none")
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(UserError) as caught:
        load_weights(net, weights, source="a.ckpt")
    message = str(caught.value)
    assert "\n" not in message
    for part in (
        "a.ckpt",
        " unknown (encoder.",
        "heads.0.1.weight [2, 4, 1, 1, 1] for [3, 4, 1, 1, 1]",
    ):
        assert part in message
    torch.testing.assert_close(net.state_dict(), before)


class _Foreign:
    pass


def _damaged(folder: Path, run_folder: Path, kind: str) -> Path:
    path = folder / f"{kind}.ckpt"
    whole = (run_folder / "last.ckpt").read_bytes()
    match kind:
        case "truncated":
            path.write_bytes(whole[: len(whole) // 2])
        case "empty":
            path.write_bytes(b"")
        case "text":
            path.write_text("not a checkpoint")
        case "pickle":
            torch.save({"state_dict": {}, "config": _Foreign()}, path)
        case "bare":
            torch.save({"weights": torch.zeros(1)}, path)
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "does not exist"),
        ("truncated", "cannot be read"),
        ("empty", "cannot be read"),
        ("text", "refused|cannot be read"),
        ("pickle", "refused.*plain containers"),
        ("bare", "no 'state_dict'"),
    ],
)
def test_bad_files_are_refused_in_one_line(tmp_path, run, kind, message):
    path = _damaged(tmp_path, run[0], kind)
    with pytest.raises(UserError, match=message) as caught:
        read_checkpoint(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_checkpoint_without_a_network_is_refused():
    with pytest.raises(UserError, match="holds no weights under 'net.' .but model.0.weight"):
        net_weights({"state_dict": {"model.0.weight": torch.zeros(1)}})
