"""The finetunings after dbMiM: from the challenge's files to scores, and what their rows share."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml

from emseg.cli import main
from emseg.config import check_targets, load
from emseg.config.choices import tutorials_folder
from emseg.volumes import open_volume
from stages.tiny_tutorial import cells

FOLDER = tutorials_folder() / "dbmim"
ROWS = sorted(path.stem for path in FOLDER.glob("finetune*.yaml"))
SHAPE = (14, 40, 40)
SMALL = (
    "system=cpu",
    "system.num_workers=0",
    "model.volume_size=[4,16,16]",
    "model.patch_size=[2,8,8]",
    "model.embed_dim=8",
    "model.depth=2",
    "model.num_heads=2",
    "model.feature_size=2",
    "data.dataloader.patch_size=[4,16,16]",
    "optimization.precision=32-true",
    "optimization.max_steps=2",
    "optimization.n_steps_per_epoch=2",
    "optimization.val_steps_per_epoch=1",
    "monitor.checkpoint.every_n_steps=null",
    "tune.n_trials=3",
    "tune.trial_timeout=null",
)


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    """The three volumes as the challenge has them, small."""
    folder = tmp_path / "datasets" / "dbmim" / "CREMI"
    folder.mkdir(parents=True)
    for seed, name in enumerate("ABC"):
        raw, labels = cells(SHAPE, seed=seed)
        with h5py.File(folder / f"sample_{name}_20160501.hdf", "w") as file:
            file["volumes/raw"], file["volumes/labels/neuron_ids"] = raw, labels.astype(np.uint64)
    monkeypatch.chdir(tmp_path)


def command(row: str, *words: str) -> list[str]:
    return ["--config", str(FOLDER / f"{row}.yaml"), *words]


@pytest.mark.parametrize("row", ["finetune", "finetune_r17", "finetune_compat"])
def test_check_finds_nothing(row):
    for mode in ("test", "tune"):
        assert main(command(row, "--mode", mode, "--check")) == 0
    # A check of training would open the weights that it begins from, and larger volumes.
    check_targets(load(FOLDER / f"{row}.yaml", mode="train", overrides=()), "train")


def test_rows_differ_in_what_they_begin_from_and_in_little_else():
    pretrained = {path.stem.partition("_")[2] for path in FOLDER.glob("pretrain_*.yaml")}
    assert {*ROWS} == {"finetune", "finetune_compat", "finetune_r48"} | {
        f"finetune_{row}" for row in pretrained - {"full"}
    }
    roots = {row: load(FOLDER / f"{row}.yaml", mode="train", overrides=[]).root for row in ROWS}
    assert roots["finetune"].model["init_from"] is None
    starts = {row: root.model.pop("init_from") for row, root in roots.items()}
    assert starts["finetune_r17"] == starts["finetune_r48"] == starts["finetune_compat"]
    assert len(set(starts.values())) == len(ROWS) - 2
    for row in {*ROWS} - {"finetune", "finetune_compat"}:
        assert roots[row].experiment_name == f"dbmim_{row}"
        text, name = (FOLDER / f"{row}.yaml").read_text(), row.removeprefix("finetune_")
        own = "r17" if name == "r48" else name  # which needs no pretraining of its own
        assert f"outputs/dbmim_pretrain_{own} here" in text or f"dbmim_pretrain_{own}.\n" in text
        assert f"/{name}/" in starts[row] or starts[row].endswith("/pretrained_latest.pt")
    steps = {row: root.optimization.max_steps for row, root in roots.items()}
    assert steps == dict.fromkeys(ROWS, 12_000) | {"finetune_r48": 20_000}
    seeds = {row: root.system.seed for row, root in roots.items()}
    told = {"r17": 191, "compat": 191, "r33": 295, "r48": 309}
    assert seeds == dict.fromkeys(ROWS, 192) | {f"finetune_{row}": s for row, s in told.items()}
    for row, root in roots.items():
        same = ("model", "loss", "target", "augment", "decoding", "sweep", "evaluation")
        assert all(getattr(root, key) == getattr(roots["finetune"], key) for key in same), row
        optimizers = root.optimization.optimizer, roots["finetune"].optimization.optimizer
        assert optimizers[0] == optimizers[1], row
    held_back = {row: root.data.split_val_range for row, root in roots.items()}
    assert held_back == dict.fromkeys(ROWS, (0.7, 1.0)) | {"finetune_compat": None}


@pytest.mark.parametrize("row", [row for row in ROWS if row != "finetune_compat"])
def test_what_is_tested_is_neither_taught_nor_searched(row):
    trained = load(FOLDER / f"{row}.yaml", mode="train", overrides=[]).root.data
    tested = load(FOLDER / f"{row}.yaml", mode="test", overrides=[]).root.data.test[""]
    tuned = load(FOLDER / f"{row}.yaml", mode="tune", overrides=[]).root.data.test[""]
    assert trained.split_train_range[1] <= tested.range[0]
    assert tuned.range[1] <= tested.range[0]


def test_a_finetuning_is_trained_tested_and_tuned(capsys):
    words = command("finetune_r17", *SMALL, "model.init_from=null")
    assert main(words) == 0
    (checkpoint,) = Path("outputs/dbmim_finetune_r17").glob("*/checkpoints/last.ckpt")
    assert main([*words, "--mode", "test", "--checkpoint", str(checkpoint)]) == 0
    (prediction,) = checkpoint.parents[1].rglob("*sample_A*_prediction.h5")
    stored = open_volume(prediction)
    assert stored.attributes["activation"] == "logit"
    assert stored.shape == (4, 40, 40)
    told = capsys.readouterr()
    assert "voi_sum" in told.out + told.err
    assert main([*words, "--mode", "tune", "--checkpoint", str(checkpoint)]) == 0
    (best,) = checkpoint.parents[1].glob("tune/**/decoding/*.yaml")
    assert yaml.safe_load(best.read_text())["biases"] in (
        [0.0, 0.0, 0.0],
        [-0.25, -0.5, -0.5],
        [-0.5, -1.0, -1.0],
    )
    assert main([*words, "--mode", "sweep", "--checkpoint", str(checkpoint)]) == 0
    (kept,) = checkpoint.parents[1].rglob("cremi_segmentation_summary.json")
    summary = json.loads(kept.read_text())
    assert len(summary["per_backend_threshold"]) == 3 * 5 and not summary["failures"]
    assert summary["best_by_voi_sum"]["n"] == 3
    (records,) = checkpoint.parents[1].rglob("cremi_segmentation_records.json")
    rows = json.loads(records.read_text())
    assert len(rows) == 3 * 5 * 3
    assert {"sample", "calibration_bias_z", "threshold", "voi_split"} < {*rows[0]}
    again = ["--mode", "test", "--checkpoint", str(checkpoint), "--conf", str(best.parents[1])]
    assert main([*words, *again, "decoding=dbmim_calibration"]) == 0
    short = [*words, "--mode", "tune", "--checkpoint", str(checkpoint)]
    assert main([*short, "tune.search_space.biases.choices=[[0,0]]"]) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert "tune.search_space: decoding.biases [0, 0] must have one bias for each of the 3" in told
    assert main([*short, "decoding.biases=null", "tune.search_space.biases=null"]) == 2
    assert "decoding.biases" in capsys.readouterr().err.splitlines()[-1]
