"""The CREMI page: every command of docs/cremi_cleft.md in its order, on small synthetic volumes.

Behind the page's own words stand others that make it a matter of seconds.
"""

import shlex
import zipfile
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import yaml
from scipy import ndimage

from datasets.served import serving
from datasets.test_download_files import hdf5
from emseg.config import load
from emseg.datasets import catalogue
from emseg.models.rsunet import RSUNet
from emseg.synthetic import layouts
from emseg.volumes import open_volume
from stages.page import Session, count_stages, key_of, mode_of
from test_docs import REPOSITORY, commands, fences
from test_package import just

PAGE = (REPOSITORY / "docs" / "cremi_cleft.md").read_text()
TUTORIAL, POLARITY = "tutorials/syn_cremi.yaml", "tutorials/syn_polarity.yaml"
NAME = "rsunet_cremi_synapse_cleft"
SHAPE = (20, 80, 80)
VOLUMES = ("A", "B", "C")

SMALL = {
    "all": "model.width=[4,8] model.down_factors=[[1,2,2]] system.num_workers=0",
    "train": "data.dataloader.patch_size=[4,32,32] data.reject_sampling.size_thres=50 "
    "optimization.max_steps=6 optimization.n_steps_per_epoch=3 optimization.precision=32-true "
    "optimization.val_steps_per_epoch=1 optimization.ema.warmup_steps=2 "
    "monitor.checkpoint.every_n_steps=4 monitor.logging.images.n_images=0 "
    "monitor.logging.log_every_n_steps=1",
    "test": "inference.window.window_size=[4,48,48] inference.window.overlap=0 "
    "inference.pad=[0,8,8] inference.test_time_augmentation.flip_axes=[2]",
}

TRAIN, ON_FOUR = "train", "train system.num_gpus=4"
WITHOUT_C = (
    "train data.train.image=datasets/corrected/im_[AB].h5 "
    "data.train.label=datasets/corrected/syn_[AB].h5 experiment_name=without_C"
)
TEST, HELD_BACK = "test", "test data.test.range=[0.8, 1.0]"
ON_C = "test data.test.image=datasets/corrected/im_C.h5 data.test.label=datasets/corrected/syn_C.h5"
ONE_VIEW = "test inference.test_time_augmentation.enabled=false"
TUNE, TUNED = "tune tune.data.test.range=[0.8, 1.0]", "test decoding=cremi_cleft_threshold"
PLUS = (
    "test data.test.image=datasets/corrected/im_[ABC]+.h5 data.test.label=null "
    "evaluation.enabled=false"
)
SUBMISSION = "submission_A+.hdf"


def small(words: list[str]) -> list[str]:
    """The words, and what makes them small."""
    mode = mode_of(words)
    if mode not in ("train", "test", "tune"):
        return words
    return [*words, *SMALL["train" if mode == "train" else "test"].split(), *SMALL["all"].split()]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Session:
    """Every command of the page, done in its order."""
    session = Session(tmp_path_factory.mktemp("page"), NAME, small)
    (session.folder / "tutorials").symlink_to(REPOSITORY / "tutorials")
    worked: list[str] = []
    archive = small_archive(session.folder / "served.zip")
    with pytest.MonkeyPatch.context() as patch, serving(archive) as server:
        patch.chdir(session.folder)
        patch.setenv("NO_PROXY", "127.0.0.1")
        patch.setitem(layouts.SHAPES, "cremi", SHAPE)
        patch.setitem(layouts.SHAPES, "polarity", SHAPE)
        patch.setattr(layouts, "CREMI_SYNAPSES", dict.fromkeys(VOLUMES, 60.0))
        patch.setattr(layouts, "POLARITY_SYNAPSES", 30.0)
        real = catalogue.ARCHIVES["cremi"]
        patch.setitem(catalogue.ARCHIVES, "cremi", replace(real, url=server.url("cremi.zip")))
        count_stages(patch, worked, scorer="score")
        for words in commands(PAGE):
            tutorial = f"{POLARITY} " if POLARITY in words else ""
            session.done[tutorial + key_of(words)] = session.follow(words, worked)
    return session


def small_archive(path: Path) -> bytes:
    """An archive of small volumes under the data set's names."""
    data = catalogue.ARCHIVES["cremi"]
    with zipfile.ZipFile(path, "w") as archive:
        for name in (*data.images, *data.labels):
            archive.writestr(name, hdf5({"main": np.ones((4, 5, 6), np.uint8)}))
    return path.read_bytes()


def scores(session: Session, key: str) -> dict[str, dict[str, float]]:
    """The scores by volume of the last record that was written."""
    return [record["volumes"] for record in session.done[key].records.values()][-1]


def test_the_page_has_these_commands_and_no_other(page: Session) -> None:
    verbs = [key for key in page.done if key.split()[0] in ("download", "synth", "convert")]
    assert verbs[:2] == ["download cremi", "synth cremi datasets/corrected"]
    assert verbs[2].startswith("convert cremi-submission") and verbs[2].endswith(SUBMISSION)
    assert verbs[3:] == ["synth polarity datasets/polarity"]
    polarity = [f"{POLARITY} train", f"{POLARITY} test"]
    assert [key for key in page.done if key not in verbs] == [
        TRAIN,
        ON_FOUR,
        TEST,
        HELD_BACK,
        WITHOUT_C,
        ON_C,
        ONE_VIEW,
        TUNE,
        TUNED,
        PLUS,
        *polarity,
    ]


def test_the_tutorial_is_what_the_goal_of_the_page_says() -> None:
    root = load(REPOSITORY / TUTORIAL, mode="train", overrides=()).root
    assert root.data.dataloader.patch_size == (18, 256, 256)
    assert root.data.preload and vars(root.data.reject_sampling) == {"size_thres": 1000, "p": 0.95}
    model = root.model
    assert model["width"] == [32, 64, 96, 128, 160]
    assert model["down_factors"] == [[1, 2, 2]] * 4
    assert (model["depth_2d"], model["kernel_2d"]) == (1, [1, 3, 3])
    assert (model["norm"], model["activation"]) == ("batch", "elu")
    assert root.loss["weights"] == {"bce": 1.0, "dice": 1.0}
    schedule = root.optimization
    assert (schedule.max_steps, schedule.n_steps_per_epoch) == (150_000, 1280)
    assert (schedule.optimizer["lr"], schedule.optimizer["weight_decay"]) == (1e-3, 0.01)
    assert schedule.scheduler["min_lr"] == 1e-5 and schedule.precision == "bf16-mixed"
    ema = {"enabled": True, "decay": 0.999, "warmup_steps": 500, "validate_with_ema": True}
    assert vars(schedule.ema) == ema
    window, views = root.inference.window, root.inference.test_time_augmentation
    assert window.window_size == (18, 256, 256)
    assert (window.overlap, window.blending, window.padding_mode) == (0.5, "bump", "reflect")
    assert (views.enabled, views.flip_axes, views.ensemble_mode) == (True, "all", "mean")
    assert (root.inference.activation, root.inference.output_dtype) == ("sigmoid", "float32")
    assert {*root.evaluation.metrics} == {"cremi_distance", "jaccard"}
    assert root.monitor.checkpoint.monitor == "train_loss_total_epoch"
    assert root.monitor.checkpoint.save_top_k == 3
    assert root.monitor.checkpoint.every_n_steps == 10 * schedule.n_steps_per_epoch
    names = ("flip", "rotate", "elastic", "noise", "brightness", "gamma")
    assert {*names, "misalignment", "missing", "focus"} == {*root.augment["transforms"]}


def test_training_keeps_checkpoints_and_logs_both_losses_and_the_draws(page: Session) -> None:
    assert "this machine has 0: going on with the CPU" in page.done[ON_FOUR].err
    run = min((page.folder / "outputs" / NAME).iterdir())
    kept = {path.name for path in (run / "checkpoints").iterdir()}
    assert {"last.ckpt", "step=4.ckpt"} < kept
    assert len([name for name in kept if "train_loss_total_epoch" in name]) == 2
    assert "trained on im_A (16x80x80), im_B" in page.done[TRAIN].err
    assert "validated on im_A (4x80x80)" in page.done[TRAIN].err
    (line,) = [
        line for block in fences(PAGE, "sh") for line in block.splitlines() if "just" in line
    ]
    printed = just(*shlex.split(line)[1:], "--inspect", cwd=page.folder)
    for tag in ("train_loss_bce", "train_loss_dice", "train_draws", "val_loss_total"):
        assert tag in printed


def test_the_prediction_is_a_probability_on_the_images_support(page: Session) -> None:
    done = page.done[TEST]
    assert done.worked == ["infer"] * 3 + ["decode"] * 3 + ["evaluate"] * 3
    for volume in VOLUMES:
        with h5py.File(done.results / f"im_{volume}_prediction.h5") as file:
            assert (file["main"].shape, file["main"].dtype) == ((1, *SHAPE), np.float32)
            values = file["main"][0]
        assert 0 <= values.min() < values.max() <= 1
        mask = open_volume(done.results / f"im_{volume}_segmentation.h5")
        np.testing.assert_array_equal(mask[...], values > 0.5)
        assert mask.voxel_size == (40, 4, 4)
    assert (done.results / "overview.png").is_file()


def test_scores_are_the_challenges_and_their_mean(page: Session) -> None:
    done, found = page.done[TEST], scores(page, TEST)
    assert [*found] == ["im_A", "im_B", "im_C", "mean"]
    for volume in VOLUMES:
        mask = open_volume(done.results / f"im_{volume}_segmentation.h5")[...] > 0
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


def test_scores_of_what_was_trained_on_are_called_so(page: Session) -> None:
    told = "was trained on: its scores are not those of new tissue"
    assert page.done[TEST].err.count(told) == 3
    assert told not in page.done[HELD_BACK].err and told not in page.done[ON_C].err
    assert page.done[HELD_BACK].worked.count("evaluate") == 3
    log = next((page.folder / "outputs" / "without_C").glob("*/run.log")).read_text()
    assert "trained on im_A (16x80x80), im_B (16x80x80); validated" in log


def test_one_view_is_another_prediction(page: Session) -> None:
    name = "im_A_prediction.h5"
    alone, merged = (open_volume(page.done[key].results / name)[...] for key in (ONE_VIEW, TEST))
    assert (alone != merged).any()
    assert page.done[ONE_VIEW].worked.count("infer") == 3


def test_thresholds_are_tried_on_the_sections_held_back(page: Session) -> None:
    assert "cremi_distance tuned:" in page.done[TUNE].err
    run = max((page.folder / "outputs" / NAME).iterdir())
    leaf = yaml.safe_load((run / "tune" / "decoding" / "cremi_cleft_threshold.yaml").read_text())
    assert leaf["_target_"] == "emseg.decoding.binary.binary" and 0.1 <= leaf["threshold"] <= 0.9
    assert "decode" in page.done[TUNED].worked or leaf["threshold"] == 0.5


def test_held_out_volumes_are_predicted_and_made_ready_to_hand_in(page: Session) -> None:
    done = page.done[PLUS]
    assert done.worked == ["infer"] * 3 + ["decode"] * 3
    mask = open_volume(done.results / "im_A+_segmentation.h5")[...] > 0
    with h5py.File(page.folder / SUBMISSION) as file:
        clefts = file["volumes/labels/clefts"]
        assert clefts.dtype == np.uint64 and clefts.attrs["resolution"].tolist() == [40, 4, 4]
        np.testing.assert_array_equal(clefts[...] != 2**64 - 1, mask)


def test_polarity_is_scored(page: Session) -> None:
    found = page.done[f"{POLARITY} test"]
    assert "synapse_directed_f1" in found.out
    results = next((page.folder / "outputs" / "rsunet_polarity").glob("*/results_step=*"))
    with h5py.File(results / "test_im_prediction.h5") as file:
        assert file["main"].shape == (3, *SHAPE)


def test_the_network_has_the_weights_of_the_documented_widths() -> None:
    root = load(REPOSITORY / TUTORIAL, mode="train", overrides=()).root
    arguments = {k: v for k, v in root.model.items() if k not in ("_target_", "init_from")}
    with torch.device("meta"):
        # With the published stem, to compare with the published number.
        net = RSUNet(1, 1, **arguments | {"stem": "preactivated"})
    assert sum(parameter.numel() for parameter in net.parameters()) == 8_904_003


@pytest.mark.parametrize("volume", VOLUMES)
def test_the_synthetic_volumes_suit_the_recipe_as_it_is(volume: str) -> None:
    root = load(REPOSITORY / TUTORIAL, mode="train", overrides=()).root
    depth, patch = layouts.SHAPES["cremi"][0], root.data.dataloader.patch_size[0]
    first, last = root.data.split_val_range
    assert round(last * depth) - round(first * depth) >= patch
