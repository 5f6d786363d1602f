"""Student and teacher against slow formulas, and what each of them is touched by."""

import copy
import math
from functools import partial

import numpy as np
import pytest
import torch
from tiny_run import Samples, tiny_net, train
from torch import nn

from emseg.errors import UserError
from emseg.losses.bce import WeightedBCEWithLogits
from emseg.losses.masked_reconstruction import MaskedReconstruction
from emseg.training.checkpoints import net_weights, read_checkpoint, start_from
from emseg.training.consistency import Consistency, follow
from emseg.training.objective import Parts

SIZE = (2, 8, 8)
PARTS = ("net", "loss", "activations")


def module(**settings):
    torch.manual_seed(0)
    defaults = {
        "net": tiny_net(norm="batch"),
        "loss": WeightedBCEWithLogits(),
        "make_optimizer": partial(torch.optim.SGD, lr=0.1),
    }
    parts = {name: settings.pop(name) for name in PARTS if name in settings}
    return Consistency(Parts(**defaults | parts), **settings)


def batch(count=3, *, same=False):
    rng = np.random.default_rng(5)
    shape = (count, 1, *SIZE)
    made = {
        name: torch.from_numpy(rng.random(shape, np.float32))
        for name in ("image", "unlabelled", "perturbed")
    }
    if same:
        made["perturbed"] = made["unlabelled"].clone()
    target = (made["image"] > 0.4).to(torch.uint8).expand(-1, 2, -1, -1, -1)
    return made | {"target": target.contiguous(), "mask": torch.ones_like(target, dtype=torch.bool)}


class PairedSamples(Samples):
    """As `Samples`, each with an unlabelled image and a brighter one of it."""

    def __getitem__(self, index):
        clean = np.random.default_rng((index, 1)).random((1, 2, 8, 8), dtype=np.float32)
        return super().__getitem__(index) | {"unlabelled": clean, "perturbed": clean**0.5}


@pytest.fixture
def paired(monkeypatch):
    monkeypatch.setattr("tiny_run.Samples", PairedSamples)


def test_a_teacher_begins_as_its_student_whatever_the_student_began_from(tmp_path):
    learner = module(teacher="ema")
    other = tiny_net(norm="batch")
    for buffer in other.buffers():
        buffer.add_(3)
    torch.save(other.state_dict(), tmp_path / "other.pt")
    start_from(tmp_path / "other.pt", learner.net)
    learner.setup("fit")
    student, teacher = learner.net.state_dict(), learner.teacher.state_dict()
    assert [*student] == [*teacher]
    for name, value in student.items():
        assert torch.equal(value, teacher[name]) and torch.equal(value, other.state_dict()[name])
    assert not any(value.data_ptr() == teacher[name].data_ptr() for name, value in student.items())


def test_the_loss_is_the_labelled_one_and_the_weighed_disagreement():
    learner, samples = module(teacher="ema", weight=0.7).train(), batch()
    student, teacher = copy.deepcopy(learner.net).train(), copy.deepcopy(learner.teacher).eval()
    total, parts = learner.losses(samples)
    together = student(torch.cat([samples["image"], samples["perturbed"]]))[0]
    own, drawn = together[:3], together[3:]
    entropy = nn.functional.binary_cross_entropy_with_logits
    supervised = entropy(own, samples["target"].float())
    auxiliary = student(torch.cat([samples["image"], samples["perturbed"]]))[1][:3]
    nearest = samples["target"][..., 1::2, 1::2].float()
    supervised = supervised + 0.5 * entropy(auxiliary, nearest)
    taught = torch.sigmoid(teacher(samples["unlabelled"]))
    squared = ((torch.sigmoid(drawn) - taught) ** 2).mean()
    torch.testing.assert_close(parts["supervised"], supervised.detach())
    torch.testing.assert_close(parts["consistency"], squared.detach())
    torch.testing.assert_close(total, supervised + 0.7 * squared)


@pytest.mark.parametrize("teacher", ["shared", "ema"])
def test_gradients_reach_the_student_alone_and_not_by_what_it_teaches(teacher):
    learner, samples = module(teacher=teacher, teacher_norm="train").train(), batch()
    samples["unlabelled"].requires_grad_()
    samples["perturbed"].requires_grad_()
    learner.losses(samples)[0].backward()
    assert samples["unlabelled"].grad is None and samples["perturbed"].grad.abs().sum() > 0
    assert all(weight.grad is not None for weight in learner.net.parameters())
    if teacher == "ema":
        assert all(weight.grad is None for weight in learner.teacher.parameters())
    optimizer = learner.configure_optimizers()
    handed = sum(weight.numel() for group in optimizer.param_groups for weight in group["params"])
    assert handed == sum(weight.numel() for weight in learner.net.parameters())


def test_student_and_teacher_agree_on_the_same_patch():
    for teacher in ("shared", "ema"):
        learner = module(teacher=teacher, net=tiny_net(norm="group")).train()
        assert float(learner.losses(batch(same=True))[1]["consistency"]) < 1e-12
        assert float(learner.losses(batch())[1]["consistency"]) > 1e-6


@pytest.mark.parametrize("consistency", ["mse", "bce"])
def test_only_what_the_teacher_is_sure_of_counts(consistency):
    learner = module(consistency=consistency, confidence=0.8)
    taught = torch.tensor([0.05, 0.2, 0.21, 0.5, 0.79, 0.8, 0.95, 1.0])
    logits = torch.linspace(-3, 3, 8)
    student, sure = torch.sigmoid(logits), [0, 1, 5, 6, 7]
    entries = {
        "mse": (student - taught) ** 2,
        "bce": -(taught * student.log() + (1 - taught) * (1 - student).log()),
    }[consistency]
    torch.testing.assert_close(learner.disagreement(logits, taught), entries[sure].mean())
    assert learner.disagreement(logits, torch.full((8,), 0.5)) == 0
    everything = module(consistency=consistency)
    torch.testing.assert_close(everything.disagreement(logits, taught), entries.mean())


def test_the_weight_is_ramped():
    ramped = module(weight=2.0, ramp_steps=100)
    assert ramped.weight_at(0) == pytest.approx(2 * math.exp(-5))
    assert ramped.weight_at(60) == pytest.approx(2 * math.exp(-5 * 0.16))
    assert ramped.weight_at(100) == ramped.weight_at(10_000) == 2
    assert module(weight=2.0).weight_at(0) == 2


@pytest.mark.parametrize("norm", ["eval", "train"])
def test_a_teacher_follows_with_all_it_has(norm):
    learner = module(teacher="ema", teacher_norm=norm).train()
    with torch.no_grad():
        for value in [*learner.net.parameters(), *learner.net.buffers()]:
            value.add_(1)
    before = copy.deepcopy(learner.teacher.state_dict())
    follow(learner.teacher, learner.net, own_share=0.9)
    after, student = learner.teacher.state_dict(), learner.net.state_dict()
    buffers = {name for name, _ in learner.teacher.named_buffers()}
    for name, value in after.items():
        if name in buffers and norm == "train":
            assert torch.equal(value, before[name])
        elif value.is_floating_point():
            torch.testing.assert_close(value, 0.9 * before[name] + 0.1 * student[name])
        else:
            assert torch.equal(value, student[name])


@pytest.mark.parametrize("teacher", ["shared", "ema"])
@pytest.mark.parametrize("norm", ["eval", "train"])
def test_what_teaching_does_to_running_statistics_is_chosen(teacher, norm):
    learner, samples = module(teacher=teacher, teacher_norm=norm).train(), batch()
    net = learner.net if learner.teacher is None else learner.teacher
    before = {name: value.clone() for name, value in net.named_buffers()}
    taught = learner.taught(samples["unlabelled"])
    moved = any(not torch.equal(value, before[name]) for name, value in net.named_buffers())
    assert moved == (norm == "train") and learner.net.training
    reference = module(teacher=teacher).net.train(norm == "train")
    expected = reference(samples["unlabelled"])
    expected = expected[0] if isinstance(expected, list) else expected
    torch.testing.assert_close(taught, expected.sigmoid())


def test_an_averaging_teacher_is_trained_saved_resumed_and_what_is_tested(tmp_path, paired):
    learner = module(teacher="ema", decay=0.9)
    student, history = copy.deepcopy(learner.net), []
    original = learner.optimizer_step

    def stepped(*args, **kwargs):
        original(*args, **kwargs)
        history.append(copy.deepcopy(learner.net.state_dict()))

    learner.optimizer_step = stepped
    train(learner, tmp_path / "whole", steps=10, val=False)
    expected = {name: value.double() for name, value in student.state_dict().items()}
    for step, weights in enumerate(history):
        keep = min(1 - 1 / (step + 1), 0.9)
        expected = {n: keep * v + (1 - keep) * weights[n].double() for n, v in expected.items()}
    stored = read_checkpoint(tmp_path / "whole" / "last.ckpt")
    for name, value in net_weights(stored).items():
        if value.is_floating_point():
            torch.testing.assert_close(value.double(), expected[name], rtol=1e-5, atol=1e-6)
        assert torch.equal(value, stored["state_dict"][f"teacher.{name}"])
    # Five steps and five more are ten.
    resumed = module(teacher="ema", decay=0.9)
    first = tmp_path / "whole" / "step=5.ckpt"
    train(resumed, tmp_path / "rest", steps=10, val=False, checkpoint=first)
    for name, value in read_checkpoint(tmp_path / "rest" / "last.ckpt")["state_dict"].items():
        torch.testing.assert_close(value, stored["state_dict"][name], rtol=0, atol=1e-7)
    # In validation the teacher speaks.
    learner.eval()
    image = batch()["image"]
    torch.testing.assert_close(learner(image), learner.teacher.eval()(image))
    assert not torch.allclose(learner(image), learner.net.eval()(image))


def test_validation_is_of_labels_alone_and_parts_have_names(tmp_path, paired):
    learner = module(teacher="ema")
    labelled = {name: batch()[name] for name in ("image", "target", "mask")}
    total, parts = learner.eval().losses(labelled)
    assert torch.isfinite(total) and parts == {} and learner.loss_parts(2) == []
    trainer = train(module(), tmp_path, steps=2)
    assert {"train_loss_supervised", "train_loss_consistency"} <= {*trainer.callback_metrics}


def test_pictures_show_both_views_and_what_is_taught():
    learner = module(teacher="ema").eval()
    one = {name: value[:1] for name, value in batch().items()}
    shown = learner.pictures(one)
    assert torch.equal(shown[-3], one["unlabelled"][0])
    assert torch.equal(shown[-2], one["perturbed"][0])
    torch.testing.assert_close(shown[-1], learner.teacher(one["unlabelled"])[0].sigmoid())
    del one["unlabelled"]
    assert len(learner.pictures(one)) == len(shown) - 3


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"decay": 1.0}, "decay=1.0 must be 0 or more and below 1"),
        ({"weight": -1.0}, "weight=-1.0 must be 0 or more"),
        ({"ramp_steps": 0}, "ramp_steps=0 must be 1 or more"),
        ({"confidence": 0.4}, "confidence=0.4 must be from 0.5"),
        ({"activations": ["sigmoid", "tanh"]}, "channels that are distances"),
        ({"loss": MaskedReconstruction()}, "objective=masked"),
    ],
)
def test_what_makes_no_sense_is_refused(settings, told):
    with pytest.raises(UserError, match=told):
        module(**settings)
