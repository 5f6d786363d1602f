"""Numbers of several metrics from labels or from one table, and how they are printed."""

from functools import partial

import numpy as np
import pytest

from emseg.errors import UserError
from emseg.evaluation import contingency
from emseg.evaluation.adapted_rand import adapted_rand
from emseg.evaluation.voi import voi
from emseg.stages.evaluate import table
from emseg.stages.scores import score


def labels_wanted(segmentation, truth, *, voxel_size):
    return {"voxels": float(segmentation.size + truth.size), "size": voxel_size[0]}


def test_a_table_is_enough_where_no_metric_looks_at_labels():
    halves = np.repeat([[1, 1, 2], [2, 2, 2]], 3, axis=0)
    found = {"metrics": [partial(adapted_rand), partial(voi)], "voxel_size": None}
    table = contingency(halves, halves)
    assert score(None, None, table=table, **found) == score(halves, halves, **found)
    other = contingency(halves, np.flip(halves) // 2)
    assert score(halves, halves, table=other, **found) == score(None, None, table=other, **found)
    with pytest.raises(UserError, match="labels_wanted looks at the labels themselves"):
        score(None, None, metrics=[partial(labels_wanted)], voxel_size=None, table=table)


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
