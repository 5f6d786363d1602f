"""Numbers of several metrics from labels or from one table, and how they are printed."""

from functools import partial

import numpy as np
import pytest

from emseg.evaluation import contingency
from emseg.evaluation.adapted_rand import adapted_rand
from emseg.evaluation.voi import voi
from emseg.stages.evaluate import table
from emseg.stages.scores import better_when, build_metrics, score


def labels_wanted(segmentation, truth, *, voxel_size):
    return {"voxels": float(segmentation.size + truth.size), "size": voxel_size[0]}


def test_a_table_is_enough_where_no_metric_looks_at_labels():
    halves = np.repeat([[1, 1, 2], [2, 2, 2]], 3, axis=0)
    found = {"metrics": [partial(adapted_rand), partial(voi)], "voxel_size": None}
    table = contingency(halves, halves)
    assert score(None, None, table=table, **found) == score(halves, halves, **found)
    other = contingency(halves, np.flip(halves) // 2)
    assert score(halves, halves, table=other, **found) == score(None, None, table=other, **found)


def test_the_table_is_aligned():
    rows = table({"a": {"rand": 0.5, "voi_split": 10.25}, "longer": {"rand": 1.0, "voi_split": 2}})
    assert rows.split("\n") == [
        "volume    rand  voi_split",
        "a       0.5000    10.2500",
        "longer  1.0000     2.0000",
    ]


def test_many_numbers_are_lines():
    row = {f"instance_precision_{at}": float(at) for at in range(9)}
    lines = table({"a": row, "mean": row}).split("\n")
    assert lines[0] == "volume                     a    mean"
    assert lines[3] == "instance_precision_2  2.0000  2.0000"


@pytest.mark.parametrize(
    ("name", "metric", "better"),
    [
        ("voi_sum", "emseg.evaluation.voi.voi", "minimize"),
        ("voi_split", "emseg.evaluation.voi.voi", "minimize"),
        ("adapted_rand", "emseg.evaluation.adapted_rand.adapted_rand", "minimize"),
        ("adapted_rand_precision", "emseg.evaluation.adapted_rand.adapted_rand", "maximize"),
        ("jaccard", "emseg.evaluation.jaccard.jaccard", "maximize"),
        ("cremi_distance", "emseg.evaluation.cremi_distance.cremi_distance", "minimize"),
        ("cremi_truth_voxels", "emseg.evaluation.cremi_distance.cremi_distance", None),
        ("instance_f1_0.5", "emseg.evaluation.matching.instance_matching", "maximize"),
        ("instance_fn_0.5", "emseg.evaluation.matching.instance_matching", "minimize"),
        ("synapse_f1_0.5", "emseg.evaluation.polarity.polarity_matching", "maximize"),
        ("nerl", "emseg.evaluation.erl.nerl", "maximize"),
    ],
)
def test_which_way_a_number_is_better(name: str, metric: str, better: str | None) -> None:
    assert better_when(build_metrics({"one": {"_target_": metric}}), name) == better
