"""The NISB page: every command of docs/nisb.md in its order, on small synthetic cubes.

Behind the page's own words stand others that make it a matter of seconds.
"""

import pickle
import shlex

import h5py
import numpy as np
import optuna
import pytest
import yaml

from emseg.synthetic import layouts
from emseg.volumes import write_volume
from reference.components import flood_components
from reference.erl import nerl
from stages.page import Session, count_stages, key_of, mode_of
from test_docs import REPOSITORY, commands, fences
from test_package import just

PAGE = (REPOSITORY / "docs" / "nisb.md").read_text()
TUTORIAL = "tutorials/neuron_nisb/base_banis.yaml"
NAME, STUDY = "nisb_base_banis", "nisb_base_banis_cc_tuning"
SHAPE = (40, 36, 32)

SMALL = {
    "all": "model.width=2 system.num_workers=0 optimization.precision=32-true",
    "train": "data.dataloader.patch_size=[32,32,32] data.pad_small=true optimization.max_steps=2 "
    "optimization.n_steps_per_epoch=2 optimization.val_check_interval=2 "
    "optimization.val_steps_per_epoch=1 monitor.checkpoint.every_n_steps=1 "
    "monitor.logging.images.n_images=0",
    # An untrained network is nowhere surer than a half.
    "test": "inference.window.window_size=[32,32,32] decoding.threshold=0.5",
    "tune": "inference.window.window_size=[32,32,32]",
}

TRAIN, TRAIN_ON_FOUR = "train", "train system.num_gpus=4 data.dataloader.batch_size=2"
TEST, UNMASKED = "test", "test decoding.affinity_mask_path=null"
TUNE, TUNED = "tune", f"test decoding={STUDY}"


def small(words: list[str]) -> list[str]:
    """The words, and what makes them small."""
    if words[0] != "--config":
        return words
    more = [*SMALL["all"].split(), *SMALL[mode_of(words)].split()]
    if any(word.startswith("decoding=") for word in words):  # it has a threshold of its own
        more = [word for word in more if not word.startswith("decoding.")]
    return [*words, *more]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Session:
    """Every command of the page, done in its order."""
    session = Session(tmp_path_factory.mktemp("page"), NAME, small)
    (session.folder / "tutorials").symlink_to(REPOSITORY / "tutorials")
    worked: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(session.folder)
        patch.setitem(layouts.SHAPES, "nisb", SHAPE)
        count_stages(patch, worked, scorer="segments_at")
        for words in commands(PAGE):
            session.done[key_of(words)] = session.follow(words, worked)
    return session


def test_the_page_has_these_commands_and_no_other(page: Session) -> None:
    assert [*page.done] == [
        "synth nisb datasets/nisb/base",
        TRAIN,
        TRAIN_ON_FOUR,
        TEST,
        UNMASKED,
        TUNE,
        TUNED,
    ]
    assert all(TUTORIAL in words for words in commands(PAGE) if words[0] == "--config")


def test_training_keeps_the_last_the_best_and_every_nth(page: Session) -> None:
    line = "system.num_gpus=4, but this machine has 0: going on with the CPU"
    assert line in page.done[TRAIN_ON_FOUR].err and "num_gpus" not in page.done[TRAIN].err
    assert "trained on seed0 (40x36x32), seed1 (40x36x32); validated on seed100 (40x36x32)" in (
        page.done[TRAIN].err
    )
    for run, batch in zip(sorted((page.folder / "outputs" / NAME).iterdir()), (4, 2), strict=True):
        saved = yaml.safe_load((run / "config.yaml").read_text())
        assert saved["data"]["dataloader"]["batch_size"] == batch
        names = {path.name for path in (run / "checkpoints").iterdir()}
        assert {"last.ckpt", "step=1.ckpt"} <= names
        assert any("val_loss_total" in name for name in names)


def test_the_curves_are_found_by_the_name_of_the_experiment(page: Session) -> None:
    (line,) = [
        line for block in fences(PAGE, "sh") for line in block.splitlines() if "just" in line
    ]
    printed = just(*shlex.split(line)[1:], "--inspect", cwd=page.folder)
    assert f"outputs/{NAME}/" in printed and "val_loss_total" in printed


def test_the_prediction_is_all_six_channels_in_float16(page: Session) -> None:
    done = page.done[TEST]
    assert done.worked == ["infer", "decode", "evaluate"]
    with h5py.File(done.results / "test_im_prediction.h5") as file:
        assert (file["main"].shape, file["main"].dtype) == ((6, *SHAPE), "float16")
        values = file["main"][...].astype(np.float32)
    assert values.min() > 0 and values.max() < 1 and values.std() > 0
    stored = done.volume("prediction")
    assert (stored.axes, stored.voxel_size) == ("xyz", (9, 9, 20))
    assert stored.attributes["edge_side"] == "source"
    near = [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    far = [[10 * step for step in offset] for offset in near]
    assert stored.attributes["offsets"] == near + far


def test_the_segmentation_and_its_nerl_are_those_of_slow_references(page: Session) -> None:
    done = page.done[TEST]
    affinities = done.volume("prediction")[...][:3]
    labels = done.volume("segmentation")[...]
    expected = flood_components(affinities, 0.5, np.eye(3, dtype=int), "source")
    np.testing.assert_array_equal(labels, expected)
    assert labels.max() > 1
    path = page.folder / "datasets/nisb/base/test/seed101/skeleton.pkl"
    graph = pickle.loads(path.read_bytes())
    facts = dict(graph.nodes(data=True))
    slow = nerl(
        {node: int(labels[fact["index_position"]]) for node, fact in facts.items()},
        {node: fact["id"] for node, fact in facts.items()},
        {node: fact["nm_position"] for node, fact in facts.items()},
        graph.edges,
    )
    (scores,) = done.scores
    assert 0 < scores["nerl"] == pytest.approx(slow, rel=1e-9)
    assert {"nerl_5", "nerl_inf", "n_splits", "n_mergers", "n_non0_mergers"} <= scores.keys()


def test_no_mask_is_what_there_was(page: Session) -> None:
    assert page.done[UNMASKED].worked == []
    assert page.done[UNMASKED].scores == page.done[TEST].scores


def test_a_mask_takes_away_what_it_covers(page: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(page.folder)
    trusted = np.ones(SHAPE, np.uint8)
    trusted[20:] = 0
    write_volume("mask.h5", trusted, axes="xyz", voxel_size=(9, 9, 20), attributes={})
    words = next(words for words in commands(PAGE) if key_of(words) == TEST)
    done = page.follow([*words, "decoding.affinity_mask_path=mask.h5"], [])
    labels = done.volume("segmentation")[...]
    assert not labels[20:].any() and labels[:20].any()


def test_tuning_keeps_a_study_of_four_trials_over_six_thresholds(page: Session) -> None:
    done = page.done[TUNE]
    assert done.worked == ["infer"]  # of the training cube; trials are a child's work
    storage = f"sqlite:///{page.run}/tune/{STUDY}.sqlite3"
    study = optuna.load_study(study_name=STUDY, storage=storage)
    assert study.direction.name == "MAXIMIZE"
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 4
    thresholds = [value for value, _ in study.trials[0].user_attrs["curve"]]
    assert thresholds == pytest.approx([0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
    assert "nerl untuned: " in done.err and "with threshold=0.75" in done.err


def test_the_tuned_decoder_is_the_one_that_tests(page: Session) -> None:
    choice = page.run / "tune" / "decoding" / f"{STUDY}.yaml"
    best = yaml.safe_load(choice.read_text())
    assert page.done[TUNED].volume("segmentation").attributes["decoding"] == best
