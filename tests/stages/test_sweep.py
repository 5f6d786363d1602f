"""Every combination of a grid on every volume: rows, means, the best, and what goes wrong."""

import csv
import json
import re

import numpy as np
import pytest

from emseg.config import load
from emseg.stages import sweep_rows as module
from emseg.stages.decode_job import DecodeJob, labels_of
from emseg.stages.scores import build_metrics, score
from emseg.volumes import open_volume

BACKENDS = ("numba", "torch")
GRID = (
    "sweep.name=grid",
    "sweep.grid={threshold: [0.7, 0.3, 0.5], backend: [numba, torch]}",
    "sweep.best={voi_sum: minimize, adapted_rand_skimage: minimize}",
)
PUBLISHED = (
    "decoding=agglomerate_sections",
    "decoding.biases=[0.0, 0.0, 0.0]",
    "sweep.grid={thresholds: [0.5]}",
    "sweep.tables=dbmim",
)
SELECTED = "inference.model.select_channel=[2, 1, 0]"


@pytest.fixture
def two(experiment):
    experiment.test_on(
        {
            "a": {"image": "test.h5", "label": "test_labels.h5"},
            "b": {"image": "train.h5", "label": "train_labels.h5"},
        }
    )
    return experiment


def files(experiment):
    folder = experiment.results
    with (folder / "grid_metrics.csv").open() as file:
        table = list(csv.DictReader(file))
    records, summary = (
        json.loads((folder / f"grid_{name}.json").read_text()) for name in ("records", "summary")
    )
    return records, table, summary


@pytest.fixture
def decoded(monkeypatch):
    """The (volume, arguments) that were decoded."""
    done, real = [], module.scores_by_value

    def noting(task, arguments, swept):
        done.append((task.source.name, arguments["backend"]))
        return real(task, arguments, swept)

    monkeypatch.setattr(module, "scores_by_value", noting)
    return done


def test_each_row_is_what_decoding_and_scoring_by_hand_give(two):
    assert two.emseg("sweep", *GRID) == 0
    records, table, summary = files(two)
    assert len(records) == len(table) == 2 * 3 * 2
    root = load(two.config, mode="test", overrides=[]).root
    metrics = build_metrics(root.evaluation.metrics)
    for row in records:
        truth = open_volume({"a": "test_labels.h5", "b": "train_labels.h5"}[row["sample"]])
        decoding = root.decoding | {"threshold": row["threshold"], "backend": row["backend"]}
        job = DecodeJob(two.results / f"{row['sample']}_prediction.h5", decoding, None)
        scores = score(labels_of(job), truth[...], metrics=metrics, voxel_size=(30, 6, 6))
        assert {name: row[name] for name in scores} == pytest.approx(scores)
    for row, line in zip(records, table, strict=True):
        assert {name: str(value) for name, value in row.items()} == line


def test_the_summary_has_means_over_volumes_and_the_best_of_them(two):
    assert two.emseg("sweep", *GRID) == 0
    records, _, summary = files(two)
    assert len(summary["combinations"]) == 6 and summary["failures"] == []
    for mean in summary["combinations"]:
        own = [
            row
            for row in records
            if (row["threshold"], row["backend"]) == (mean["threshold"], mean["backend"])
        ]
        assert mean["n"] == len(own) == 2
        assert mean["voi_sum"] == pytest.approx(np.mean([row["voi_sum"] for row in own]))
    for name in ("voi_sum", "adapted_rand_skimage"):
        least = min(mean[name] for mean in summary["combinations"])
        assert summary[f"best_by_{name}"][name] == least


def test_what_is_there_is_not_made_again_and_a_killed_sweep_goes_on(two, decoded, monkeypatch):
    assert two.emseg("sweep", *GRID) == 0
    whole = files(two)
    assert decoded == [(name, backend) for name in "ab" for backend in BACKENDS]
    decoded.clear()
    assert two.emseg("sweep", *GRID) == 0
    assert decoded == [] and files(two) == whole

    counting = module.scores_by_value

    def killed(*words):
        if len(decoded) == 3:
            raise KeyboardInterrupt
        return counting(*words)

    with monkeypatch.context() as patch:
        patch.setattr(module, "scores_by_value", killed)
        two.emseg("sweep", *GRID, "--force")
    assert len(decoded) == 3
    decoded.clear()
    assert two.emseg("sweep", *GRID) == 0
    assert decoded == [("b", "torch")]
    seconds = [{**row, "seconds": 0} for row in files(two)[0]]
    assert seconds == [{**row, "seconds": 0} for row in whole[0]]


def test_another_grid_keeps_the_rows_that_are_its_own(two, decoded):
    assert two.emseg("sweep", *GRID) == 0
    decoded.clear()
    fewer = [word.replace("[numba, torch]", "[torch]") for word in GRID]
    fewer += ["decoding.backend=torch", "decoding.threshold=0.3"]
    assert two.emseg("sweep", *fewer) == 0
    assert decoded == [] and len(files(two)[0]) == 6
    # Another metric is another row.
    more = "evaluation/metrics=[adapted_rand_skimage,voi,cremi_score]"
    assert two.emseg("sweep", *fewer, more) == 0
    assert decoded == [("a", "torch"), ("b", "torch")]


def test_a_combination_that_fails_on_a_volume_is_not_the_best(two, monkeypatch):
    real = module.scores_by_value

    def failing(task, arguments, swept):
        if task.source.name == "b" and arguments["backend"] == "numba":
            raise module.UserError("too many edges")
        found = real(task, arguments, swept)
        better = arguments["backend"] == "numba"
        return {v: s | ({"voi_sum": -1.0} if better else {}) for v, s in found.items()}

    monkeypatch.setattr(module, "scores_by_value", failing)
    assert two.emseg("sweep", *GRID) == 0
    _, _, summary = files(two)
    assert summary["best_by_voi_sum"]["backend"] == "torch"
    assert {row["failure"] for row in summary["failures"]} == {"too many edges"}
    assert [row["sample"] for row in summary["failures"]] == ["b"] * 3
    assert {mean["n"] for mean in summary["combinations"]} == {1, 2}


def test_the_config_as_it_stands_is_scored_beside_the_grid(two, decoded):
    assert two.emseg("sweep", *GRID, "decoding.threshold=0.7") == 0
    records, _, summary = files(two)
    (own,) = [
        m for m in summary["combinations"] if (m["threshold"], m["backend"]) == (0.7, "numba")
    ]
    assert len(records) == 12 and summary["configured"] == own
    decoded.clear()
    # What the grid has not gets a row a volume.
    assert two.emseg("sweep", *GRID, "decoding.threshold=0.6") == 0
    records, _, summary = files(two)
    added = [row for row in records if row["threshold"] == 0.6]
    assert len(records) == 14 and [row["sample"] for row in added] == ["a", "b"]
    assert {row["backend"] for row in added} == {"numba"} == {summary["configured"]["backend"]}
    mean = np.mean([row["voi_sum"] for row in added])
    assert summary["configured"]["voi_sum"] == pytest.approx(mean)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "sweep.grid is empty"),
        (
            ("sweep.grid={thresold: [0.5]}",),
            "unknown argument .* 'thresold' in sweep.grid; did you",
        ),
        (("sweep.grid={threshold.0: [0.5]}",), "argument .* 'threshold.0' in sweep.grid"),
        ((*PUBLISHED, "sweep.grid={biases.3: [0]}"), "argument .* 'biases.3' in sweep.grid"),
        ((*PUBLISHED, "sweep.grid={biases.z: [0]}"), "argument .* 'biases.z' in sweep.grid"),
        (
            (*PUBLISHED, "sweep.grid={biases: [[1, 1, 1]], biases.0: [0]}"),
            "sweep.grid: 'biases.0' is a part of 'biases'",
        ),
        (
            ("sweep.grid={biases: [0.5]}", "decoding.biases=[0.0, 0.0, 0.0]"),
            "sweep.grid: decoding.biases: expected",
        ),
        (("sweep.grid={threshold: []}",), "sweep.grid.threshold.* at least one value"),
        (("sweep.grid={threshold: [0.5, 0.5]}",), "sweep.grid.threshold.* values that differ"),
        (("sweep.grid={threshold: [0.5, 2.0]}",), "sweep.grid: .*threshold.*2.0"),
        (
            ("sweep.grid={threshold: [0.5]}", "sweep.best={vio: minimize}"),
            "score 'vio' in sweep.best",
        ),
        (("sweep.grid={threshold: [0.5]}", "data.test.label=null"), "has no label"),
        (
            ("sweep.grid={threshold: [0.5]}", "sweep.tables=dbmim"),
            "sweep.tables=dbmim is for decoding=agglomerate_sections",
        ),
        ((*PUBLISHED, "decoding.biases=null"), "columns of biases: decoding.biases"),
        ((*PUBLISHED, "sweep.name=cremi_segmentation"), "sweep.name is cremi_segmentation, "),
        (PUBLISHED, "score 'n_pred' in sweep.tables=dbmim, from evaluation.metrics"),
        (
            (*PUBLISHED, "evaluation/metrics=[voi,adapted_rand_skimage,counts]", SELECTED),
            "no inference.model.select_channel",
        ),
    ],
)
def test_mistakes_are_told_before_anything_is_predicted(experiment, words, message, work, capsys):
    assert experiment.emseg("sweep", *words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(message, line), line
    assert work == [] and not list(experiment.run.glob("results_*"))
