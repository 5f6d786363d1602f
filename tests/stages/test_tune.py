"""Tune mode as it is called: its files, its warning, and the test that goes on from it."""

import json
from pathlib import Path

import pytest
import yaml

from emseg.config import load
from emseg.config.schema_data import VolumeConfig as Volume
from emseg.stages.tune import share_voxels

OTHER = ["tune.data.test.image=train.h5", "tune.data.test.label=train_labels.h5"]


def test_tune_then_test_with_the_best(experiment, work, capfd):
    assert experiment.emseg("tune-test") == 0
    told = capfd.readouterr()
    assert "tuned on the test data" in told.err
    assert all(line.startswith("emseg: ") for line in told.err.splitlines())
    assert work == ["infer", "decode", "evaluate"]  # the trials' work is the child's
    # Both scores, in the log too and beside the choice.
    tuned = experiment.run / "tune"
    lines = [line.removeprefix("emseg: ") for line in told.err.splitlines()]
    scores = [line for line in lines if line.startswith("adapted_rand_skimage ")]
    assert [line.split()[1] for line in scores] == ["untuned:", "tuned:"]
    assert "threshold=0.5" in scores[0]
    assert float(scores[1].split()[2]) <= float(scores[0].split()[2])
    header, row, _ = (line.split() for line in told.out.splitlines())
    assert row[header.index("adapted_rand_skimage")] == scores[1].split()[2]
    assert "\n".join(scores) in (experiment.run / "run.log").read_text()
    comment = "".join(f"# {line}\n" for line in scores)
    assert (tuned / "decoding" / "study.yaml").read_text().startswith(comment)
    assert (tuned / "study.sqlite3").is_file()
    best = yaml.safe_load((tuned / "decoding" / "study.yaml").read_text())
    assert best["_target_"] == "emseg.decoding.affinity_cc.affinity_cc"
    assert best["threshold"] in (0.3, 0.4, 0.5, 0.6, 0.7)
    # By hand it is the same test, and the config beside the results says so too.
    by_hand = ["--conf", str(tuned), "decoding=study"]
    assert experiment.emseg("test", *by_hand) == 0
    assert work == ["infer", "decode", "evaluate"]
    assert capfd.readouterr().out.splitlines()[-1] == told.out.splitlines()[-1]
    (record,) = json.loads((experiment.results / "metrics.json").read_text())["records"].values()
    assert record["segmentations"]["test_im"]["decoding"] == best


def test_the_config_beside_the_results_has_the_best_decoder(experiment, work):
    assert experiment.emseg("tune-test", "decoding.threshold=0.35") == 0
    best = yaml.safe_load((experiment.run / "tune" / "decoding" / "study.yaml").read_text())
    saved = load(experiment.results / "config.yaml", mode="test", overrides=())
    assert saved.root.decoding == best


def test_other_volumes_are_predicted_apart(experiment, work, capfd):
    assert experiment.emseg("tune-test", *OTHER) == 0
    told = capfd.readouterr().err
    assert "tuned on the test data" not in told
    assert work == ["infer", "infer", "decode", "evaluate"]
    assert (experiment.results / "tune" / "test_im_prediction.h5").is_file()
    assert (experiment.results / "test_im_prediction.h5").is_file()
    work.clear()
    # The prediction is used again, and the study goes on.
    assert experiment.emseg("tune", *OTHER) == 0
    assert work == []
    assert "adding to the 2 trials" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("tuned", "tested", "shared"),
    [
        (Volume(image="a.h5"), Volume(image="b.h5"), False),
        (Volume(image="a.h5", name="x"), Volume(image="a.h5", name="y"), True),
        (Volume(image="a.h5", path="p"), Volume(image="a.h5", path="q"), False),
        (Volume(image="a.h5", range=(0, 9)), Volume(image="a.h5"), True),
        (Volume(image="a.h5", range=(0, 9)), Volume(image="a.h5", range=(8, 12)), True),
        (
            Volume(image="a.h5", range=(0, 9)),
            Volume(image="a.h5", range=(9, 12)),
            False,
        ),
        (
            Volume(image="a.h5", range=(0.5, 1.0)),
            Volume(image="a.h5", range=(0.0, 0.5)),
            False,
        ),
        (
            Volume(image="a.h5", range=(0.5, 1.0)),
            Volume(image="a.h5", range=(0, 3)),
            True,
        ),
    ],
)
def test_tuning_and_test_data_may_meet_in_a_part(tuned, tested, shared):
    other = Volume(image="c.h5")
    assert share_voxels({"": tuned}, {"one": other, "two": tested}) == shared


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["tune.data.test.label=null"], "no label"),
        (["tune.metric=voi_summ"], "did you mean 'voi_sum'"),
        (["tune.study_name=a/b"], "tune.study_name"),
        (
            ["tune.direction=maximize"],
            "maximize would look for the worst adapted_rand_skimage; set tune.direction",
        ),
    ],
)
def test_refused_before_anything_is_predicted(experiment, work, capfd, words, told):
    assert experiment.emseg("tune", *words) == 2
    message = capfd.readouterr().err
    assert told in message and message.count("\n") == 1
    assert work == [] and not [*experiment.run.glob("results_step=*")]
    assert not Path(experiment.run / "tune").exists()
