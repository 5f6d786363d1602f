"""The SNEMI3D page: every command of docs/snemi3d.md in its order, on small synthetic volumes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from datasets.served import serving
from datasets.test_download import FILES, archive_of
from emseg.config import load
from emseg.config.leaves import CODE_READ
from emseg.datasets import catalogue
from emseg.decoding.agglomerate import agglomerate
from emseg.kernels.symmetry import views
from emseg.synthetic import layouts
from stages.page import ALL, NO_GPUS, Command, Page, Session
from test_docs import REPOSITORY

TUTORIAL = REPOSITORY / "tutorials" / "neuron_snemi" / "neuron_snemi.yaml"
STUDY = "snemi_waterz_tuning"
SHAPE = (12, 48, 48)
UNBRANCHED = (
    "decoding.iou_threshold=null decoding.singleton_size_ratio=0.0 "
    "decoding.best_buddy=false decoding.one_sided_threshold=null decoding.one_sided_min_size=0"
)
PAGE = Page(
    "snemi3d",
    "rsunet_snemi_lee2017_modern",
    {
        "download": Command("download snemi"),
        "synth": Command("synth snemi datasets/SNEMI"),
        "train": Command("train neuron_snemi", never=("num_gpus",)),
        "train on 4": Command(
            "train neuron_snemi system.num_gpus=4 data.dataloader.batch_size=2", says=(NO_GPUS,)
        ),
        "test": Command("test neuron_snemi", worked=ALL),
        "unlabelled": Command(
            "test neuron_snemi data.test.label=null", worked=[], says=("evaluation skipped",)
        ),
        "long": Command(
            "test neuron_snemi inference.model.select_channel=[6, 9, 4]",
            worked=["decode", "evaluate"],
        ),
        "views": Command(
            "test neuron_snemi inference.test_time_augmentation.enabled=true", worked=ALL
        ),
        # The prediction of the views is another one; trials work in a child process.
        "tune": Command("tune neuron_snemi", worked=["infer"], says=("tuned on the test data",)),
        "tuned": Command(f"test neuron_snemi decoding={STUDY}"),
        "unbranched": Command(f"test neuron_snemi {UNBRANCHED}"),
    },
    small={
        "": "model.width=[4,8] model.down_factors=[[1,2,2]] system.num_workers=0",
        "^train": "data.dataloader.patch_size=[8,32,32] data.pad_small=true "
        "optimization.max_epochs=1 optimization.n_steps_per_epoch=2 "
        "optimization.precision=32-true optimization.scheduler.warmup_epochs=0.5 "
        "monitor.logging.images.n_images=0",
        "^(test|tune)": "inference.window.window_size=[8,32,32] inference.window.overlap=0 "
        "inference.pad=[2,8,8] inference.crop_pad=[1,2,7,8,7,8]",
        "^tune": "tune.n_trials=5",
    },
)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Session:
    folder = tmp_path_factory.mktemp("page")
    rng = np.random.default_rng(0)
    arrays = {name: rng.integers(0, 255, SHAPE, np.uint8) for name in FILES}
    archive = archive_of(arrays, folder / "served.zip")
    with pytest.MonkeyPatch.context() as patch, serving(archive) as server:
        patch.setenv("NO_PROXY", "127.0.0.1")
        patch.setitem(layouts.SHAPES, "snemi", SHAPE)
        near = replace(catalogue.ARCHIVES["snemi"], url=server.url("snemi.zip"), shape=SHAPE)
        patch.setitem(catalogue.ARCHIVES, "snemi", near)
        return Session(PAGE, folder).follow(patch)


def test_the_commands_do_what_the_page_says(page: Session) -> None:
    page.check_commands()
    name = "train_loss_total_epoch"
    page.check_runs(checkpoints=["last.ckpt", name], curves=[name])
    batches = [yaml.safe_load((run / "config.yaml").read_text())["data"] for run in page.runs()]
    assert [data["dataloader"]["batch_size"] for data in batches] == [4, 2]


def test_the_prediction_is_a_probability_on_the_images_support(page: Session) -> None:
    done = page.done["test"]
    predicted, segmentation = done.volume("prediction"), done.volume("segmentation")
    values = predicted[...]
    assert values.shape == (12, *SHAPE) and segmentation.shape == SHAPE
    assert values.min() >= 0 and values.max() <= 1 and values.std() > 0
    root = load(TUTORIAL, mode="test", overrides=()).root
    assert predicted.attributes["offsets"] == root.target["offsets"]
    assert predicted.attributes["edge_side"] == "destination"
    assert predicted.voxel_size == segmentation.voxel_size == (30, 6, 6)
    (record,) = done.records
    assert 0 <= record["volumes"]["test_im"]["adapted_rand"] <= 1
    assert (done.results / "overview.png").is_file()


def test_long_range_channels_are_decoded_with_their_own_offsets(page: Session) -> None:
    done, before = page.done["long"], page.done["test"]
    name = "test_im_prediction.h5"
    assert (done.results / name).read_bytes() == (before.results / name).read_bytes()
    segmentation = done.volume("segmentation")
    assert segmentation.attributes["select_channel"] == [6, 9, 4]
    own = ("_target_", *CODE_READ["decoding"])
    decoder = {k: v for k, v in segmentation.attributes["decoding"].items() if k not in own}
    labels = agglomerate(
        done.volume("prediction")[...][[6, 9, 4]],
        **decoder,
        offsets=[(0, 0, 3), (0, 3, 0), (3, 0, 0)],
        edge_side="destination",
        voxel_size=segmentation.voxel_size,
    )
    np.testing.assert_array_equal(segmentation[...], labels)
    assert len(done.records) == 2


def test_views_are_the_eight_of_a_section_merged_by_the_smallest(page: Session) -> None:
    asked = load(TUTORIAL, mode="test", overrides=()).root.inference.test_time_augmentation
    assert len(views(asked.flip_axes, asked.rotation90_axes)) == 8 and asked.ensemble_mode == "min"
    merged, alone = (page.done[name].volume("prediction")[...] for name in ("views", "test"))
    # One of the views is the image as it is, and blending keeps the order.
    assert (merged <= alone + 1e-6).all() and merged.mean() < alone.mean()


def test_tuning_begins_with_the_configs_own_score(page: Session) -> None:
    trials = page.study(STUDY).trials
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 5
    assert trials[0].params == {
        "fragments": "volume",
        "merge_function": "aff85_his256",
        "aff_threshold.0": 0.1,
        "aff_threshold.1": 0.999,
    }
    thresholds = [value for value, _ in trials[0].user_attrs["curve"]]
    assert thresholds == pytest.approx([n / 10 for n in range(1, 10)])
    # "untuned" is what the test itself printed.
    lines = [line for line in page.done["tune"].err.splitlines() if "adapted_rand " in line[:20]]
    printed = dict(line.split()[2:4] for line in lines)
    (record,) = page.done["test"].records
    score = f"{record['volumes']['test_im']['adapted_rand']:.4f}"
    assert printed["untuned:"] == score and float(printed["tuned:"]) <= float(score)


def test_the_tuned_decoder_scores_in_the_test_what_tuning_said(page: Session) -> None:
    done = page.done["tuned"]
    assert done.volume("segmentation").attributes["decoding"] == page.tuned(STUDY)
    best = min(trial.value for trial in page.study(STUDY).trials)
    assert f"{best:.4f}" in done.out


def test_the_decoder_without_branches_is_another_configuration(page: Session) -> None:
    decoding = page.done["unbranched"].volume("segmentation").attributes["decoding"]
    assert (decoding["iou_threshold"], decoding["best_buddy"]) == (None, False)
    assert decoding["dust_merge_size"] == 800


def test_the_page_may_write_the_choice_of_the_search_as_a_profile(tmp_path: Path) -> None:
    tutorial = yaml.safe_load(TUTORIAL.read_text())
    own = load(TUTORIAL, mode="tune", overrides=()).root.tune
    tutorial["defaults"].remove({"override /tune": "tune_waterz"})
    tutorial["tune"]["profile"] = "tune_waterz"
    (tmp_path / "as_profile.yaml").write_text(yaml.safe_dump(tutorial))
    found = load(tmp_path / "as_profile.yaml", mode="tune", overrides=()).root.tune
    assert found == own and found.profile == "tune_waterz"
    # What the tutorial leaves out comes from the choice.
    del tutorial["tune"]["search_space"]["thresholds"]
    (tmp_path / "as_profile.yaml").write_text(yaml.safe_dump(tutorial))
    found = load(tmp_path / "as_profile.yaml", mode="tune", overrides=()).root.tune
    assert found.search_space["thresholds"].step == 0.05
