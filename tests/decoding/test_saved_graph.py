import h5py
import numpy as np
import pytest

from emseg.decoding.agglomerate import Agglomerate
from emseg.decoding.agglomeration import saved_graph
from emseg.decoding.agglomeration.saved_graph import labels_by_graph
from emseg.errors import UserError
from emseg.kernels.region_edges import SUM_UNIT

FACTS = {"offsets": [(1, 0, 0), (0, 1, 0), (0, 0, 1)], "edge_side": "destination"}


@pytest.fixture
def prediction():
    return np.random.default_rng(0).random((3, 8, 20, 20), np.float32)


@pytest.mark.parametrize("merge_function", ["mean", "aff50_his256", "hist_quant_50"])
def test_any_threshold_comes_from_one_graph(tmp_path, prediction, merge_function, monkeypatch):
    path = tmp_path / "im_graph.h5"
    for number, more in enumerate(
        [{"thresholds": 0.4}, {"thresholds": 0.7}, {"thresholds": 1.0, "dust_merge_size": 9}]
    ):
        decoder = Agglomerate(merge_function=merge_function, save_graph=True, **more)
        if number == 1:
            # From here on nothing is made from the prediction.
            monkeypatch.setattr(Agglomerate, "make_fragments", None)
        found = labels_by_graph(decoder, path, "of this", prediction, **FACTS)
        fresh = Agglomerate(merge_function=merge_function, **more)(prediction, **FACTS)
        np.testing.assert_array_equal(found, fresh)


@pytest.mark.parametrize("change", ["key", "merge_function", "aff_threshold", "branches"])
def test_a_graph_of_something_else_is_replaced(tmp_path, prediction, change):
    path, settings, key = tmp_path / "im_graph.h5", {"merge_function": "mean"}, "of this"
    labels_by_graph(Agglomerate(**settings), path, key, prediction, **FACTS)
    before = path.read_bytes()
    prediction = np.sqrt(prediction) if change == "key" else prediction
    key = "of that" if change == "key" else key
    settings |= {
        "key": {},
        "merge_function": {"merge_function": "aff50_his256"},
        "aff_threshold": {"aff_threshold": (0.3, 0.9)},
        "branches": {"iou_threshold": 0.5},
    }[change]
    found = labels_by_graph(Agglomerate(**settings), path, key, prediction, **FACTS)
    np.testing.assert_array_equal(found, Agglomerate(**settings)(prediction, **FACTS))
    assert path.read_bytes() != before


def test_what_the_file_says(tmp_path, prediction):
    path = tmp_path / "im_graph.h5"
    decoder = Agglomerate(merge_function="mean")
    labels_by_graph(decoder, path, "of this", prediction, **FACTS)
    with h5py.File(path) as file:
        fragments, edges = file["fragments"][...], file["edges"][...]
        assert (edges["u"] < edges["v"]).all()
        means = edges["sum"] / edges["count"] / SUM_UNIT
        np.testing.assert_allclose(file["scores"][...], 1 - means, atol=1e-6)
        np.testing.assert_array_equal(file["sizes"][...], np.bincount(fragments.ravel()))
        merged = file["parents"][...] != np.arange(len(file["parents"]))
        np.testing.assert_array_equal(merged, np.isfinite(file["heights"][...]))


def test_another_file_is_not_overwritten(tmp_path, prediction):
    path = tmp_path / "im_graph.h5"
    for content in (b"notes", None):
        if content is None:
            with h5py.File(path, "w") as file:
                file["main"] = np.ones(3)
            content = path.read_bytes()
        else:
            path.write_bytes(content)
        with pytest.raises(UserError, match=r"im_graph\.h5"):
            labels_by_graph(Agglomerate(), path, "of this", prediction, **FACTS)
        assert path.read_bytes() == content


def test_a_killed_write_leaves_the_graph_of_before(tmp_path, prediction, monkeypatch):
    path = tmp_path / "im_graph.h5"
    labels_by_graph(Agglomerate(), path, "of this", prediction, **FACTS)
    before = path.read_bytes()

    def killed(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(saved_graph.h5py, "File", killed)
    with pytest.raises(KeyboardInterrupt):
        labels_by_graph(Agglomerate(), path, "of that", prediction, **FACTS)
    assert path.read_bytes() == before
