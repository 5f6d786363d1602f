"""Trials that share fragments score what a full decode and evaluation score."""

import inspect
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pytest
from scipy.ndimage import gaussian_filter

from emseg.config.schema import Space, Tune
from emseg.config.schema_data import VolumeConfig
from emseg.decoding.agglomerate import Agglomerate, agglomerate
from emseg.evaluation.adapted_rand import adapted_rand
from emseg.evaluation.erl import nerl
from emseg.evaluation.voi import voi
from emseg.stages import study
from emseg.stages import trial as stage
from emseg.stages.decode_job import DecodeJob, labels_of
from emseg.stages.search_space import with_parameters
from emseg.stages.sources import open_sources
from emseg.stages.trial import Task, ValueCache, score_curve
from emseg.volumes import write_volume
from stages.nearest_facts import FACTS

LEAF = {
    "_target_": "emseg.decoding.agglomerate.agglomerate",
    "merge_function": "aff85_his256",
    "aff_threshold": [0.1, 0.95],
    "dust_merge_size": 0,
    "dust_remove_size": 0,
    "backend": "numba",
    "threads": 1,
}
SHAPE = (8, 24, 24)
METRICS = {
    "voi": {"_target_": "emseg.evaluation.voi.voi"},
    "rand": {"_target_": "emseg.evaluation.adapted_rand.adapted_rand", "variant": "snemi"},
    "skimage": {"_target_": "emseg.evaluation.adapted_rand.adapted_rand", "variant": "skimage"},
}
SETS = [
    {"merge_function": "mean", "thresholds": 0.4},
    {"merge_function": "aff50_his256", "thresholds": 0.6},
    {"merge_function": "hist_quant_50", "thresholds": 0.5},
    {"aff_threshold.0": 0.3, "thresholds": 0.7, "dust_remove_size": 12},
    {"aff_threshold.1": 0.9, "thresholds": 0.2, "dust_merge_size": 30, "dust_remove_size": 5},
    {"iou_threshold": 0.3, "singleton_size_ratio": 0.5, "dust_remove_size": 5},
    {"best_buddy": True, "branch_affinity": 0.2, "dust_merge_size": 10, "thresholds": 0.3},
    {"one_sided_threshold": 0.6, "one_sided_min_size": 3, "thresholds": 0.4},
]


@pytest.fixture
def task(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stage, "_CACHED", ValueCache())
    rng = np.random.default_rng(0)
    noise = gaussian_filter(rng.standard_normal((3, *SHAPE)), (0, 0.5, 1, 1))
    values = (1 / (1 + np.exp(-3 * noise / noise.std()))).astype(np.float32)
    write_volume("im_prediction.h5", values, axes="czyx", voxel_size=None, attributes=FACTS)
    truth = rng.integers(0, 5, (4, 6, 6)).astype(np.uint32).repeat(2, 0).repeat(4, 1).repeat(4, 2)
    for name, array in (("raw.h5", truth.astype(np.uint8)), ("labels.h5", truth)):
        write_volume(name, array, axes="zyx", voxel_size=(30, 6, 6), attributes={})
    [source] = open_sources(
        {"im": VolumeConfig(image="raw.h5", label="labels.h5")}, split="test", lone_name="im"
    )
    job = DecodeJob(Path("im_prediction.h5"), LEAF, None)
    return lambda key, metric: Task(job, source, {key: METRICS[key]}, metric)


@pytest.mark.parametrize("parameters", SETS)
@pytest.mark.parametrize(
    ("key", "metric"),
    [("voi", "voi_sum"), ("rand", "adapted_rand"), ("skimage", "adapted_rand_skimage")],
)
def test_scores_are_those_of_labels_written_down(task, parameters, key, metric):
    one = task(key, metric)
    [(value, found)] = score_curve([one], parameters, None)
    decoding = with_parameters(LEAF, parameters)
    labels = labels_of(DecodeJob(one.job.prediction, decoding, None))
    truth = one.source.label[...]
    variant = "skimage" if key == "skimage" else "snemi"
    wanted = voi(labels, truth) if key == "voi" else adapted_rand(labels, truth, variant=variant)
    assert value is None
    assert found == pytest.approx(wanted[metric], abs=1e-12)


def test_trials_of_one_watershed_cut_it_once(task, monkeypatch):
    made = []
    original = Agglomerate.make_fragments

    def counting(decoder, *arguments, **facts):
        made.append(decoder.aff_threshold)
        return original(decoder, *arguments, **facts)

    monkeypatch.setattr(Agglomerate, "make_fragments", counting)
    one = task("voi", "voi_sum")
    swept = ("thresholds", [0.2, 0.5, 0.8])
    curve = score_curve([one], {"merge_function": "mean"}, swept)
    for value, wanted in curve:
        alone = score_curve([one], {"merge_function": "mean", "thresholds": value}, None)
        assert alone == [(None, pytest.approx(wanted, abs=1e-12))]
    score_curve([one], {"merge_function": "aff50_his256"}, swept)
    assert len(made) == 1
    score_curve([one], {"aff_threshold.0": 0.2}, swept)
    assert len(made) == 2
    score_curve([one], {"merge_function": "hist_quant_50"}, swept)  # has histograms, too
    assert len(made) == 3
    united = [{"best_buddy": True}, {"iou_threshold": 0.4, "branch_affinity": 0.3}]
    curves = [score_curve([one], {"merge_function": "mean"} | more, swept) for more in united]
    assert len(made) == 4  # with sections, too, whatever is done with them
    assert curve not in curves and curves[0] != curves[1]


def test_stages_that_unite_branches_can_be_searched(task, inline):
    one = task("voi", "voi_sum")
    space = {
        "thresholds": Space(low=0.2, high=0.6, step=0.2),
        "best_buddy": Space(choices=[False, True]),
        "iou_threshold": Space(choices=[None, 0.2, 0.5]),
        "one_sided_threshold": Space(low=0.5, high=0.9, step=0.1),
        "one_sided_min_size": Space(low=1, high=9),
    }
    defaults = {name: inspect.signature(agglomerate).parameters[name].default for name in space}
    one = replace(one, job=replace(one.job, decoding=LEAF | defaults))
    config = Tune(study_name="s", metric="voi_sum", n_trials=6, search_space=space)
    best = study.search([one], config, folder=Path("tune"), seed=0).leaf
    trials = optuna.load_study(study_name="s", storage="sqlite:///tune/s.sqlite3").trials
    done = [trial for trial in trials if trial.value is not None]
    assert len(done) > 3 and len({trial.value for trial in done}) > 1
    labels = labels_of(DecodeJob(one.job.prediction, best, None))
    wanted = voi(labels, one.source.label[...])["voi_sum"]
    assert min(trial.value for trial in done) == pytest.approx(wanted, abs=1e-12)


COMPONENTS = {
    "_target_": "emseg.decoding.affinity_cc.affinity_cc",
    "threshold": 0.5,
    "affinity_mask_path": None,
    "edge_offset": None,
    "backend": "numba",
}
NERL = {"nerl": {"_target_": "emseg.evaluation.erl.nerl"}}


@pytest.fixture
def along_skeletons(task, monkeypatch):
    """A task of components and run lengths, for which no volume of labels may be made."""
    rng = np.random.default_rng(1)
    lines = {}
    for name in range(1, 9):
        steps = np.cumsum(rng.integers(-1, 2, (30, 3)), axis=0) + rng.integers(0, SHAPE, 3)
        lines[f"{name}/vertices_nm_zyx"] = np.clip(steps, 0, np.array(SHAPE) - 1) * (30.0, 6.0, 6.0)
        lines[f"{name}/edges"] = np.stack([np.arange(29), np.arange(1, 30)], axis=1)
    np.savez("lines.npz", **lines)
    one = task("voi", "voi_sum")
    [source] = open_sources(
        {"im": VolumeConfig(image="raw.h5", skeletons="lines.npz")}, split="test", lone_name="im"
    )
    for name in ("labels_of", "labels_by_value"):
        monkeypatch.setattr(stage, name, None)
    return Task(replace(one.job, decoding=COMPONENTS), source, NERL, "nerl")


def test_run_lengths_at_all_thresholds_are_those_of_labels_that_are_never_made(along_skeletons):
    one = along_skeletons
    values = [0.3, 0.45, 0.5, 0.55, 0.6, 0.7, 0.9]
    curve = score_curve([one], {}, ("threshold", values))
    skeletons = one.source.skeletons()
    for value, found in curve:
        decoding = COMPONENTS | {"threshold": value}
        labels = labels_of(DecodeJob(one.job.prediction, decoding, None))
        assert found == pytest.approx(nerl(labels, None, skeletons=skeletons)["nerl"], abs=1e-12)
        alone = score_curve([one], {"threshold": value}, None)
        assert alone == [(None, pytest.approx(found, abs=1e-12))]
    assert [value for value, _ in curve] == values
    assert len({found for _, found in curve}) > 3


def test_a_threshold_is_searched_without_labels(along_skeletons, inline):
    space = {"threshold": Space(low=0.4, high=0.9, step=0.1)}
    config = Tune(
        study_name="s", metric="nerl", direction="maximize", n_trials=4, search_space=space
    )
    found = study.search([along_skeletons], config, folder=Path("tune"), seed=0)
    grid = [round(0.4 + 0.1 * step, 12) for step in range(6)]
    curve = dict(score_curve([along_skeletons], {}, ("threshold", grid)))
    assert found.score == max(curve.values()) and curve[found.leaf["threshold"]] == found.score
    assert found.untuned == curve[0.5]


def test_waterz_keeps_its_fragments_to_itself(task):
    one = task("voi", "voi_sum")
    parameters = {"merge_function": "mean", "thresholds": 0.4}
    by_waterz = score_curve([one], parameters | {"backend": "waterz"}, None)
    assert by_waterz == [(None, pytest.approx(score_curve([one], parameters, None)[0][1]))]


def test_what_does_not_fit_any_more_is_made_again():
    kept, made = ValueCache(), []

    def get(key, size=4):
        found = kept.get(key, lambda: made.append(key) or np.array([key], f"S{size}"), limit=10)
        return found[0].decode()

    assert [get("a"), get("b"), get("a"), get("c"), get("a"), get("b")] == [*"abacab"]
    assert made == ["a", "b", "c", "b"]
    assert get("huge", 11) == get("huge", 11) == "huge"
    assert [get("a"), get("b")] == ["a", "b"]
    assert made[4:] == ["huge", "huge"]
