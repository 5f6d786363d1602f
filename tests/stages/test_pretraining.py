"""A pretraining on images alone, and what goes on from it."""

import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from emseg.cli import main
from emseg.config import build, load
from emseg.config.choices import tutorials_folder
from emseg.errors import UserError
from emseg.stages.sources import open_sources
from emseg.training.checkpoints import read_checkpoint
from emseg.training.objective import Parts
from stages.tiny_tutorial import DEMO, MAIN, environment, weights, write_volumes

NET = (
    "model.volume_size=[4,16,16]",
    "model.patch_size=[2,8,8]",
    "model.embed_dim=8",
    "model.depth=1",
    "model.num_heads=2",
    "data.dataloader.patch_size=[4,16,16]",
    "data.dataloader.batch_size=1",
)
SMALL = (
    *NET,
    "system=cpu",
    "system.num_workers=0",
    "optimization.precision=32-true",
    "optimization.max_steps=2",
    "optimization.n_steps_per_epoch=2",
    "monitor.checkpoint.every_n_steps=null",
    "monitor.logging.log_every_n_steps=1",
)
PRETRAIN = tutorials_folder() / "dbmim" / "pretrain_r32.yaml"
# Those of train, val and test.
IMAGES = "datasets/demo/[tv]*_raw.h5"
# Of the encoder's tensors: positions, patches, one block, the last norm.
COUNT = 1 + 2 + 12 + 2


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    write_volumes(tmp_path)
    monkeypatch.chdir(tmp_path)


def pretrain(*words):
    return main(["--config", str(PRETRAIN), *SMALL, f"data.train.image={IMAGES}", *words])


def last(name):
    (checkpoint,) = Path("outputs", name).glob("*/checkpoints/last.ckpt")
    return checkpoint


def policy_of(checkpoint):
    """The policy's weights, and their moments in the optimizer's second group."""
    stored = read_checkpoint(checkpoint)
    state, (optimizer,) = stored["state_dict"], stored["optimizer_states"]
    found = {name: value for name, value in state.items() if name.startswith("policy.")}
    members = [number for group in optimizer["param_groups"][1:] for number in group["params"]]
    return found | {str(n): optimizer["state"][n] for n in members if n in optimizer["state"]}


def test_images_teach_an_encoder_from_which_a_training_begins_and_is_tested(capsys):
    assert pretrain("data.train.label=lost.h5", "data.val={image: datasets/demo/spare_raw.h5}") == 0
    checkpoint = last("dbmim_pretrain_r32")
    run = checkpoint.parents[1]
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"images": 0}).Reload()
    parts = {
        f"{split}_loss_{part}" for split in ("train", "val") for part in ("pixel", "structure")
    }
    totals = {"train_loss_total_step", "train_loss_total_epoch", "val_loss_total"}
    assert set(events.Tags()["scalars"]) == {*parts, *totals, "lr", "epoch"}
    assert set(events.Tags()["images"]) == {"train/0", "val/0"}
    # Three pictures beside each other, two sections below each other.
    assert [(e.width, e.height) for e in events.Images("val/0")] == [(48, 32)]
    names = ("train_raw", "val_raw", "test_raw")
    assert all(f"{name} (12x40x40)" in (run / "run.log").read_text() for name in names)

    facts = read_checkpoint(checkpoint)["emseg"]
    assert facts["objective"]["_target_"] == "emseg.training.masked.MaskedPretraining"
    assert "channels" not in facts
    capsys.readouterr()
    words = ("model=unetr_aniso_em", *SMALL, "model.feature_size=2", "inference.window.overlap=0")
    words = (*words, "target=aff3", "loss=mse_maws", "inference.window.window_size=[4,16,16]")
    words = (*words, "optimization.scheduler.warmup_steps=0", "optimization.ema.enabled=false")
    command = ["--config", str(DEMO), *words]
    assert main([*command, "--mode", "test", "--checkpoint", str(checkpoint)]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "trained without a target" in line and "model.init_from" in line
    assert main([*command, "--checkpoint", str(checkpoint)]) == 2
    assert "was trained by emseg.training.masked.MaskedPretraining" in capsys.readouterr().err
    assert main([*command, f"model.init_from='{checkpoint}'"]) == 0
    assert f"{COUNT} of the model's " in capsys.readouterr().err
    assert main([*command, "--mode", "test", "--checkpoint", str(last("demo"))]) == 0


@pytest.mark.parametrize("objective", ["masked", "masked_adaptive", "masked_patchwise"])
def test_a_resumed_pretraining_hides_what_it_would_have_hidden(objective):
    words = ("optimization.max_steps=4", "monitor.checkpoint.every_n_steps=2")
    if objective != "masked":
        words = (f"objective={objective}", "objective.freeze_steps=9", *words)
        words = (*words, "objective.warmup_steps=1", "objective.policy_lr=0.1")
    assert pretrain(*words) == 0
    checkpoint = last("dbmim_pretrain_r32")
    whole, policy = weights(checkpoint), policy_of(checkpoint)
    checkpoint.unlink()
    middle = checkpoint.with_name("step=2.ckpt")
    assert pretrain(*words, "--checkpoint", str(middle)) == 0
    assert read_checkpoint(checkpoint)["global_step"] == 4
    torch.testing.assert_close(weights(checkpoint), whole, rtol=0, atol=1e-7)
    torch.testing.assert_close(policy_of(checkpoint), policy, rtol=0, atol=1e-6)
    assert bool(policy) == (objective != "masked")
    assert not torch.equal(weights(middle)["pos_embed"], whole["pos_embed"])


def test_a_policy_learns_from_its_warm_up_to_its_freeze_and_is_told_of(capsys):
    words = ["objective=masked_adaptive", "objective.warmup_steps=2", "objective.freeze_steps=4"]
    words += ["optimization.max_steps=6", "monitor.checkpoint.every_n_steps=1"]
    assert pretrain(*words, "data.val={image: datasets/demo/spare_raw.h5}") == 0
    folder = last("dbmim_pretrain_r32").parent
    states = [policy_of(folder / f"step={step}.ckpt") for step in range(1, 7)]
    same = [all(torch.equal(a[n], b[n]) for n in a if "." in n) for a, b in pairwise(states)]
    assert same == [True, False, False, True, True]
    assert [len(state) for state in states[:3]] == [6, 6, 12]  # no moments in the warm-up
    torch.testing.assert_close(states[-1], states[3], rtol=0, atol=0)
    run = folder.parent
    events = EventAccumulator(str(run / "tensorboard")).Reload()
    steps = {name: [e.step for e in events.Scalars(name)] for name in events.Tags()["scalars"]}
    assert steps["mask_ratio"] == [0, 1, 2, 3, 4, 5] and "val_loss_policy" not in steps
    assert steps["mask_edge_fraction"] == [2, 3, 4, 5]
    assert steps["train_loss_policy"] == steps["mask_reward"] == [2, 3]
    shares = [e.value for e in events.Scalars("mask_ratio")]
    assert shares[:2] == [0.75, 0.75] and {*shares[2:]} <= {0.625, 0.75, 0.875}
    capsys.readouterr()
    words = ["--checkpoint", str(folder / "last.ckpt"), "optimization.max_steps=8"]
    assert pretrain("objective=masked_patchwise", *words) == 2
    assert "objective.policy: the checkpoint" in capsys.readouterr().err.splitlines()[-1]
    assert pretrain(*words) == 2
    assert "was trained by emseg.training.masked_by_policy" in capsys.readouterr().err


def test_two_processes_train_with_a_policy_in_all_its_phases():
    words = ["objective=masked_adaptive", "objective.warmup_steps=1", "objective.freeze_steps=2"]
    words += [f"data.train.image={IMAGES}", "optimization.max_steps=4", "system.num_gpus=2"]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2"]
    command += ["--master_port=0", "--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0"]
    command += [str(MAIN), "--config", str(PRETRAIN), *SMALL, *words]
    ran = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=180)
    assert ran.returncode == 0 and "training 4 steps on 2 cpu" in ran.stderr, ran.stderr
    assert read_checkpoint(last("dbmim_pretrain_r32"))["global_step"] == 4


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["objective=supervised"], "choose objective=masked"),
        (["model=unetr_aniso"], "choose model=masked_vit"),
        (["loss=mse"], "choose loss=masked_reconstruction"),
        (["objective.strategy=membrane"], "called 'edge_random_mix'"),
        (["objective.ratio=1.5"], "objective.ratio=1.5 must be above 0"),
        (["objective=masked_adaptive", "objective.ratio=0.5"], "objective.policy hides 0.625"),
        (["objective=masked_adaptive"], "objective.warmup_steps is 10000; it must be below"),
        (["data.target_context=true"], "data.target_context is True"),
        (["data.reject_sampling.size_thres=9"], "data.reject_sampling.size_thres is 9"),
        (["data.relabel_crops=true"], "data.relabel_crops is True"),
        (["monitor.checkpoint.monitor=train_loss_pixel"], "allowed: train_loss_total_epoch"),
    ],
)
def test_what_does_not_go_together_is_refused(words, told, capsys, tmp_path):
    assert pretrain(*words) == 2
    assert told in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "outputs").exists()


# Of each row: the full mixture or the public volumes, what hides, membranes and structure or not.
ROWS = {
    "full": (True, "masked", "random", True),
    "r16": (False, "masked_patchwise", "random", True),
    "r17": (False, "masked", "random", True),
    "r20": (True, "masked", "random", True),
    "r23": (False, "masked", "random", False),
    "r23_full": (True, "masked", "random", False),
    "r29": (False, "masked", "edge", True),
    "r30": (False, "masked", "edge", False),
    "r31": (True, "masked", "edge", True),
    "r32": (False, "masked", "edge_random_mix", True),
    "r33": (True, "masked", "edge_random_mix", True),
    "r34": (False, "masked_adaptive", "edge_random_mix", True),
    "r35": (True, "masked_adaptive", "edge_random_mix", True),
}
# The fraction that is steepest, and the power and noise of steepness, as published.
MASKING = {
    "random": (0.0, 1.0, 0.0),
    "edge": (1.0, 1.5, 0.025),
    "edge_random_mix": (0.5, 1.25, 0.05),
}
GROUPS = ["fafb", "fib25", "kasthuri", "mitoem", "mb_moc"]


def test_the_rows_of_the_tables_differ_in_what_they_compare_and_in_nothing_else():
    files = {path.stem: path for path in PRETRAIN.parent.glob("pretrain*.yaml")}
    parent = load(files.pop("pretrain"), mode="train", overrides=[]).root
    assert {*files} == {f"pretrain_{row}" for row in ROWS}
    for row, (full, objective, strategy, membranes) in ROWS.items():
        loaded = load(files[f"pretrain_{row}"], mode="train", overrides=[])
        root = loaded.root
        assert root.experiment_name == f"dbmim_pretrain_{row}"
        assert [*root.data.train] == (["cremi", *GROUPS] if full else [""]), row
        assert all(volume.weight == 1 for volume in root.data.train.values())
        assert loaded.choices["objective"] == objective, row
        assert (root.objective["strategy"], root.objective["ratio"]) == (strategy, 0.75), row
        masking = build(root.objective, kind="objective", parts=_parts(root)).masking
        assert (masking.fraction, masking.power, masking.noise) == MASKING[strategy], row
        weights = root.loss["membrane_weight"], root.loss["structure_weight"]
        assert weights == ((1.35, 0.2) if membranes else (0.0, 0.0)), row
        root.data.train, root.data.preload = parent.data.train, True
        same = ("data", "model", "augment", "optimization", "system", "target")
        assert all(getattr(root, key) == getattr(parent, key) for key in same), row


def _parts(root):
    with torch.device("meta"):
        net = build(root.model, kind="model", in_channels=1)
    return Parts(net=net, loss=build(root.loss, kind="loss"), make_optimizer=None)


def test_the_encoder_that_is_pretrained_is_that_which_is_finetuned():
    root = load(PRETRAIN, mode="train", overrides=[]).root
    finetuned = load(DEMO, mode="train", overrides=["model=unetr_aniso_em", "target=aff3"]).root
    with torch.device("meta"):
        source = build(root.model, kind="model", in_channels=1)
        net = build(finetuned.model, kind="model", in_channels=1, out_channels=3)
    assert sum(p.numel() for p in source.parameters()) == 3_254_848
    assert len(net.encoder_weights(source.state_dict(), root.model)) == 77


def test_the_full_mixture_has_each_file_of_each_group_as_likely():
    full = PRETRAIN.with_name("pretrain_r33.yaml")
    raw = Path("datasets/demo/train_raw.h5")
    for number, group in enumerate(GROUPS):
        folder = Path("datasets/dbmim/full_em", group)
        folder.mkdir(parents=True)
        for part in range(number + 1):
            shutil.copy(raw, folder / f"part_{part}.h5")
    words = ["data.train.cremi=null"]
    volumes = load(full, mode="train", overrides=words).root.data.train
    sources = open_sources(volumes, split="train")
    assert len(sources) == 1 + 2 + 3 + 4 + 5
    assert {source.config.weight for source in sources} == {1}
    shutil.rmtree("datasets/dbmim/full_em/fib25")
    with pytest.raises(UserError, match=r"no file matches datasets/dbmim/full_em/fib25/\*.h5"):
        open_sources(volumes, split="train")
    words.append("data.train.fib25=null")
    volumes = load(full, mode="train", overrides=words).root.data.train
    assert len(open_sources(volumes, split="train")) == 1 + 3 + 4 + 5
