"""The CREMI page: every command of docs/cremi_cleft.md in its order, on small synthetic volumes."""

import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from scipy import ndimage

from datasets.served import serving
from datasets.test_download_files import hdf5
from emseg.config import load
from emseg.datasets import catalogue
from emseg.models.rsunet import RSUNet
from emseg.synthetic import layouts
from emseg.volumes import open_volume
from stages.page import ALL, NO_GPUS, Command, Page, Session
from test_docs import REPOSITORY

TUTORIAL = REPOSITORY / "tutorials" / "syn_cremi.yaml"
NAME, STUDY = "rsunet_cremi_synapse_cleft", "cremi_cleft_threshold"
SHAPE = (20, 80, 80)
VOLUMES = ("A", "B", "C")
TRAINED_ON = "was trained on: its scores are not those of new tissue"
EACH = [stage for stage in ALL for _ in VOLUMES]
HAND_IN = f"outputs/{NAME}/<timestamp>/results_step=<N>/im_A+_segmentation.h5 submission_A+.hdf"
PAGE = Page(
    "cremi_cleft",
    NAME,
    {
        "download": Command("download cremi"),
        "synth": Command("synth cremi datasets/corrected"),
        "train": Command(
            "train syn_cremi",
            says=("trained on im_A (16x80x80), im_B", "validated on im_A (4x80x80)"),
        ),
        "train on 4": Command("train syn_cremi system.num_gpus=4", says=(NO_GPUS,)),
        "test": Command("test syn_cremi", worked=EACH, says=(TRAINED_ON,)),
        "held back": Command(
            "test syn_cremi data.test.range=[0.8, 1.0]", worked=EACH, never=(TRAINED_ON,)
        ),
        "train without C": Command(
            "train syn_cremi data.train.image=datasets/corrected/im_[AB].h5 "
            "data.train.label=datasets/corrected/syn_[AB].h5 experiment_name=without_C",
            says=("trained on im_A (16x80x80), im_B (16x80x80); validated",),
        ),
        "test on C": Command(
            "test syn_cremi data.test.image=datasets/corrected/im_C.h5 "
            "data.test.label=datasets/corrected/syn_C.h5",
            never=(TRAINED_ON,),
        ),
        "one view": Command(
            "test syn_cremi inference.test_time_augmentation.enabled=false", worked=EACH
        ),
        "tune": Command(
            "tune syn_cremi tune.data.test.range=[0.8, 1.0]", says=("cremi_distance tuned:",)
        ),
        "tuned": Command(f"test syn_cremi decoding={STUDY}"),
        "held out": Command(
            "test syn_cremi data.test.image=datasets/corrected/im_[ABC]+.h5 data.test.label=null "
            "evaluation.enabled=false",
            worked=["infer"] * 3 + ["decode"] * 3,
        ),
        "hand in": Command(f"convert cremi-submission {HAND_IN}"),
        "synth polarity": Command("synth polarity datasets/polarity"),
        "train polarity": Command("train syn_polarity"),
        "test polarity": Command("test syn_polarity", says=("synapse_directed_f1",)),
    },
    small={
        "": "model.width=[4,8] model.down_factors=[[1,2,2]] system.num_workers=0",
        "^train": "data.dataloader.patch_size=[4,32,32] data.reject_sampling.size_thres=50 "
        "optimization.max_steps=6 optimization.n_steps_per_epoch=3 "
        "optimization.precision=32-true optimization.val_steps_per_epoch=1 "
        "optimization.ema.warmup_steps=2 monitor.checkpoint.every_n_steps=4 "
        "monitor.logging.images.n_images=0 monitor.logging.log_every_n_steps=1",
        "^(test|tune)": "inference.window.window_size=[4,48,48] inference.window.overlap=0 "
        "inference.pad=[0,8,8] inference.test_time_augmentation.flip_axes=[2]",
    },
    scorer="score",
)
RECIPE: dict[str, Any] = {
    "data.dataloader.patch_size": (18, 256, 256),
    "data.preload": True,
    "data.reject_sampling.size_thres": 1000,
    "data.reject_sampling.p": 0.95,
    "model.width": [32, 64, 96, 128, 160],
    "model.down_factors": [[1, 2, 2]] * 4,
    "model.depth_2d": 1,
    "model.kernel_2d": [1, 3, 3],
    "model.norm": "batch",
    "model.activation": "elu",
    "loss.weights": {"bce": 1.0, "dice": 1.0},
    "optimization.max_steps": 150_000,
    "optimization.n_steps_per_epoch": 1280,
    "optimization.optimizer.lr": 1e-3,
    "optimization.optimizer.weight_decay": 0.01,
    "optimization.scheduler.min_lr": 1e-5,
    "optimization.precision": "bf16-mixed",
    "optimization.ema.enabled": True,
    "optimization.ema.decay": 0.999,
    "optimization.ema.warmup_steps": 500,
    "optimization.ema.validate_with_ema": True,
    "inference.window.window_size": (18, 256, 256),
    "inference.window.overlap": 0.5,
    "inference.window.blending": "bump",
    "inference.window.padding_mode": "reflect",
    "inference.test_time_augmentation.enabled": True,
    "inference.test_time_augmentation.flip_axes": "all",
    "inference.test_time_augmentation.ensemble_mode": "mean",
    "inference.activation": "sigmoid",
    "inference.output_dtype": "float32",
    "monitor.checkpoint.monitor": "train_loss_total_epoch",
    "monitor.checkpoint.save_top_k": 3,
    "monitor.checkpoint.every_n_steps": 12_800,
}
TRANSFORMS = "flip rotate elastic noise brightness gamma misalignment missing focus"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Session:
    folder = tmp_path_factory.mktemp("page")
    archive = small_archive(folder / "served.zip")
    with pytest.MonkeyPatch.context() as patch, serving(archive) as server:
        patch.setenv("NO_PROXY", "127.0.0.1")
        patch.setitem(layouts.SHAPES, "cremi", SHAPE)
        patch.setitem(layouts.SHAPES, "polarity", SHAPE)
        patch.setattr(layouts, "CREMI_SYNAPSES", dict.fromkeys(VOLUMES, 60.0))
        patch.setattr(layouts, "POLARITY_SYNAPSES", 30.0)
        near = replace(catalogue.ARCHIVES["cremi"], url=server.url("cremi.zip"))
        patch.setitem(catalogue.ARCHIVES, "cremi", near)
        return Session(PAGE, folder).follow(patch)


def small_archive(path: Path) -> bytes:
    """An archive of small volumes under the data set's names."""
    data = catalogue.ARCHIVES["cremi"]
    with zipfile.ZipFile(path, "w") as archive:
        for name in (*data.images, *data.labels):
            archive.writestr(name, hdf5({"main": np.ones((4, 5, 6), np.uint8)}))
    return path.read_bytes()


def test_the_commands_do_what_the_page_says(page: Session) -> None:
    page.check_commands()
    assert page.done["test"].err.count(TRAINED_ON) == 3
    page.check_runs(
        checkpoints=["last.ckpt", "step=4.ckpt", "train_loss_total_epoch"],
        curves=["train_loss_bce", "train_loss_dice", "train_draws", "val_loss_total"],
    )


def test_the_tutorial_is_what_the_goal_of_the_page_says() -> None:
    root = load(TUTORIAL, mode="train", overrides=()).root
    for key, wanted in RECIPE.items():
        found: Any = root
        for name in key.split("."):
            found = found[name] if isinstance(found, dict) else getattr(found, name)
        assert found == wanted, key
    assert {*root.evaluation.metrics} == {"cremi_distance", "jaccard"}
    assert {*TRANSFORMS.split()} == {*root.augment["transforms"]}


def test_the_prediction_is_a_probability_on_the_images_support(page: Session) -> None:
    done = page.done["test"]
    for volume in VOLUMES:
        values = done.volume("prediction", f"im_{volume}")[...]
        assert (values.shape, values.dtype) == ((1, *SHAPE), np.float32)
        assert 0 <= values.min() < values.max() <= 1
        mask = done.volume("segmentation", f"im_{volume}")
        np.testing.assert_array_equal(mask[...], values[0] > 0.5)
        assert mask.voxel_size == (40, 4, 4)
    assert (done.results / "overview.png").is_file()
    alone, merged = (page.done[name].volume("prediction", "im_A") for name in ("one view", "test"))
    assert (alone[...] != merged[...]).any()


def test_scores_are_the_challenges_and_their_mean(page: Session) -> None:
    done = page.done["test"]
    found = done.records[-1]["volumes"]
    assert [*found] == ["im_A", "im_B", "im_C", "mean"]
    for volume in VOLUMES:
        mask = done.volume("segmentation", f"im_{volume}")[...] > 0
        truth = open_volume(page.folder / "datasets" / "corrected" / f"syn_{volume}.h5")[...] > 0
        both, either = (mask & truth).sum(), (mask | truth).sum()
        one = found[f"im_{volume}"]
        assert one["jaccard"] == pytest.approx(both / either)
        if mask.any():
            away = ndimage.distance_transform_edt(~truth, sampling=(40, 4, 4))[mask]
            assert one["cremi_adgt"] == pytest.approx(away.mean(), rel=1e-5)
            assert one["cremi_false_positives"] == (away > 200 + 1e-3).sum()
    jaccards = [found[f"im_{volume}"]["jaccard"] for volume in VOLUMES]
    assert found["mean"]["jaccard"] == pytest.approx(np.mean(jaccards))


def test_thresholds_are_tried_on_the_sections_held_back(page: Session) -> None:
    leaf = page.tuned(STUDY)
    assert leaf["_target_"] == "emseg.decoding.binary.binary" and 0.1 <= leaf["threshold"] <= 0.9
    assert "decode" in page.done["tuned"].worked or leaf["threshold"] == 0.5


def test_held_out_volumes_are_made_ready_to_hand_in(page: Session) -> None:
    mask = page.done["held out"].volume("segmentation", "im_A+")[...] > 0
    with h5py.File(page.folder / "submission_A+.hdf") as file:
        clefts = file["volumes/labels/clefts"]
        assert clefts.dtype == np.uint64 and clefts.attrs["resolution"].tolist() == [40, 4, 4]
        np.testing.assert_array_equal(clefts[...] != 2**64 - 1, mask)


def test_the_network_has_the_weights_of_the_documented_widths() -> None:
    root = load(TUTORIAL, mode="train", overrides=()).root
    arguments = {k: v for k, v in root.model.items() if k not in ("_target_", "init_from")}
    with torch.device("meta"):
        # With the published stem, to compare with the published number.
        net = RSUNet(1, 1, **arguments | {"stem": "preactivated"})
    assert sum(parameter.numel() for parameter in net.parameters()) == 8_904_003


def test_the_synthetic_volumes_suit_the_recipe_as_it_is() -> None:
    data = load(TUTORIAL, mode="train", overrides=()).root.data
    depth = layouts.SHAPES["cremi"][0]
    first, last = data.split_val_range
    assert round(last * depth) - round(first * depth) >= data.dataloader.patch_size[0]
