import re
from csv import DictReader
from functools import reduce
from pathlib import Path

import numpy as np
import pytest
import torch
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_run import Samples, per_head_module, tiny_module, train

from emseg.errors import UserError
from emseg.losses.maws import MembraneWeightedMSE
from emseg.losses.mse import MSE
from emseg.training.callbacks import ImagePanels, TrainingProgress
from emseg.training.checkpoints import read_checkpoint
from emseg.training.ema import Ema
from emseg.training.objective import Parts
from emseg.training.supervised import Supervised, paired

# What a loss is given beside logits, in this order.
SEEN = ("target", "mask", "image")


class _Fixed(torch.nn.Module):
    """Logits of 4 x 4 x 4 voxels, and auxiliary ones of every second and every fourth."""

    def __init__(self, *sizes):
        super().__init__()
        self.logits = torch.nn.ParameterList(torch.zeros(1, 1, *[s] * 3) for s in sizes)

    def forward(self, image):
        return list(self.logits) if self.training else self.logits[0]


def supervised(net, loss):
    return Supervised(Parts(net=net, loss=loss, make_optimizer=torch.optim.SGD))


def test_auxiliary_losses_weigh_half_of_the_next_finer():
    target = torch.rand(1, 1, 8, 8, 8)
    batch = {"image": target, "target": target, "mask": torch.ones_like(target, dtype=torch.bool)}
    module = supervised(_Fixed(8, 4, 2), MSE())
    total, parts = module.losses(batch)
    coarse = [(target[..., f // 2 :: f, f // 2 :: f, f // 2 :: f] ** 2).mean() for f in (1, 2, 4)]
    torch.testing.assert_close(total.detach(), coarse[0] + coarse[1] / 2 + coarse[2] / 4)
    assert set(parts) == {"auxiliary_1", "auxiliary_2"}
    torch.testing.assert_close(module.eval().losses(batch)[0].detach(), coarse[0])


def test_losses_that_ask_see_the_image_of_their_level():
    image, target = torch.rand(2, 1, 1, 8, 8, 8)
    batch = {"image": image, "target": target, "mask": torch.ones_like(target, dtype=torch.bool)}
    loss = MembraneWeightedMSE()
    module = supervised(_Fixed(8, 4), loss)
    total, _ = module.losses(batch)
    fine, coarse = (
        loss(
            torch.zeros(1, 1, *[8 // f] * 3),
            *(batch[key][..., f // 2 :: f, f // 2 :: f, f // 2 :: f] for key in SEEN),
        )
        for f in (1, 2)
    )
    torch.testing.assert_close(total.detach(), fine + coarse / 2)


def test_names_of_logged_values(tmp_path):
    logger = CSVLogger(tmp_path)
    train(tiny_module(), tmp_path, steps=12, logger=logger, log_every_n_steps=1)
    header = (Path(logger.log_dir) / "metrics.csv").read_text().splitlines()[0]
    parts = {"bce", "all", "dice", "each", "mse", "maws"}
    assert set(header.split(",")) == {
        "epoch",
        "step",
        "lr",
        "train_loss_total_step",
        "train_loss_total_epoch",
        "train_loss_auxiliary_1",
        *(f"train_loss_{part}" for part in parts),
        "val_loss_total",
        *(f"val_loss_{part}" for part in parts),
    }


def test_heads_and_what_is_learned_of_them_are_logged_and_averaged(tmp_path):
    logger = CSVLogger(tmp_path)
    ema = Ema(decay=0.5, warmup_steps=0)
    given = {"logger": logger, "log_every_n_steps": 1, "callbacks": (ema,)}
    train(per_head_module(), tmp_path, steps=12, **given)
    rows = list(DictReader((Path(logger.log_dir) / "metrics.csv").open()))
    told = {name.removeprefix("train_loss_") for name in rows[0] if name.startswith("train_loss_")}
    assert {"all", "bright", "all_dice", "all_log_variance", "bright_log_variance"} <= told
    live = [float(row["train_loss_bright_log_variance"]) for row in rows if row["lr"]]
    stored = read_checkpoint(tmp_path / "last.ckpt")
    name = "loss.log_variance.bright"
    # Told before each of the 12 steps; the first step's result begins the average.
    first, *later = (*live[1:], float(stored["current_model_state"][name]))
    assert (live[0], len(later)) == (0, 11) and first != 0
    average = reduce(lambda before, s: (before + s) / 2, later, first)
    assert float(stored["state_dict"][name]) == pytest.approx(average, rel=1e-4)


def test_loss_that_is_not_finite_stops_before_the_step(tmp_path):
    module = tiny_module()
    with pytest.raises(UserError, match="training loss is nan at step 2 .*learning rate") as caught:
        train(module, tmp_path, steps=5, batch_size=1, bad=2)
    assert "\n" not in str(caught.value)
    assert all(torch.isfinite(p).all() for p in module.parameters())


def test_panels_show_raw_target_and_prediction(tmp_path):
    module = tiny_module()
    panels = ImagePanels(every_n_epochs=2, n_images=1, n_slices=2)
    logger = TensorBoardLogger(tmp_path, name="")
    train(module, tmp_path, steps=36, logger=logger, callbacks=(panels,))
    events = EventAccumulator(logger.log_dir, size_guidance={"images": 0}).Reload()
    assert sorted(events.Tags()["images"]) == ["train/0", "val/0"]
    # Epochs 0 and 2, of 12 steps each.
    assert [event.step for event in events.Images("train/0")] == [12, 36]
    picture = _decoded(events.Images("val/0")[-1].encoded_image_string)
    sample = Samples()[0]
    assert picture.shape == (2 * 8, 3 * 8, 3)
    raw = (sample["image"][0] * 255).astype(np.uint8)
    for z in (0, 1):
        rows = picture[8 * z : 8 * z + 8]
        np.testing.assert_allclose(rows[:, :8, 1], raw[z], atol=1)
        np.testing.assert_array_equal(rows[:, 8:16, 0], sample["target"][0, z] * 255)
        assert (rows[:, 8:16, 2] == 0).all()
    module.eval()
    with torch.no_grad():
        wanted = module(torch.from_numpy(sample["image"])[None])[0].sigmoid().numpy()
    np.testing.assert_allclose(picture[:8, 16:, :2], wanted[:, 0].transpose(1, 2, 0) * 255, atol=1)


def test_panels_show_a_distance_by_itself_from_black_to_white():
    activations = ["sigmoid", "tanh", "sigmoid"]
    target = torch.stack([torch.full((1, 2, 2), value) for value in (1.0, -1.0, 0.0)])
    mask = torch.ones_like(target, dtype=torch.bool)
    mask[1, 0, 0, 0] = False
    logits = torch.randn(3, 1, 2, 2)
    before = target.clone()
    known, found, distance, predicted = paired(target, mask, logits, activations)
    torch.testing.assert_close(target, before)
    torch.testing.assert_close(known, target[[0, 2]])
    torch.testing.assert_close(found, logits[[0, 2]].sigmoid())
    assert distance.flatten().tolist() == [0.5, 0, 0, 0]
    torch.testing.assert_close(predicted, (logits[[1]].tanh() + 1) / 2)


def _decoded(png):
    from io import BytesIO

    from matplotlib.image import imread

    return np.round(imread(BytesIO(png)) * 255)[..., :3].astype(np.uint8)


def test_progress_tells_step_rate_loss_and_time_left(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("emseg.progress.LINE_EVERY", 0.0)
    monkeypatch.setattr("emseg.training.callbacks.MEASURED_STEPS", 1)
    once: list[str] = []
    progress = TrainingProgress(report=once.append)
    train(tiny_module(), tmp_path, steps=3, val=False, callbacks=(progress,))
    (measured,) = once
    assert re.fullmatch(r"[\d.]+ s a step: the 1 steps to go take [\d.]+ s", measured)
    lines = [
        line for line in capsys.readouterr().err.splitlines() if line.startswith("emseg: train: ")
    ]
    assert [line.split(",")[0] for line in lines] == [f"emseg: train: {i}/3" for i in (1, 2, 3)]
    assert all("Mvoxel/s, loss " in line and line.endswith(" left") for line in lines)
