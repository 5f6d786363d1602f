"""The SNEMI3D page: every command of docs/snemi3d.md in its order, on small synthetic volumes.

Behind the page's own words stand others that make it a matter of seconds.
"""

import shlex
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import optuna
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
from stages.page import Session, count_stages, key_of, mode_of
from test_docs import REPOSITORY, commands, fences
from test_package import just

PAGE = (REPOSITORY / "docs" / "snemi3d.md").read_text()
TUTORIAL = "tutorials/neuron_snemi/neuron_snemi.yaml"
NAME = "rsunet_snemi_lee2017_modern"
SHAPE = (12, 48, 48)

SMALL = {
    "all": "model.width=[4,8] model.down_factors=[[1,2,2]] system.num_workers=0",
    "train": "data.dataloader.patch_size=[8,32,32] data.pad_small=true optimization.max_epochs=1 "
    "optimization.n_steps_per_epoch=2 optimization.precision=32-true "
    "optimization.scheduler.warmup_epochs=0.5 monitor.logging.images.n_images=0",
    "test": "inference.window.window_size=[8,32,32] inference.window.overlap=0 "
    "inference.pad=[2,8,8] inference.crop_pad=[1,2,7,8,7,8]",
    "tune": "tune.n_trials=5",
}

TRAIN, TRAIN_ON_FOUR = "train", "train system.num_gpus=4 data.dataloader.batch_size=2"
TEST, UNLABELLED = "test", "test data.test.label=null"
LONG = "test inference.model.select_channel=[6, 9, 4]"
VIEWS = "test inference.test_time_augmentation.enabled=true"
TUNE, TUNED = "tune", "test decoding=snemi_waterz_tuning"
UNBRANCHED = (
    "test decoding.iou_threshold=null decoding.singleton_size_ratio=0.0 "
    "decoding.best_buddy=false decoding.one_sided_threshold=null decoding.one_sided_min_size=0"
)


class SnemiSession(Session):
    @property
    def study(self) -> optuna.Study:
        """The study of the decoder, as it is kept."""
        storage = f"sqlite:///{self.run}/tune/snemi_waterz_tuning.sqlite3"
        return optuna.load_study(study_name="snemi_waterz_tuning", storage=storage)


def small(words: list[str]) -> list[str]:
    """The words, and what makes them small."""
    mode = mode_of(words)
    if mode not in ("train", "test", "tune"):
        return words
    sizes = [SMALL["train" if mode == "train" else "test"], SMALL["all"]]
    trials = [] if mode != "tune" else [SMALL["tune"]]
    more = [word for part in sizes + trials for word in part.split()]
    return [*words, *(word for word in more if word.partition("=")[0] not in " ".join(words))]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> SnemiSession:
    """Every command of the page, done in its order."""
    session = SnemiSession(tmp_path_factory.mktemp("page"), NAME, small)
    (session.folder / "tutorials").symlink_to(REPOSITORY / "tutorials")
    worked: list[str] = []
    archive = small_archive(session.folder)
    with pytest.MonkeyPatch.context() as patch, serving(archive) as server:
        patch.chdir(session.folder)
        patch.setenv("NO_PROXY", "127.0.0.1")
        patch.setitem(layouts.SHAPES, "snemi", SHAPE)
        real = catalogue.ARCHIVES["snemi"]
        patch.setitem(
            catalogue.ARCHIVES, "snemi", replace(real, url=server.url("snemi.zip"), shape=SHAPE)
        )
        count_stages(patch, worked, scorer="count_overlaps")
        for words in commands(PAGE):
            session.done[key_of(words)] = session.follow(words, worked)
    return session


def small_archive(folder: Path) -> bytes:
    """An archive of small volumes under the data set's names."""
    rng = np.random.default_rng(0)
    arrays = {name: rng.integers(0, 255, SHAPE, np.uint8) for name in FILES}
    return archive_of(arrays, folder / "served.zip")


def test_the_page_has_these_commands_and_no_other(page: SnemiSession) -> None:
    assert [*page.done] == [
        "download snemi",
        "synth snemi datasets/SNEMI",
        TRAIN,
        TRAIN_ON_FOUR,
        TEST,
        UNLABELLED,
        LONG,
        VIEWS,
        TUNE,
        TUNED,
        UNBRANCHED,
    ]
    assert all(TUTORIAL in words for words in commands(PAGE) if words[0] == "--config")


def test_training_takes_what_devices_there_are_and_says_so(page: SnemiSession) -> None:
    line = "system.num_gpus=4, but this machine has 0: going on with the CPU"
    assert line in page.done[TRAIN_ON_FOUR].err
    assert "num_gpus" not in page.done[TRAIN].err
    first, second = sorted((page.folder / "outputs" / NAME).iterdir())
    for run, batch in ((first, 4), (second, 2)):
        saved = yaml.safe_load((run / "config.yaml").read_text())
        assert saved["data"]["dataloader"]["batch_size"] == batch
        names = {path.name for path in (run / "checkpoints").iterdir()}
        assert "last.ckpt" in names
        assert [name for name in names if "train_loss_total_epoch" in name]


def test_the_curves_are_found_by_the_name_of_the_experiment(page: SnemiSession) -> None:
    (line,) = [
        line for block in fences(PAGE, "sh") for line in block.splitlines() if "just" in line
    ]
    printed = just(*shlex.split(line)[1:], "--inspect", cwd=page.folder)
    assert f"outputs/{NAME}/" in printed and "train_loss_total_epoch" in printed


def test_the_prediction_is_raw_and_on_the_images_support(page: SnemiSession) -> None:
    done = page.done[TEST]
    assert done.worked == ["infer", "decode", "evaluate"]
    assert page.results.name == "results_step=2"
    with h5py.File(done.results / "test_im_prediction.h5") as file:
        assert file["main"].shape == (12, *SHAPE)
        values = file["main"][...]
    assert values.min() >= 0 and values.max() <= 1 and values.std() > 0
    stored = done.volume("prediction")
    assert (
        stored.attributes["offsets"]
        == load(REPOSITORY / TUTORIAL, mode="test", overrides=()).root.target["offsets"]
    )
    assert stored.attributes["edge_side"] == "destination"
    assert stored.voxel_size == done.volume("segmentation").voxel_size == (30, 6, 6)
    assert done.volume("segmentation").shape == SHAPE
    (record,) = done.records.values()
    assert 0 <= record["volumes"]["test_im"]["adapted_rand"] <= 1
    assert (done.results / "overview.png").is_file()


def test_long_range_channels_take_a_decode_and_no_inference(page: SnemiSession) -> None:
    done, before = page.done[LONG], page.done[TEST]
    assert done.worked == ["decode", "evaluate"]
    name = "test_im_prediction.h5"
    assert (done.results / name).read_bytes() == (before.results / name).read_bytes()
    segmentation = done.volume("segmentation")
    assert segmentation.attributes["select_channel"] == [6, 9, 4]
    # By hand, with the offsets the channels have: x3, y3, z3.
    own = ("_target_", *CODE_READ["decoding"])
    decoder = {k: v for k, v in segmentation.attributes["decoding"].items() if k not in own}
    labels = agglomerate(
        done.volume("prediction")[...][[6, 9, 4]],
        **decoder,
        offsets=[(0, 0, 3), (0, 3, 0), (3, 0, 0)],
        edge_side="destination",
    )
    np.testing.assert_array_equal(segmentation[...], labels)
    assert len(done.records) == 2


def test_without_the_truth_nothing_is_scored(page: SnemiSession) -> None:
    done = page.done[UNLABELLED]
    assert done.worked == [] and "evaluation skipped" in done.err


def test_views_are_the_eight_of_a_section_merged_by_the_smallest(page: SnemiSession) -> None:
    root = load(
        REPOSITORY / TUTORIAL,
        mode="test",
        overrides=["inference.test_time_augmentation.enabled=true"],
    ).root.inference.test_time_augmentation
    assert len(views(root.flip_axes, root.rotation90_axes)) == 8 and root.ensemble_mode == "min"
    done, plain = page.done[VIEWS], page.done[TEST]
    assert done.worked == ["infer", "decode", "evaluate"]
    merged, alone = (one.volume("prediction")[...] for one in (done, plain))
    # One of the views is the image as it is, and blending keeps the order.
    assert (merged <= alone + 1e-6).all() and merged.mean() < alone.mean()


def test_tuning_keeps_a_study_and_tells_both_scores(page: SnemiSession) -> None:
    done = page.done[TUNE]
    assert done.worked == ["infer"]  # the views' prediction is another; trials are a child's work
    assert "tuned on the test data" in done.err
    trials = page.study.trials
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 5
    assert trials[0].params == {
        "merge_function": "aff85_his256",
        "aff_threshold.0": 0.1,
        "aff_threshold.1": 0.999,
    }
    thresholds = [value for value, _ in trials[0].user_attrs["curve"]]
    assert thresholds == pytest.approx([n / 10 for n in range(1, 10)])
    # Untuned is what the test itself said, to the digit printed.
    told = dict(line.split()[2:4] for line in done.err.splitlines() if "adapted_rand " in line[:20])
    (score,) = {
        f"{record['volumes']['test_im']['adapted_rand']:.4f}"
        for record in page.done[TEST].records.values()
    }
    assert told["untuned:"] == score and float(told["tuned:"]) <= float(score)


def test_the_tuned_decoder_scores_in_the_test_what_tuning_said(page: SnemiSession) -> None:
    done = page.done[TUNED]
    choice = page.run / "tune" / "decoding" / "snemi_waterz_tuning.yaml"
    best = yaml.safe_load(choice.read_text())
    segmentation = done.volume("segmentation")
    assert segmentation.attributes["decoding"] == best
    tuned = f"{min(trial.value for trial in page.study.trials[:5]):.4f}"
    assert tuned in done.out


def test_tuning_again_adds_to_the_study(
    page: SnemiSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(page.folder)
    before = [trial.params for trial in page.study.trials]
    words = next(words for words in commands(PAGE) if key_of(words) == TUNE)
    done = page.follow([*words, "tune.n_trials=2"], [])
    assert "adding to the 5 trials that are there" in done.err
    assert "inference skipped" in done.err
    after = [trial.params for trial in page.study.trials]
    assert after[: len(before)] == before and len(after) == len(before) + 2


def test_the_decoder_without_branches_is_another_configuration(page: SnemiSession) -> None:
    done = page.done[UNBRANCHED]
    decoding = done.volume("segmentation").attributes["decoding"]
    assert (decoding["iou_threshold"], decoding["best_buddy"]) == (None, False)
    assert decoding["dust_merge_size"] == 800


def test_the_page_may_write_the_choice_of_the_search_as_a_profile(tmp_path: Path) -> None:
    tutorial = yaml.safe_load((REPOSITORY / TUTORIAL).read_text())
    own = load(REPOSITORY / TUTORIAL, mode="tune", overrides=()).root.tune
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
