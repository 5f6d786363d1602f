"""A sound experiment with files of every kind that emseg reads; drawn cases spoil copies of it."""

import pickle
import shutil
from pathlib import Path

import h5py
import networkx as nx
import numpy as np
import tifffile
import zarr

from bad_input.spoilt import CHECKPOINT, LABELS, SHAPE, TUTORIAL, write
from emseg.cli import main
from emseg.volumes import write_volume

RESULTS = "outputs/tiny/run/results_step=1"
PREDICTION = f"{RESULTS}/test_im_prediction.h5"
SEGMENTATION = f"{RESULTS}/test_im_segmentation.h5"
FOUND_STUDY = "outputs/tiny/run/tune/tiny_tuning.sqlite3"
STUDY = ("tune.n_trials=2", "tune.n_startup_trials=1", "tune.trial_timeout=null")


def make_sound() -> None:
    """The current folder, empty before, holds the experiment: trained, tested and tuned."""
    Path("tiny.yaml").write_text(TUTORIAL)
    raw = np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8)
    write("raw.h5", raw)
    write("labels.h5", LABELS)
    write("mask.h5", np.ones(SHAPE, np.uint8))
    _run()
    next(Path("outputs/tiny").iterdir()).rename("outputs/tiny/run")
    _run("--mode", "test", "--checkpoint", CHECKPOINT)
    _run("--mode", "tune", "--checkpoint", CHECKPOINT, *STUDY)
    _write_other_formats(raw)
    _write_skeletons()


def copy_sound(source: Path, target: Path) -> None:
    """A copy that may be spoilt; what is linked or special in it stays so."""
    shutil.copytree(source, target, symlinks=True)


def _run(*words: str) -> None:
    code = main(["--config", "tiny.yaml", *words])
    assert code == 0, f"the sound experiment fails: {words}"


def _write_other_formats(raw: np.ndarray) -> None:
    for name, array in (("raw", raw), ("labels", LABELS)):
        write_volume(f"{name}.zarr", array, axes="zyx", voxel_size=(10, 10, 10), attributes={})
        tifffile.imwrite(f"{name}.tif", array)
        _write_second_version(Path(f"{name}_v2.zarr"), array)
    with h5py.File("linked.h5", "w") as file:
        file["external"] = h5py.ExternalLink("raw.h5", "main")
        layout = h5py.VirtualLayout(SHAPE, np.uint8)
        layout[...] = h5py.VirtualSource("raw.h5", "main", SHAPE)
        file.create_virtual_dataset("virtual", layout)


def _write_second_version(folder: Path, array: np.ndarray) -> None:
    axes = [{"name": name, "type": "space", "unit": "nanometer"} for name in "zyx"]
    scale = [{"type": "scale", "scale": [10, 10, 10]}]
    datasets = [{"path": "0", "coordinateTransformations": scale}]
    scales = [{"version": "0.4", "axes": axes, "datasets": datasets}]
    group = zarr.create_group(str(folder), zarr_format=2, attributes={"multiscales": scales})
    stored = group.create_array("0", shape=array.shape, dtype=array.dtype, chunks=(6, 12, 12))
    stored[...] = array


def _write_skeletons() -> None:
    path = [(2, 2, 2), (5, 9, 9), (9, 9, 20)]
    graph = nx.Graph()
    for node, place in enumerate(path):
        graph.add_node(node, id=1, index_position=place)
    graph.add_edges_from([(0, 1), (1, 2)])
    with Path("skeletons.pkl").open("wb") as file:
        pickle.dump(graph, file)
    nm = np.array(path, float) * 10
    arrays = {"1/vertices_nm_zyx": nm, "1/edges": np.array([[0, 1], [1, 2]])}
    np.savez("skeletons.npz", **arrays)
    rows = [f"{n + 1} 2 {x} {y} {z} 1 {n if n else -1}" for n, (z, y, x) in enumerate(nm)]
    Path("skeletons.swc").write_text("\n".join(rows) + "\n")
