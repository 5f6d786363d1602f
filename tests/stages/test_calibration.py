"""Predictions that are calibrated as they are decoded: whole, in blocks, in trials."""

from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.special import expit

from emseg.config.schema import Space, Tune
from emseg.config.schema_data import VolumeConfig
from emseg.decoding.affinity_cc import affinity_cc
from emseg.decoding.agglomerate import agglomerate
from emseg.errors import UserError
from emseg.evaluation.voi import voi
from emseg.stages import study
from emseg.stages import trial as stage
from emseg.stages.decode import decode
from emseg.stages.decode_job import DecodeJob, decode_facts, labels_of
from emseg.stages.sources import open_sources
from emseg.stages.trial import Task, ValueCache, score_curve
from emseg.volumes import open_volume, write_volume
from stages.nearest_facts import FACTS

AGGLOMERATE = {
    "_target_": "emseg.decoding.agglomerate.agglomerate",
    "fragments": "sections",
    "merge_function": "mean",
    "threads": 1,
}
COMPONENTS = {"_target_": "emseg.decoding.affinity_cc.affinity_cc", "threshold": 0.6}
BIASES = [-0.5, -1.0, -0.25]
SHAPE = (20, 16, 18)
LITTLE = 200_000 / 2**30  # GiB: less than the prediction and its labels
NEAREST = {"offsets": [(1, 0, 0), (0, 1, 0), (0, 0, 1)], "edge_side": "destination"}


@pytest.fixture
def logits(tmp_path, monkeypatch):
    """Logits of affinities, and files of them, of their probabilities, and of neither."""
    monkeypatch.chdir(tmp_path)
    noise = np.random.default_rng(0).standard_normal((3, *SHAPE))
    smooth = gaussian_filter(noise, (0, 0.5, 1, 1))
    values = (3 * smooth / smooth.std()).astype(np.float32)
    kinds = {"logit": values, "probability": expit(values), "scaled": expit(0.2 * values)}
    for kind, stored in kinds.items():
        facts = FACTS | {"activation": kind, "fingerprint": kind}
        name = f"{kind}_prediction.h5"
        write_volume(name, stored, axes="czyx", voxel_size=None, attributes=facts)
    return values


def job(leaf, kind="logit", **changes) -> DecodeJob:
    memory = changes.pop("memory", None)
    return DecodeJob(Path(f"{kind}_prediction.h5"), leaf | changes, None, memory=memory)


def by_hand(logits, temperature=1.0, biases=BIASES):
    return expit((logits + np.float32(biases).reshape(3, 1, 1, 1)) / np.float32(temperature))


@pytest.mark.parametrize("kind", ["logit", "probability"])
@pytest.mark.parametrize(
    ("leaf", "decoder"), [(AGGLOMERATE, agglomerate), (COMPONENTS, affinity_cc)]
)
def test_every_decoder_gets_what_was_calibrated(logits, kind, leaf, decoder):
    arguments = {key: value for key, value in leaf.items() if key != "_target_"} | NEAREST
    found = labels_of(job(leaf, kind, biases=BIASES, temperature=1.5))
    np.testing.assert_array_equal(found, decoder(by_hand(logits, 1.5), **arguments))
    assert not np.array_equal(found, labels_of(job(leaf, "probability")))


def test_blocks_are_calibrated_alike(logits):
    decoded = {}
    for memory in (None, LITTLE):
        one = job(AGGLOMERATE, biases=BIASES, memory=memory)
        path = decode(one, segmentation=Path("a.h5"), force=True, verify=False)
        decoded[memory] = open_volume(path)[...]
    np.testing.assert_array_equal(decoded[None], decoded[LITTLE])
    assert decoded[None].max() > 10


def test_another_calibration_is_another_segmentation(logits):
    facts = [
        decode_facts(job(AGGLOMERATE, **changes))
        for changes in ({}, {"biases": BIASES}, {"biases": [0, 0, 0]}, {"temperature": 2.0})
    ]
    assert all(one not in facts[:at] for at, one in enumerate(facts))


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("logit", {}, "not logits.*decoding.biases"),
        ("scaled", {"biases": BIASES}, "logits or probabilities, .*channels of scaled"),
        ("logit", {"biases": [1.0]}, "one bias for each of the 3 channels"),
        ("probability", {"temperature": -1.0}, "decoding.temperature is -1.0"),
    ],
)
def test_what_cannot_be_calibrated_is_refused(logits, kind, changes, message):
    with pytest.raises(UserError, match=message):
        labels_of(job(AGGLOMERATE, kind, **changes))


@pytest.fixture
def task(logits, monkeypatch):
    monkeypatch.setattr(stage, "_CACHED", ValueCache())
    truth = np.indices(SHAPE).sum(0).astype(np.uint32) // 9 + 1
    for name, array in (("raw.h5", truth.astype(np.uint8)), ("labels.h5", truth)):
        write_volume(name, array, axes="zyx", voxel_size=(40, 4, 4), attributes={})
    volume = {"im": VolumeConfig(image="raw.h5", label="labels.h5")}
    [source] = open_sources(volume, split="test", lone_name="im")
    metrics = {"voi": {"_target_": "emseg.evaluation.voi.voi"}}
    own = job(AGGLOMERATE, biases=[0, 0, 0], thresholds=0.5)
    return Task(own, source, metrics, "voi_sum")


def test_trials_with_other_biases_share_no_fragments(task):
    curves = {}
    for biases in ([0, 0, 0], BIASES):
        curves[str(biases)] = score_curve([task], {"biases": biases}, ("thresholds", [0.3, 0.5]))
        for threshold, found in curves[str(biases)]:
            labels = labels_of(job(AGGLOMERATE, biases=biases, thresholds=threshold))
            assert found == pytest.approx(voi(labels, task.source.label[...])["voi_sum"])
    assert len({str(curve) for curve in curves.values()}) == 2


def test_a_study_chooses_among_triplets(task, inline, tmp_path):
    triplets = [[0.0, 0.0, 0.0], BIASES, [-3.0, -3.0, -3.0]]
    space = {
        "biases": Space(choices=triplets),
        "thresholds": Space(low=0.35, high=0.55, step=0.05),
    }
    config = Tune(n_trials=3, study_name="few", metric="voi_sum", search_space=space)
    for _ in range(2):  # the second goes on with what the first has stored
        found = study.search([task], config, folder=tmp_path / "tune", seed=0)
    scores = {
        tuple(biases): min(
            score for _, score in score_curve([task], {"biases": biases}, ("thresholds", GRID))
        )
        for biases in triplets
    }
    assert found.leaf["biases"] in triplets
    assert found.score == pytest.approx(min(scores.values()))
    assert scores[tuple(found.leaf["biases"])] == min(scores.values())


GRID = [0.35, 0.4, 0.45, 0.5, 0.55]
