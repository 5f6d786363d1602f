"""The NISB page: every command of docs/nisb.md in its order, on small synthetic cubes."""

import pickle

import numpy as np
import pytest

from emseg.synthetic import layouts
from emseg.volumes import write_volume
from reference.components import flood_components
from reference.erl import nerl
from stages.page import ALL, NO_GPUS, Command, Page, Session

STUDY = "nisb_base_banis_cc_tuning"
SHAPE = (48, 40, 40)
PAGE = Page(
    "nisb",
    "nisb_base_banis",
    {
        "synth": Command("synth nisb datasets/nisb/base"),
        "train": Command(
            "train base_banis",
            says=(
                "trained on seed0 (48x40x40), seed1 (48x40x40); validated on seed100 (48x40x40)",
            ),
            never=("num_gpus",),
        ),
        "train on 4": Command(
            "train base_banis system.num_gpus=4 data.dataloader.batch_size=2", says=(NO_GPUS,)
        ),
        "test": Command("test base_banis", worked=ALL),
        "unmasked": Command("test base_banis decoding.affinity_mask_path=null", worked=[]),
        # Of the training cube; trials work in a child process.
        "tune": Command(
            "tune base_banis",
            worked=["infer"],
            says=("nerl untuned: ", "with threshold=0.75"),
        ),
        "tuned": Command(f"test base_banis decoding={STUDY}"),
    },
    small={
        "": "model.width=2 system.num_workers=0 optimization.precision=32-true",
        "^train": "data.dataloader.patch_size=[32,32,32] data.pad_small=true "
        "optimization.max_steps=2 optimization.n_steps_per_epoch=2 "
        "optimization.val_check_interval=2 optimization.val_steps_per_epoch=1 "
        "monitor.checkpoint.every_n_steps=1 monitor.logging.images.n_images=0",
        "^(test|tune)": "inference.window.window_size=[32,32,32]",
        # An untrained network is nowhere surer than a half; the tuned decoder has its threshold.
        "^test(?!.*decoding=)": "decoding.threshold=0.5",
    },
    scorer="segments_at",
)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Session:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(layouts.SHAPES, "nisb", SHAPE)
        return Session(PAGE, tmp_path_factory.mktemp("page")).follow(patch)


def test_the_commands_do_what_the_page_says(page: Session) -> None:
    page.check_commands()
    kept = ["last.ckpt", "step=1.ckpt", "val_loss_total"]
    page.check_runs(checkpoints=kept, curves=["val_loss_total"])
    assert page.done["unmasked"].records == page.done["test"].records
    assert page.done["tuned"].volume("segmentation").attributes["decoding"] == page.tuned(STUDY)


def test_the_prediction_is_all_six_channels_in_float16(page: Session) -> None:
    stored = page.done["test"].volume("prediction")
    assert (stored.channels, stored.shape, stored.dtype) == (6, SHAPE, "float16")
    values = stored[...].astype(np.float32)
    assert values.min() > 0 and values.max() < 1 and values.std() > 0
    assert (stored.axes, stored.voxel_size) == ("xyz", (9, 9, 20))
    assert stored.attributes["edge_side"] == "source"
    near = [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    far = [[10 * step for step in offset] for offset in near]
    assert stored.attributes["offsets"] == near + far


def test_the_segmentation_and_its_nerl_are_those_of_slow_references(page: Session) -> None:
    done = page.done["test"]
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
    (record,) = done.records
    scores = record["volumes"]["test_im"]
    assert 0 < scores["nerl"] == pytest.approx(slow, rel=1e-9)
    assert {"nerl_5", "nerl_inf", "n_splits", "n_mergers", "n_non0_mergers"} <= scores.keys()


def test_a_mask_takes_away_what_it_covers(page: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(page.folder)
    trusted = np.ones(SHAPE, np.uint8)
    trusted[20:] = 0
    write_volume("mask.h5", trusted, axes="xyz", voxel_size=(9, 9, 20), attributes={})
    done = page.again("test", "decoding.affinity_mask_path=mask.h5")
    labels = done.volume("segmentation")[...]
    assert not labels[20:].any() and labels[:20].any()


def test_tuning_keeps_a_study_of_four_trials_over_six_thresholds(page: Session) -> None:
    study = page.study(STUDY)
    assert study.direction.name == "MAXIMIZE"
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 4
    thresholds = [value for value, _ in study.trials[0].user_attrs["curve"]]
    assert thresholds == pytest.approx([0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
