"""Scores in files and tables, and the modes that begin with a file."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from emseg.config.schema import BorderMask
from emseg.config.schema_data import VolumeConfig
from emseg.errors import UserError
from emseg.evaluation.adapted_rand import adapted_rand
from emseg.evaluation.cremi import cremi_score
from emseg.stages import evaluate as stage
from emseg.stages.evaluate import evaluate, table
from emseg.stages.scores import try_metrics
from emseg.stages.sources import open_sources
from emseg.volumes import open_volume, write_volume
from stages.conftest import SHAPE, write

RAND = {"_target_": "emseg.evaluation.adapted_rand.adapted_rand", "variant": "skimage"}
VOI = {"_target_": "emseg.evaluation.voi.voi"}
VOI_NAMES = ("voi_split", "voi_merge", "voi_sum")


@pytest.fixture
def halves(tmp_path, monkeypatch):
    """An image, a truth of two halves, and the folder to work in."""
    monkeypatch.chdir(tmp_path)
    truth = np.ones((4, 6, 6), np.int64)
    truth[:, :, 3:] = 2
    for name, array in (("im", truth.astype(np.uint8)), ("truth", truth), ("seg", truth)):
        write(Path(f"{name}.h5"), array)
    return truth


def sources(**volumes):
    return open_sources(volumes, split="test")


def run(given, segmentations=None, metrics=None, **options):
    paths = segmentations or {source.name: Path("seg.h5") for source in given}
    defaults = {"folder": Path(), "force": False, "verify": False}
    return evaluate(paths, given, metrics=metrics or {"rand": RAND}, **defaults | options)


def records():
    return json.loads(Path("metrics.json").read_text())["records"]


def test_a_second_configuration_adds_a_record(halves, capsys):
    given = sources(a=VolumeConfig(image="im.h5", label="truth.h5"))
    first = run(given)
    assert first == {"a": dict.fromkeys(first["a"], pytest.approx(1))} | first
    assert first["a"]["adapted_rand_skimage"] == 0
    assert run(given) == first
    assert "not computed again" in capsys.readouterr().err
    assert len(records()) == 1
    both = run(given, metrics={"rand": RAND, "voi": VOI})
    assert len(records()) == 2
    assert both["a"] == first["a"] | {"voi_split": 0, "voi_merge": 0, "voi_sum": 0}
    halves[0] = 3
    write(Path("seg.h5"), halves)
    assert run(given)["a"]["adapted_rand_skimage"] > 0
    assert len(records()) == 3
    run(given, force=True)
    assert len(records()) == 3


def test_a_record_tells_what_was_judged(halves):
    attributes = {"format_version": 1, "fingerprint": "f", "decoding": {"threshold": 1}, "step": 4}
    write_volume("seg.h5", halves, axes="zyx", voxel_size=None, attributes=attributes)
    run(sources(a=VolumeConfig(image="im.h5", label="truth.h5")))
    (record,) = records().values()
    assert record["metrics"] == {"rand": RAND}
    told = record["segmentations"]["a"]
    assert (told["decoding"], told["step"]) == ({"threshold": 1}, 4)
    assert told["path"].startswith("seg.h5")
    assert [*record["contents"]] == ["truth.h5:main"]


def test_several_volumes_have_a_mean(halves):
    halves[0] = 3
    write(Path("other.h5"), halves)
    one = VolumeConfig(image="im.h5", label="truth.h5")
    bare = VolumeConfig(image="im.h5")
    paths = {"a": Path("seg.h5"), "b": Path("other.h5"), "bare": Path("seg.h5")}
    scores = run(sources(a=one, b=one, bare=bare), paths)
    assert [*scores] == ["a", "b", "mean"]
    for name, value in scores["mean"].items():
        assert value == pytest.approx((scores["a"][name] + scores["b"][name]) / 2)


def test_a_mean_skips_nothing_and_tells_of_what_is_not_finite(halves, capsys):
    write(Path("empty.h5"), np.zeros_like(halves))
    one = VolumeConfig(image="im.h5", label="truth.h5")
    names = {"a": "seg", "b": "empty", "c": "seg"}
    paths = {name: Path(f"{file}.h5") for name, file in names.items()}
    node = {"cleft": {"_target_": "emseg.evaluation.cremi_distance.cremi_distance"}}
    for _ in range(2):  # computed, then read back
        scores = run(sources(a=one, b=one, c=one), paths, metrics=node | {"rand": RAND})
        assert scores["mean"]["cremi_distance"] == scores["mean"]["cremi_adf"] == math.inf
        assert math.isnan(scores["mean"]["cremi_adgt"])
        assert scores["mean"]["cremi_false_negatives"] == halves.size / 3
        told = [line for line in capsys.readouterr().err.splitlines() if "finite" in line]
        assert len(told) == 1 and "cremi_distance (2 of 3), cremi_adgt (2 of 3)" in told[0]
        assert "cremi_false" not in told[0] and "rand" not in told[0]
    run(sources(b=one), paths, metrics=node)
    run(sources(a=one, c=one), paths, metrics=node)
    assert "finite" not in capsys.readouterr().err


def test_a_missing_voxel_size_is_named_before_any_prediction(halves):
    write_volume("bare.h5", halves, axes="zyx", voxel_size=None, attributes={})
    node = {"cleft": {"_target_": "emseg.evaluation.cremi_distance.cremi_distance"}}
    try_metrics(node | {"rand": RAND}, sources(a=VolumeConfig(image="im.h5", label="truth.h5")))
    with pytest.raises(UserError, match=r"set data\.test\.resolution"):
        try_metrics(node, sources(a=VolumeConfig(image="bare.h5", label="bare.h5")))


def test_no_label_no_evaluation(halves, capsys):
    assert run(sources(a=VolumeConfig(image="im.h5"))) == {}
    assert "evaluation skipped" in capsys.readouterr().err
    assert not Path("metrics.json").exists()


def test_infinite_and_missing_numbers_survive(halves, monkeypatch):
    wild = {"up": math.inf, "down": -math.inf, "none": math.nan, "one": 1.0}
    monkeypatch.setattr(stage, "score", lambda *_, **__: dict(wild))
    given = sources(a=VolumeConfig(image="im.h5", label="truth.h5"))
    for _ in range(2):  # computed, then read back
        scores = run(given)["a"]
        assert math.isnan(scores.pop("none"))
        assert scores == {"up": math.inf, "down": -math.inf, "one": 1.0}
    json.loads(Path("metrics.json").read_text(), parse_constant=pytest.fail)  # strict JSON
    assert "inf" in table({"a": wild}) and "nan" in table({"a": wild})


def test_what_is_left_out_at_borders_makes_another_record(halves):
    (given,) = sources(a=VolumeConfig(image="im.h5", label="truth.h5"))
    halves[:, :, 2] = 7
    write(Path("seg.h5"), halves)
    assert run([given])["a"]["adapted_rand_skimage"] > 0
    masked = replace(given, border_mask=BorderMask(mode="edt", distance=0.0))
    assert run([masked])["a"]["adapted_rand_skimage"] == 0
    plain, left_out = (record["truths"]["a"]["border_mask"] for record in records().values())
    assert (plain, left_out) == (None, {"mode": "edt", "distance": 0.0})


def test_the_unlabelled_counts_in_no_metric(halves):
    halves[:, 0] = 9
    write(Path("seg.h5"), halves)
    halves[:, 0], halves[:, 1] = 5, 0
    write(Path("truth.h5"), halves)
    given = sources(a=VolumeConfig(image="im.h5", label="truth.h5", unlabelled=5))
    cremi = "emseg.evaluation.cremi.cremi_score"
    nodes = {"a": {"_target_": cremi}, "b": {"_target_": cremi, "gt0": "ignored"}}
    found = run(given, metrics=nodes)["a"]
    assert found["cremi_score_gt0_ignored"] == 0
    # Background under the two segments is an object of its own, the unlabelled is none.
    known = np.where(halves == 0, 3, halves)[:, 1:]
    expected = cremi_score(open_volume("seg.h5")[...][:, 1:], known)
    assert found["cremi_voi_split"] == expected["cremi_voi_split"] > 0


def test_a_metric_that_looks_at_labels_gets_them(halves):
    given = sources(a=VolumeConfig(image="im.h5", label="truth.h5"))
    node = {"_target_": "stages.test_score.labels_wanted"}
    scores = run(given, metrics={"own": node, "voi": VOI}, allow=["stages"])["a"]
    assert scores == {"voxels": 2.0 * halves.size, "size": 30, **dict.fromkeys(VOI_NAMES, 0)}


@pytest.mark.parametrize(
    ("segmentation", "attributes", "told"),
    [
        (np.ones((4, 6, 5), np.uint8), {}, "shape"),
        (np.ones((4, 6, 6), np.float32), {}, "float32"),
        (np.ones((4, 6, 6), np.uint8), {"format_version": 7}, "format_version 7"),
    ],
)
def test_refused_segmentations(halves, segmentation, attributes, told):
    write_volume("seg.h5", segmentation, axes="zyx", voxel_size=None, attributes=attributes)
    with pytest.raises(UserError, match=told):
        run(sources(a=VolumeConfig(image="im.h5", label="truth.h5")))
    assert not Path("metrics.json").exists()


@pytest.mark.parametrize("text", ["{", '{"format_version": 9, "records": {}}', '{"accuracy": 1}'])
def test_a_metrics_file_that_is_not_ours_stays(halves, text):
    Path("metrics.json").write_text(text)
    with pytest.raises(UserError, match=r"metrics\.json"):
        run(sources(a=VolumeConfig(image="im.h5", label="truth.h5")))
    assert Path("metrics.json").read_text() == text


def test_decode_and_evaluate_go_on_from_the_checkpoint(experiment, work, capsys):
    for mode, missing in (("decode", "--mode infer"), ("evaluate", "--mode decode")):
        assert experiment.emseg(mode) == 2
        assert missing in capsys.readouterr().err
    for mode, made in (("infer", "prediction"), ("decode", "segmentation"), ("evaluate", None)):
        capsys.readouterr()
        assert experiment.emseg(mode) == 0
        if made:
            path = experiment.results.relative_to(experiment.folder) / f"test_im_{made}.h5"
            assert f"emseg: {made}: {path}\n" in capsys.readouterr().err
    assert work == ["infer", "decode", "evaluate"]
    assert experiment.emseg("test") == 0
    assert work == ["infer", "decode", "evaluate"]
    before = {*Path("outputs/tiny").iterdir()}
    Path("elsewhere.ckpt").write_bytes(experiment.checkpoint.read_bytes())
    capsys.readouterr()
    words = ["--checkpoint", "elsewhere.ckpt"]
    assert experiment.emseg("decode", *words, checkpoint=False) == 2
    assert "lies in no run" in capsys.readouterr().err
    assert {*Path("outputs/tiny").iterdir()} == before


@pytest.mark.parametrize(
    ("override", "after_infer", "after_decode"),
    [
        ("inference.window.overlap=0.5", "--mode infer", "--mode infer"),
        ("data.test.image=train.h5", "--mode infer", "--mode infer"),
        ("decoding.threshold=0.7", None, "--mode decode"),
    ],
)
def test_a_stage_alone_takes_no_stale_result(
    experiment, work, capsys, override, after_infer, after_decode
):
    for mode in ("infer", "decode"):
        assert experiment.emseg(mode) == 0
    work.clear()
    for mode, hint in (("evaluate", after_decode), ("decode", after_infer)):
        capsys.readouterr()
        assert experiment.emseg(mode, override) == (2 if hint else 0)
        told = capsys.readouterr().err
        if hint:
            assert hint in told and told.count("\n") == 1
    assert work == ([] if after_infer else ["decode"])


def test_decode_and_evaluate_go_on_from_a_file(experiment, work, capsys):
    experiment.emseg("infer")
    work.clear()
    Path("apart").mkdir()
    prediction = experiment.results / "test_im_prediction.h5"
    prediction.rename("apart/test_im_prediction.h5")
    words = ["--input", "apart/test_im_prediction.h5"]
    assert experiment.emseg("decode", *words, checkpoint=False) == 0
    words = ["--input", "apart/test_im_segmentation.h5"]
    for _ in range(2):
        assert experiment.emseg("evaluate", *words, checkpoint=False) == 0
    assert work == ["decode", "evaluate"]
    assert Path("apart/metrics.json").is_file()
    assert "results: apart" in capsys.readouterr().out


def test_a_segmentation_from_elsewhere_is_judged(experiment, work, capsys):
    truth = open_volume("test_labels.h5")[...]
    Path("apart").mkdir()
    other = np.where(truth > 6, 1, truth).astype(np.uint16)
    path = Path("apart/mine.h5")
    for dataset in ("main", "labels/final"):
        write_volume(path, other, axes="zyx", voxel_size=None, attributes={}, dataset=dataset)
        words = ["--input", f"{path}:{dataset}"]
        assert experiment.emseg("evaluate", *words, checkpoint=False) == 0
    kept = json.loads(Path("apart/metrics.json").read_text())["records"]
    assert len(kept) == 2
    wanted = adapted_rand(other, truth, variant="skimage")["adapted_rand_skimage"]
    for record in kept.values():
        found = record["volumes"]["test_im"]["adapted_rand_skimage"]
        assert found == pytest.approx(wanted)
        assert record["segmentations"]["test_im"]["decoding"] is None
    experiment.test_on({name: {"image": "test.h5"} for name in ("a", "b")})
    capsys.readouterr()
    assert experiment.emseg("evaluate", *words, checkpoint=False) == 2
    assert "no volume 'mine', but a, b" in capsys.readouterr().err


def test_volumes_by_name_have_files_by_name(experiment, work, capsys):
    one = {"image": "test.h5", "label": "test_labels.h5"}
    experiment.test_on({"a": one, "b": one | {"name": "second"}, "bare": {"image": "train.h5"}})
    assert experiment.emseg("test") == 0
    names = {path.name for path in experiment.results.iterdir()}
    for name in ("a", "second", "bare"):
        assert {f"{name}_prediction.h5", f"{name}_segmentation.h5"} <= names
    rows = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert rows == ["volume", "a", "second", "mean", "results:"]
    assert open_volume(experiment.results / "bare_segmentation.h5").shape == SHAPE
