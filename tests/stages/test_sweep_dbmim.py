"""The files of dbMiM's evaluation: rows made again by hand, means, the best, the config's own."""

import csv
import json

import numpy as np
import pytest
from skimage.metrics import adapted_rand_error, variation_of_information

from emseg.config import load
from emseg.datasets.dbmim_tables import summarized, variant_name
from emseg.stages import sweep_rows
from emseg.stages.decode_job import DecodeJob, labels_of
from emseg.volumes import open_volume
from reference.affinity import affinities_by_voxel
from stages.conftest import OFFSETS

THRESHOLDS = [0.3, 0.5, 0.7]
VARIANTS = {"pred": [0.0, 0.0, 0.0], "bias_z-0.50_y-1.00_x-1.00_t1.00": [-0.5, -1.0, -1.0]}
WORDS = (
    "decoding=agglomerate_sections",
    "evaluation/metrics=[voi,adapted_rand_skimage,counts,adapted_rand]",  # the last has no column
    "evaluation.border_mask={mode: square, distance: 1}",
    f"sweep.grid={{biases: {list(VARIANTS.values())}, thresholds: {THRESHOLDS}}}",
    "sweep.tables=dbmim",
    "decoding.thresholds=0.7",
    "decoding.biases=[0.0, 0.0, 0.0]",
)
LABELS = {"a": "test_labels.h5", "b": "train_labels.h5"}
# What the published rows have, but for what the page says is left out.
COLUMNS = (
    "sample affinity_variant calibration_bias_z calibration_bias_y calibration_bias_x "
    "calibration_temperature backend threshold waterz_scoring seed_distance boundary_threshold "
    "affinity_dice affinity_iou postprocess_sec adapted_rand_error rand_fscore rand_precision "
    "rand_recall voi_split voi_merge voi_sum n_pred n_gt n_voxels"
)


@pytest.fixture
def two(experiment):
    volumes = zip("ab", ("test.h5", "train.h5"), LABELS.values(), strict=True)
    experiment.test_on({name: {"image": i, "label": lab} for name, i, lab in volumes})
    return experiment


def read(experiment, name):
    path = experiment.results / name
    if path.suffix == ".json":
        return json.loads(path.read_text())
    with path.open() as file:
        return list(csv.DictReader(file))


def counted(truth):
    """The truth without what lies within a pixel of a border's two sides, as 0."""
    kept = truth.astype(np.int64)
    for z, y, x in np.ndindex(truth.shape):
        rows, columns = (range(max(at - 1, 0), at + 2) for at in (y, x))
        near = [(r, c) for r in rows for c in columns if r < truth.shape[1] and c < truth.shape[2]]
        if any(at_border(truth[z], r, c) for r, c in near):
            kept[z, y, x] = 0
    return kept


def at_border(section, y, x):
    around = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
    inside = [(r, c) for r, c in around if 0 <= r < len(section) and 0 <= c < section.shape[1]]
    return any(section[place] != section[y, x] for place in inside)


def truth_of(sample):
    """The stored truth, what of it is counted, and its pairs: joined, and inside."""
    stored = open_volume(LABELS[sample])[...].astype(np.int64)
    same, known = affinities_by_voxel(stored, OFFSETS[:3], "destination")
    return counted(stored), same[known] == 1, known


def by_hand(experiment, decoder, row, truth, same, known):
    """The scores of a row: decoded anew, and scored by scikit-image."""
    biases = [row[f"calibration_bias_{axis}"] for axis in "zyx"]
    decoding = decoder | {"thresholds": row["threshold"], "biases": biases}
    path = experiment.results / f"{row['sample']}_prediction.h5"
    labels = labels_of(DecodeJob(path, decoding, None)).astype(np.int64)
    error, precision, recall = adapted_rand_error(truth, labels, ignore_labels=(0,))
    split, merge = variation_of_information(truth, labels, ignore_labels=(0,))
    p = open_volume(path)[...][:3].astype(np.float64)
    joined = (p / (p + (1 - p) * np.exp(-np.array(biases).reshape(3, 1, 1, 1))) >= 0.5)[known]
    both, either = (joined & same).sum(), (joined | same).sum()
    return {
        "adapted_rand_error": error,
        "rand_fscore": 1 - error,
        "rand_precision": precision,
        "rand_recall": recall,
        "voi_split": split,
        "voi_merge": merge,
        "voi_sum": split + merge,
        "n_pred": len(np.unique(labels[truth > 0])),
        "n_gt": len(np.unique(truth[truth > 0])),
        "n_voxels": np.count_nonzero(truth),
        "affinity_dice": 2 * both / (joined.sum() + same.sum()),
        "affinity_iou": both / either,
    }


def test_the_published_files_are_there_and_each_row_is_as_by_hand(two):
    assert two.emseg("sweep", *WORDS) == 0
    records = read(two, "cremi_segmentation_records.json")
    assert len(records) == 2 * 2 * 3
    truths = {sample: truth_of(sample) for sample in LABELS}
    decoder = load(two.config, mode="test", overrides=WORDS).root.decoding
    for row in records:
        assert {*row} == {*COLUMNS.split()}
        assert (row["backend"], row["waterz_scoring"]) == ("numba", "hist_quant_50")
        assert (row["seed_distance"], row["boundary_threshold"]) == (12, 0.5)
        biases = [row[f"calibration_bias_{axis}"] for axis in "zyx"]
        assert VARIANTS[row["affinity_variant"]] == biases and row["calibration_temperature"] == 1
        found = by_hand(two, decoder, row, *truths[row["sample"]])
        assert {name: row[name] for name in found} == pytest.approx(found, abs=1e-12)
    table = read(two, "cremi_segmentation_metrics.csv")
    told = [{name: str(value) for name, value in row.items()} for row in records]
    assert table == told
    check_summary(read(two, "cremi_segmentation_summary.json"), records)
    stats = read(two, "cremi_affinity_stats.csv")
    assert [(row["sample"], row["affinity_variant"]) for row in stats] == [
        (sample, variant) for sample in "ab" for variant in VARIANTS
    ]
    for told in stats:
        own = [
            row for row in records if told.items() <= {k: str(v) for k, v in row.items()}.items()
        ]
        assert len(own) == 3


def check_summary(summary, records):
    assert summary["num_records"] == 12 and summary["failures"] == []
    assert [told["sample"] for told in summary["sample_records"]] == ["a", "b"]
    assert len(summary["affinity_records"]) == 4
    assert [mean["threshold"] for mean in summary["per_threshold"]] == THRESHOLDS
    groups = summary["per_threshold"] + summary["per_backend_threshold"]
    assert [mean["n"] for mean in groups] == [4] * 3 + [2] * 6
    for mean in groups:
        own = [row for row in records if all(row.get(k, v) == v for k, v in told(mean))]
        assert len(own) == mean["n"]
        for score in ("voi_sum", "adapted_rand_error", "affinity_iou", "postprocess_sec"):
            assert mean[score] == pytest.approx(np.mean([row[score] for row in own]))
    for name, score in (("voi_sum", "voi_sum"), ("adapted_rand", "adapted_rand_error")):
        least = min(mean[score] for mean in summary["per_backend_threshold"])
        assert summary[f"best_by_{name}"][score] == least
    own = summary["configured"]
    assert (own["affinity_variant"], own["threshold"]) == ("pred", 0.7)
    assert own in summary["per_backend_threshold"]


def told(mean):
    """What says of which rows the mean is."""
    return [(k, v) for k, v in mean.items() if k in ("affinity_variant", "threshold")]


def test_a_combination_that_fails_on_a_volume_is_told_and_is_not_the_best(two, monkeypatch):
    real = sweep_rows.scores_by_value

    def failing(task, arguments, swept):
        better = arguments["biases"] == VARIANTS["pred"]
        if task.source.name == "b" and better:
            raise sweep_rows.UserError("too many edges")
        found = real(task, arguments, swept)
        worse = {"voi_sum": -1.0, "adapted_rand_skimage": -1.0} if better else {}
        return {value: scores | worse for value, scores in found.items()}

    monkeypatch.setattr(sweep_rows, "scores_by_value", failing)
    assert two.emseg("sweep", *WORDS) == 0
    summary = read(two, "cremi_segmentation_summary.json")
    assert summary["num_records"] == 9
    for name in ("best_by_voi_sum", "best_by_adapted_rand"):
        assert summary[name]["affinity_variant"] != "pred"
    assert summary["configured"] is None  # it is one of those that failed
    assert [row["threshold"] for row in summary["failures"]] == THRESHOLDS
    assert {
        (row["sample"], row["affinity_variant"], row["error"]) for row in summary["failures"]
    } == {("b", "pred", "too many edges")}


def test_arguments_without_a_column_in_the_tables_keep_theirs_apart():
    row = {"affinity_variant": "pred", "threshold": 0.5, "adapted_rand_error": 0.1}
    rows = [row | {"dust_merge_size": size, "voi_sum": float(size)} for size in (0, 8, 0, 8)]
    found = summarized(rows, own={"dust_merge_size": 8}, n=2)
    assert [(m["dust_merge_size"], m["n"]) for m in found["per_backend_threshold"]] == [
        (0, 2),
        (8, 2),
    ]
    assert found["per_threshold"][0]["n"] == 4
    assert found["best_by_voi_sum"]["dust_merge_size"] == 0
    assert found["configured"]["voi_sum"] == 8.0


@pytest.mark.parametrize(
    ("calibration", "name"),
    [
        ([-0.5, -1.0, -1.0, 1.0], "bias_z-0.50_y-1.00_x-1.00_t1.00"),
        ([0.0, 0.0, 0.0, 1.0], "pred"),
        ([0, 0, 0, 1.5], "bias_z0.00_y0.00_x0.00_t1.50"),
        ([0.125, 0.0, 0.0, 1.0], "bias_z0.125_y0.00_x0.00_t1.00"),
    ],
)
def test_calibrations_have_their_published_names(calibration, name):
    assert variant_name(calibration) == name
