"""A prediction larger than memory: decoded slab by slab, resumed after a kill, the same labels."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from emseg.blocks import in_threads
from emseg.blocks.executors import Place
from emseg.config.schema import System
from emseg.decoding.agglomerate import Agglomerate
from emseg.decoding.agglomeration.saved_graph import SavedGraph
from emseg.errors import UserError
from emseg.runs.folder_store import FolderStore
from emseg.stages import decode as stage
from emseg.stages import decode_blocks
from emseg.stages.decode import decode, decode_shard
from emseg.stages.decode_job import DecodeJob, decoder_input, labels_of
from emseg.volumes import PartialVolume, cells, open_volume, write_volume
from stages.nearest_facts import FACTS

AGGLOMERATE = {
    "_target_": "emseg.decoding.agglomerate.agglomerate",
    "merge_function": "mean",
    "aff_threshold": [0.1, 0.9],
}
BRANCHES = AGGLOMERATE | {"iou_threshold": 0.3, "best_buddy": True, "branch_affinity": 0.4}
COMPONENTS = {"_target_": "emseg.decoding.affinity_cc.affinity_cc", "threshold": 0.6}
SHAPE, HALVES = (40, 16, 16), ((0, 8), (8, 16))
LITTLE = 300_000 / 2**30  # GiB: less than the prediction and its labels


@pytest.fixture
def prediction(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    values = np.random.default_rng(0).random((3, *SHAPE), np.float32)
    write_volume("im_prediction.h5", values, axes="czyx", voxel_size=None, attributes=FACTS)
    return Path("im_prediction.h5")


def segmented(prediction, leaf, memory, *, force=False, executor="serial"):
    job = DecodeJob(
        prediction, leaf, None, memory=memory, system=System(executor=executor, processes=2)
    )
    target = Path("im_segmentation.h5")
    target.unlink(missing_ok=True)
    return open_volume(decode(job, segmentation=target, force=force, verify=False))[...]


@pytest.mark.parametrize("leaf", [AGGLOMERATE, BRANCHES, COMPONENTS])
def test_little_memory_gives_the_labels_of_much(prediction, leaf, monkeypatch):
    slabs = []
    keep = FolderStore.save

    def noting(store, block, *rest):
        slabs.append(block.shape)
        keep(store, block, *rest)

    monkeypatch.setattr(FolderStore, "save", noting)
    whole = segmented(prediction, leaf, None)
    assert slabs == [] and whole.max() > 10
    np.testing.assert_array_equal(segmented(prediction, leaf, LITTLE), whole)
    assert len(slabs) > 2 and all(shape[1:] == SHAPE[1:] for shape in slabs)
    assert {path.name for path in Path().iterdir()} == {"im_prediction.h5", "im_segmentation.h5"}


@pytest.mark.parametrize("leaf", [BRANCHES, COMPONENTS])
def test_large_sections_are_decoded_in_boxes_of_cells(prediction, leaf, monkeypatch):
    whole = segmented(prediction, leaf, None)
    monkeypatch.setattr(cells, "SIDE", 8)
    monkeypatch.setattr(decode_blocks, "default_chunks", lambda shape: (4, 4, 4))
    write, areas = PartialVolume.write, []

    def noted(volume, start, labels, area):
        areas.append((start, area))
        write(volume, start, labels, area)
        if len(areas) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(PartialVolume, "write", noted)
    with pytest.raises(KeyboardInterrupt):
        segmented(prediction, leaf, 60_000 / 2**30)
    np.testing.assert_array_equal(segmented(prediction, leaf, 60_000 / 2**30), whole)
    # One of the parts that were written before was not complete, or all were.
    assert len({*areas}) >= len(areas) - 1
    assert {area for _, area in areas} == {(y, x) for y in HALVES for x in HALVES}


@pytest.mark.parametrize(
    ("leaf", "executor"), [(BRANCHES, "process"), (COMPONENTS, "process"), (AGGLOMERATE, "dask")]
)
def test_workers_label_the_blocks(prediction, leaf, executor, monkeypatch):
    whole = segmented(prediction, leaf, None)

    def here(*_):
        raise AssertionError("a block was labelled by the main process")

    monkeypatch.setattr(FolderStore, "save", here)
    found = segmented(prediction, leaf, LITTLE, executor=executor)
    np.testing.assert_array_equal(found, whole)
    assert {path.name for path in Path().iterdir()} == {"im_prediction.h5", "im_segmentation.h5"}


@pytest.mark.parametrize("leaf", [BRANCHES, COMPONENTS, AGGLOMERATE])
@pytest.mark.parametrize("executor", ["serial", "process"])
def test_shards_label_their_blocks_once(prediction, leaf, executor, monkeypatch):
    whole, target = segmented(prediction, leaf, None), Path("im_segmentation.h5")
    target.unlink()
    saved, save = [], FolderStore.save

    def noted(store, block, *rest):
        saved.append(block.index)
        save(store, block, *rest)

    monkeypatch.setattr(FolderStore, "save", noted)
    system = System(executor=executor, processes=2)
    job = DecodeJob(prediction, leaf, None, memory=LITTLE, system=system, shard=(1, 1))
    made = []
    for number in (3, 3, 1, 2, 1):
        monkeypatch.setattr(decode_blocks, "cores", lambda number=number: number)  # other machines
        one = replace(job, shard=(number, 3))
        made.append(decode_shard(one, segmentation=target, verify=False))
    assert made == [None, None, None, target, target]
    np.testing.assert_array_equal(open_volume(target)[...], whole)
    assert len(saved) == len({*saved}) and (len(saved) > 3) == (executor == "serial")
    assert {path.name for path in Path().iterdir()} == {"im_prediction.h5", "im_segmentation.h5"}


def test_shards_need_one_memory(prediction, monkeypatch):
    monkeypatch.setattr(stage, "_takes_blocks", lambda *_: True)
    job = DecodeJob(prediction, AGGLOMERATE, None, shard=(1, 2))
    with pytest.raises(UserError, match="set system.memory"):
        decode_shard(job, segmentation=Path("im_segmentation.h5"), verify=False)


def test_a_job_that_is_run_again_labels_nothing_again(prediction, monkeypatch):
    saved, save = [], FolderStore.save

    def noting(store, block, *rest):
        saved.append(block.index)
        save(store, block, *rest)

    def twice(jobs, *_):
        for job in [*jobs.waiting, *jobs.waiting]:
            jobs.function(job, Place(0, 1))
            yield

    monkeypatch.setattr(FolderStore, "save", noting)
    monkeypatch.setattr(decode_blocks, "done_by_workers", twice)
    found = segmented(prediction, AGGLOMERATE, LITTLE, executor="process")
    assert len(saved) > 2 and len(set(saved)) == len(saved)
    np.testing.assert_array_equal(found, segmented(prediction, AGGLOMERATE, None))


def test_a_mask_needs_no_workers(prediction):
    leaf = {"_target_": "emseg.decoding.binary.binary", "threshold": 0.5}
    job = DecodeJob(prediction, leaf, [0], memory=1e-6, system=System(executor="process"))
    found = decode(job, segmentation=Path("im_segmentation.h5"), force=False, verify=False)
    np.testing.assert_array_equal(
        open_volume(found)[...], open_volume(prediction)[...][0] > np.float32(0.5)
    )


class Killed(BaseException):
    """The end of the process, as far as the code can tell."""


@pytest.mark.parametrize("leaf", [AGGLOMERATE, BRANCHES, COMPONENTS])
@pytest.mark.parametrize("at", ["save", "labels"])
def test_a_killed_decode_goes_on_with_the_blocks_that_are_missing(
    prediction, leaf, at, monkeypatch
):
    whole = segmented(prediction, leaf, None)
    kept, calls = [], []
    keep = FolderStore.save

    def noting(store, block, *rest):
        kept.append(block.index)
        keep(store, block, *rest)

    monkeypatch.setattr(FolderStore, "save", noting)
    original = getattr(FolderStore, at)

    def dying(store, *rest):
        calls.append(1)
        if len(calls) == 3:
            raise Killed
        return original(store, *rest)

    with monkeypatch.context() as dead:
        dead.setattr(FolderStore, at, dying)
        # One thread, so that a block that another thread is at cannot be kept after the kill.
        dead.setattr(in_threads, "ThreadPoolExecutor", OneThread)
        with pytest.raises(Killed):
            segmented(prediction, leaf, LITTLE)
    before = list(kept)
    kept.clear()
    np.testing.assert_array_equal(segmented(prediction, leaf, LITTLE), whole)
    assert before and not set(before) & set(kept)
    assert len(before) + len(kept) > 2
    assert not Path("im_segmentation.h5.blocks").exists()


def test_what_a_killed_decode_in_blocks_left_goes_with_a_decode_at_once(prediction, monkeypatch):
    def dying(*_, **__):
        raise Killed

    with monkeypatch.context() as dead:
        dead.setattr(PartialVolume, "finish", dying)
        with pytest.raises(Killed):
            segmented(prediction, AGGLOMERATE, LITTLE)
    assert Path("im_segmentation.h5.partial.cells").exists()
    segmented(prediction, AGGLOMERATE, None)
    assert {path.name for path in Path().iterdir()} == {"im_prediction.h5", "im_segmentation.h5"}


class OneThread:
    """A pool that works when its results are asked for, one after the other."""

    def __init__(self, threads):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def map(self, work, items):
        return map(work, items)


@pytest.mark.parametrize("damage", ["cut facts", "cut labels", "no labels"])
def test_damaged_blocks_are_made_again_and_forced_ones_all(prediction, damage, monkeypatch):
    whole = segmented(prediction, COMPONENTS, None)

    def die(*_):
        raise Killed

    for force in (False, True):
        with monkeypatch.context() as dead:
            dead.setattr(FolderStore, "labels", die)
            with pytest.raises(Killed):
                segmented(prediction, COMPONENTS, LITTLE)
        [facts, *_] = sorted(Path("im_segmentation.h5.blocks").glob("*/*.npz"))
        labels = facts.with_suffix(".npy")
        if damage == "no labels":
            labels.unlink()
        else:
            broken = facts if damage == "cut facts" else labels
            broken.write_bytes(broken.read_bytes()[: broken.stat().st_size // 2])
        np.testing.assert_array_equal(segmented(prediction, COMPONENTS, LITTLE, force=force), whole)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"backend": "waterz"}, "more than half of system.memory needs numba"),
        ({"memory_limit": 1e-6}, "decoding.memory_limit is 9.99e-07"),
    ],
)
def test_a_refusal_leaves_nothing_behind(prediction, change, words):
    with pytest.raises(UserError, match=words):
        segmented(prediction, AGGLOMERATE | change, LITTLE)
    assert [path.name for path in Path().iterdir()] == ["im_prediction.h5"]


def test_blocks_of_another_decode_are_not_taken(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = FolderStore(Path("blocks"), purpose={"threshold": 0.5})
    (store.folder / "0_0_0.npz").write_bytes(b"")
    assert FolderStore(Path("blocks"), purpose={"threshold": 0.5}).folder == store.folder
    assert (store.folder / "0_0_0.npz").exists()
    FolderStore(Path("blocks"), purpose={"threshold": 0.6})
    assert not store.folder.exists()


def test_limits_of_memory_and_threads_make_no_new_segmentation(prediction, monkeypatch):
    made = []
    monkeypatch.setattr(stage, "labels_of", lambda *of: made.append(1) or labels_of(*of))
    target = Path("im_segmentation.h5")
    for change in ({}, {"threads": 1}, {"memory_limit": 2.0}, {"thresholds": 0.4}):
        job = DecodeJob(prediction, AGGLOMERATE | change, None)
        decode(job, segmentation=target, force=False, verify=False)
    assert len(made) == 2


@pytest.mark.parametrize(("fragments", "decodes"), [("volume", 1), ("basins", 3)])
def test_what_basins_alone_read_makes_no_new_segmentation(
    prediction, fragments, decodes, monkeypatch
):
    made = []
    monkeypatch.setattr(stage, "labels_of", lambda *of: made.append(1) or labels_of(*of))
    for more in ({}, {"basin_boundary": 0.8}, {"basin_boundary": 0.8, "basin_reach": 4.0}):
        job = DecodeJob(prediction, AGGLOMERATE | {"fragments": fragments} | more, None)
        decode(job, segmentation=Path("im_segmentation.h5"), force=False, verify=False)
    assert len(made) == decodes


def test_another_threshold_from_the_saved_graph(prediction, monkeypatch):
    leaves = [AGGLOMERATE | {"thresholds": at, "save_graph": True} for at in (0.3, 0.6)]
    plain = [segmented(prediction, leaf | {"save_graph": False}, None) for leaf in leaves]
    assert not stage.graph_of(Path("im_segmentation.h5")).exists()
    np.testing.assert_array_equal(segmented(prediction, leaves[0], None), plain[0])
    monkeypatch.setattr(Agglomerate, "make_fragments", None)  # not needed from here on
    np.testing.assert_array_equal(segmented(prediction, leaves[1], None), plain[1])
    with pytest.raises(UserError, match="save_graph: .* must fit in half of system.memory"):
        segmented(prediction, leaves[0], LITTLE)


@pytest.mark.parametrize("older", [{}, {"save_graph": True, "aff_threshold": (0.2, 0.9)}])
def test_a_graph_that_is_missing_beside_its_segmentation_is_made(prediction, older, monkeypatch):
    target = Path("im_segmentation.h5")
    for change in (older, {}, {"save_graph": True}):
        job = DecodeJob(prediction, AGGLOMERATE | change, None)
        decode(job, segmentation=target, force=False, verify=False)
    graph = SavedGraph.read(stage.graph_of(target))
    decoder = decoder_input(job)
    fragments, _ = decoder[0].make_fragments(decoder[1], **decoder[2])
    np.testing.assert_array_equal(graph.fragments, fragments)
    monkeypatch.setattr(stage, "labels_of", None)  # not needed from here on
    decode(job, segmentation=target, force=False, verify=False)
