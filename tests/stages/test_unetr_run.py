"""A network of one size, begun from a pretraining: from training to labels."""

import pytest
import torch

from emseg.cli import main
from emseg.models.masked_autoencoder import MaskedAutoencoder
from emseg.training.checkpoints import net_weights, read_checkpoint
from stages.tiny_tutorial import DEMO, write_volumes

SIZES = {"volume_size": [4, 16, 16], "patch_size": [2, 8, 8], "embed_dim": 8, "depth": 1}
# Of its encoder's tensors: positions, patches, one block, the last norm.
COUNT = 1 + 2 + 12 + 2
SMALL = (
    "system=cpu",
    "system.num_workers=0",
    "model=unetr_aniso_em",
    "target=aff3",
    "loss=mse_maws",
    "model.num_heads=2",
    "model.feature_size=2",
    "data.dataloader.batch_size=1",
    "optimization.max_steps=1",
    "optimization.n_steps_per_epoch=1",
    "optimization.val_steps_per_epoch=1",
    "optimization.scheduler.warmup_steps=0",
    "optimization.ema.enabled=false",
    "optimization.optimizer.lr=1e-6",
    "optimization.scheduler.min_lr=0",
    "monitor.logging.images.n_images=0",
)


def call(mode, *overrides, patch=(4, 16, 16)):
    sizes = [f"model.{key}={value}" for key, value in SIZES.items()]
    patches = [
        f"data.dataloader.patch_size={list(patch)}",
        f"inference.window.window_size={list(patch)}",
    ]
    return main(["--config", str(DEMO), "--mode", mode, *SMALL, *sizes, *patches, *overrides])


def trained(folder):
    (checkpoint,) = folder.glob("outputs/*/*/checkpoints/last.ckpt")
    return checkpoint


def test_pretrained_encoder_is_taken_and_the_run_ends_in_labels(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_volumes(tmp_path)
    source = MaskedAutoencoder(1, **SIZES, num_heads=2)
    payload = {"model": source.state_dict(), "config": {"model": SIZES}, "epoch": 1}
    torch.save(payload, "pretrained.pt")
    assert call("train", "model.init_from=pretrained.pt") == 0
    told = f"{COUNT} of the model's "
    assert told in capsys.readouterr().err
    checkpoint = trained(tmp_path)
    assert told in (checkpoint.parents[1] / "run.log").read_text()
    stored = read_checkpoint(checkpoint)
    assert stored["emseg"]["config"]["model"]["volume_size"] == SIZES["volume_size"]
    weights = net_weights(stored)
    for name in ("patch_embed.proj.weight", "encoder_blocks.0.attn.in_proj_weight"):
        # One step of Adam moves by the learning rate at most.
        torch.testing.assert_close(weights[name], source.state_dict()[name], rtol=0, atol=1e-5)
    assert call("test", "--checkpoint", str(checkpoint)) == 0


@pytest.mark.parametrize("patch", [(8, 16, 16), (4, 16, 24)])
def test_patches_of_another_size_are_refused_before_a_run_begins(
    tmp_path, monkeypatch, capsys, patch
):
    monkeypatch.chdir(tmp_path)
    write_volumes(tmp_path)
    assert call("train", patch=patch) == 2
    assert "patch_size [" in capsys.readouterr().err
    assert not (tmp_path / "outputs").exists()
