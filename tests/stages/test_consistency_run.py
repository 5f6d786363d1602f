"""Trainings with two views of unlabelled volumes: what they need, keep, and go on from."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from emseg.cli import main
from emseg.stages.built_objective import inherit_regions
from emseg.stages.network import trained_facts
from emseg.training.checkpoints import net_weights, read_checkpoint
from stages.tiny_tutorial import DEMO, TINY, weights, write_volumes

RAW = "datasets/demo/spare_raw.h5"
UNLABELLED = f"data.unlabelled.image={RAW}"
LEARN = (
    "objective=consistency",
    "perturb=ssns_ws",
    "perturb.student.weights.misalign=0",
    UNLABELLED,
)
EMA = ("objective.teacher=ema", "optimization.ema.enabled=false")
DENOISE = (
    "objective=reconstruction",
    "augment=none",
    "perturb=ssns_pretrain",
    "perturb.student.weights.misalign=0",
    "loss=mse",
    "loss.activation=sigmoid",
)


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    write_volumes(tmp_path)
    monkeypatch.chdir(tmp_path)


def do(*words):
    return main(["--config", str(DEMO), *TINY, "system=cpu", *words])


def last():
    (checkpoint,) = Path("outputs/demo").glob("*/checkpoints/last.ckpt")
    return checkpoint


@pytest.mark.parametrize("teacher", [(), EMA])
def test_a_resumed_training_learns_what_it_would_have_learned(teacher):
    words = (*LEARN, *teacher, "optimization.max_steps=4", "monitor.checkpoint.every_n_steps=2")
    assert do(*words) == 0
    checkpoint = last()
    whole = read_checkpoint(checkpoint)["state_dict"]
    checkpoint.unlink()
    middle = checkpoint.with_name("step=2.ckpt")
    assert do(*words, "--checkpoint", str(middle)) == 0
    resumed = read_checkpoint(checkpoint)["state_dict"]
    assert any(name.startswith("teacher.") for name in whole) == bool(teacher)
    torch.testing.assert_close(resumed, whole, rtol=0, atol=1e-7)
    other = ("objective.teacher=shared",) if teacher else EMA
    assert do(*words, *other, "--checkpoint", str(middle)) == 2


def test_the_unlabelled_volume_matters_and_is_told_where_it_is_tested(capsys):
    assert do(*LEARN) == 0
    learned = weights(last())
    facts = read_checkpoint(last())["emseg"]
    assert [Path(region["image"]).name for region in facts["seen_unlabelled"]] == [
        "spare_raw.h5:main"
    ]
    assert "without labels, spare_raw (12x40x40)" in (last().parents[1] / "run.log").read_text()
    test = ("--mode", "test", "--checkpoint", str(last()), *LEARN)
    capsys.readouterr()
    assert do(*test) == 0
    assert "was seen in training" not in capsys.readouterr().err
    assert do(*test, f"data.test.image={RAW}", "data.test.label=datasets/demo/test_labels.h5") == 0
    assert "test_im was seen in training, without its labels" in capsys.readouterr().err
    run = last().parents[1]
    run.rename(run.with_name("kept"))
    assert do(*LEARN, "data.unlabelled.image=datasets/demo/val_raw.h5") == 0
    other = max(
        Path("outputs/demo").glob("*/checkpoints/last.ckpt"), key=lambda p: p.stat().st_mtime
    )
    assert any(not torch.equal(learned[name], value) for name, value in weights(other).items())


@pytest.mark.parametrize("labelled", [True, False])
def test_what_the_initial_weights_have_seen_is_seen(labelled, capsys):
    """Of a volume, with its labels or without, by a training that another begins from."""
    begun = (f"data.train.image={RAW}", "data.train.label=datasets/demo/spare_labels.h5")
    assert do(*(begun if labelled else LEARN)) == 0
    run = last().parents[1]
    run = run.rename(run.with_name("kept"))
    assert do(f"model.init_from={run}/checkpoints/last.ckpt") == 0
    (checkpoint,) = (path for path in run.parent.glob("2*/checkpoints/last.ckpt"))
    capsys.readouterr()
    test = ("--mode", "test", "--checkpoint", str(checkpoint))
    assert do(*test) == 0
    assert "test_im was" not in capsys.readouterr().err
    assert do(*test, f"data.test.image={RAW}", "data.test.label=datasets/demo/test_labels.h5") == 0
    told = "was trained on" if labelled else "was seen in training, without its labels"
    assert f"test_im {told}" in capsys.readouterr().err


def test_images_of_the_pretraining_are_seen_without_labels(tmp_path):
    assert do(*DENOISE, "data.train.label=null") == 0
    pretrained = trained_facts(read_checkpoint(last()), source=last())
    own = {"image": "own", "first": [0, 0, 0], "stop": [1, 1, 1]}
    facts = inherit_regions(replace(pretrained, trained_on=[own]), last())
    assert facts.trained_on == [own]
    assert [Path(region["image"]).name for region in facts.seen_unlabelled] == ["train_raw.h5:main"]
    torch.save({"weight": torch.zeros(1)}, tmp_path / "foreign.pt")
    assert facts == inherit_regions(facts, last())
    assert facts == inherit_regions(facts, tmp_path / "foreign.pt")


def test_a_network_that_cleans_images_is_no_network_of_affinities(capsys):
    assert do(*DENOISE, "data.train.label=lost.h5") == 0
    made = net_weights(read_checkpoint(last()))
    assert made["heads.0.1.weight"].shape[0] == 1
    assert do("--mode", "test", "--checkpoint", str(last())) == 2
    assert "trained without a target" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (LEARN[:3], "data.unlabelled: objective Consistency needs volumes"),
        ((UNLABELLED,), "data.unlabelled: objective Supervised has no use for any"),
        ((LEARN[0], UNLABELLED), "perturb=none: objective Consistency needs another"),
        (("perturb=ssns_ws",), "perturb=ssns_ws: objective Supervised has no use for it"),
        ((*DENOISE, "augment=light"), "augment: patches without labels are changed by perturb"),
        ((*DENOISE, UNLABELLED), "data.unlabelled: objective Reconstruction has no use for any"),
        ((*LEARN, EMA[0], "optimization.ema.enabled=true"), "optimization.ema.enabled is true"),
        ((*LEARN, "objective.confidence=0.2"), "confidence=0.2 must be from 0.5"),
    ],
)
def test_what_does_not_go_together_is_refused(words, told, capsys, tmp_path):
    for flag in ((), ("--check",)):
        assert do(*flag, *words) == 2
        assert told in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "outputs").exists()
