"""Changing any leaf of the demo's config changes something that a user can see, or is refused."""

import copy
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import optuna
import pytest
import torch
from scipy import ndimage
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from emseg.config import check_targets, load
from emseg.config.choices import compose_choices
from emseg.errors import UserError
from emseg.kernels.affinity import affinities, erode_labels
from emseg.stages import study, test
from emseg.stages.session import Session
from emseg.stages.sweep import sweep
from emseg.stages.train import train
from emseg.stages.tune import tune_decoder
from emseg.training.checkpoints import read_checkpoint
from emseg.volumes import open_volume, write_volume
from stages.leaves import Change, changes, leaves, override, stage_of
from stages.tiny_tutorial import DEMO, SHAPE, TINY, write_volumes

# Two epochs, and all that can be switched on: what is off shows nothing.
BASE = (
    *TINY,
    "optimization.max_steps=4",
    "tune.n_trials=5",
    "tune.n_startup_trials=2",
    "sweep.grid={thresholds: [0.4, 0.6]}",
    "sweep.best={voi_sum: minimize}",
    "data.val={image: datasets/demo/val_raw.h5, label: datasets/demo/val_labels.h5}",
)
ROOT = load(DEMO, mode="train", overrides=BASE).root
LEAVES, CHANGES = leaves(ROOT), changes(ROOT)


@dataclass(frozen=True)
class Seen:
    """What a stage left: `results`, and `signs` (names, words) that are none."""

    results: dict[str, Any] = field(default_factory=dict)
    signs: dict[str, Any] = field(default_factory=dict)


class InThisProcess:
    """Stands for the child process of trials, and notes the time that they are given."""

    timeouts: list[float | None] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def call(
        self, function: Callable[..., Any], *arguments: Any, timeout: float | None = None
    ) -> Any:
        self.timeouts.append(timeout)
        return function(*arguments)


class Unresolved:
    """Stands for OmegaConf, which takes a third of the time here: nothing refers to another key."""

    @staticmethod
    def create(tree: dict[str, Any]) -> dict[str, Any]:
        return tree

    @staticmethod
    def to_container(tree: dict[str, Any], *, resolve: bool) -> dict[str, Any]:
        return tree


@dataclass
class Bench:
    """A folder with volumes and a trained run; each stage is put to work on a copy of that run."""

    snapshots: Path
    known: dict[tuple[str, tuple[str, ...]], Seen] = field(default_factory=dict)
    force: bool = False

    def before(self, stage: str, beside: tuple[str, ...]) -> Seen:
        """What is seen without the change."""
        key = (stage, beside)
        if key not in self.known:
            self.known[key] = self.seen(stage, beside)
        return self.known[key]

    def seen(self, stage: str, overrides: tuple[str, ...], *, force: bool = False) -> Seen:
        """What the stage leaves, or the words of its refusal."""
        shutil.rmtree("outputs")
        shutil.copytree(self.snapshots / stage, "outputs")
        self.force = force
        try:
            return getattr(self, stage)((*BASE, *overrides))
        except UserError as error:
            return Seen({"refused": str(error)})

    def compose(self, overrides: tuple[str, ...]) -> Seen:
        loaded = load(DEMO, mode="train", overrides=overrides)
        return Seen({"root": asdict(loaded.root), "choices": loaded.choices})

    def train(self, overrides: tuple[str, ...]) -> Seen:
        loaded = load(DEMO, mode="train", overrides=overrides)
        check_targets(loaded, "train")
        run = train(loaded, checkpoint=None, command="emseg")
        stored = [read_checkpoint(path) for path in sorted(run.glob("checkpoints/*"))]
        last = max(stored, key=lambda one: one["global_step"])
        log = (run / "run.log").read_text().replace(run.name, "")
        facts = {key: value for key, value in last["emseg"].items() if key != "config"}
        return Seen(
            {"weights": _flat(last["state_dict"]), "curves": _curves(run)},
            {
                "folder": run.parent,
                "files": sorted(path.name for path in run.glob("checkpoints/*")),
                "log": log.partition("\n\n")[2],
                "facts": facts,
            },
        )

    def infer(self, overrides: tuple[str, ...]) -> Seen:
        session = self.session(overrides, "infer")
        (path,) = test.infer_all(session, self.checkpoint).values()
        prediction = open_volume(path)
        names = ("offsets", "edge_side", "activation", "channels")
        facts = {name: prediction.attributes[name] for name in names}
        grid = {"axes": prediction.axes, "voxel_size": prediction.voxel_size}
        return Seen({"values": prediction[...], **facts, **grid}, {"file": path.name})

    def decode(self, overrides: tuple[str, ...]) -> Seen:
        session = self.session(overrides, "decode")
        found = test.decode_all(session, checkpoint=self.checkpoint, prediction=None)
        graphs = [file.name for one in found.values() for file in one.parent.glob("*_graph.h5")]
        labels = {name: open_volume(path)[...] for name, path in found.items()}
        return Seen(labels, {"files": graphs})

    def evaluate(self, overrides: tuple[str, ...]) -> Seen:
        session = self.session(overrides, "evaluate")
        return Seen(test.evaluate_all(session, checkpoint=self.checkpoint, segmentation=None))

    def tune(self, overrides: tuple[str, ...]) -> Seen:
        session = self.session(overrides, "tune")
        tested = load(DEMO, mode="test", overrides=overrides)
        InThisProcess.timeouts = []
        best = tune_decoder(session, tested, self.checkpoint, then_test=False)
        folder = self.checkpoint.parents[1] / "tune"
        names = sorted(path.name for path in folder.rglob("*") if path.is_file())
        (database,) = folder.glob("*.sqlite3")
        trials = optuna.load_study(study_name=None, storage=f"sqlite:///{database}").trials
        told = [(trial.value, trial.user_attrs.get("curve"), trial.params) for trial in trials]
        return Seen(
            {"best": best, "trials": told}, {"files": names, "time": InThisProcess.timeouts}
        )

    def sweep(self, overrides: tuple[str, ...]) -> Seen:
        summary = sweep(self.session(overrides, "sweep"), self.checkpoint)
        (results,) = self.checkpoint.parents[1].glob("results_step=*")
        names = sorted(path.name for path in results.glob("*_records.json"))
        return Seen({"summary": summary}, {"files": names})

    def session(self, overrides: tuple[str, ...], mode: str) -> Session:
        loaded = load(DEMO, mode=mode, overrides=overrides)
        check_targets(loaded, mode)
        # A change that the fingerprint forgot would be skipped over, and so be found.
        return Session(loaded, force=self.force, verify=False, command="emseg")

    @property
    def checkpoint(self) -> Path:
        return next(Path("outputs").glob("demo/*/checkpoints/last.ckpt"))


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("bench")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("torch.cuda.device_count", lambda: 0)
        patch.setattr(study, "ChildWorker", InThisProcess)
        patch.setattr("emseg.config.loaded.compose_choices", _composed_once())
        patch.setattr("emseg.config.loaded.OmegaConf", Unresolved)
        patch.setattr(test, "write_overview", lambda *_, **__: None)
        patch.setattr(test, "write_report", lambda *_, **__: None)
        bench = Bench(folder / "snapshots")
        _prepare(bench, folder)
        yield bench


@pytest.mark.parametrize("key", LEAVES)
def test_leaf_changes_something_or_is_refused(bench: Bench, key: str) -> None:
    leaf, change = LEAVES[key], CHANGES.get(key, Change())
    stage = stage_of(leaf, change)
    before = bench.before(stage, change.beside)
    changed = (*change.beside, override(leaf, change))
    after = bench.seen(stage, changed, force=stage == "infer" and bool(change.kept))
    if change.kept:
        assert not _differ(before.results, after.results, atol=1e-5)
    elif "refused" in after.results:
        assert "refused" not in before.results
        assert key.rpartition(".")[2] in after.results["refused"]
    else:
        assert _differ(vars(before), vars(after))


@pytest.mark.parametrize("stage", ["compose", "train", "infer", "decode", "evaluate", "tune"])
def test_nothing_changes_by_itself(bench: Bench, stage: str) -> None:
    before, again = bench.before(stage, ()), bench.seen(stage, (), force=stage != "tune")
    assert "refused" not in before.results
    assert not _differ(vars(before), vars(again))


def test_every_change_is_of_a_leaf() -> None:
    assert CHANGES.keys() <= LEAVES.keys()


def _prepare(bench: Bench, folder: Path) -> None:
    """Volumes, and for each stage a run as it finds it, with predictions worth decoding."""
    write_volumes(folder)
    write_volumes(folder / "other", first_seed=20)
    mask = np.zeros(SHAPE, np.uint8)
    mask[:, ::2] = 1
    write_volume("datasets/demo/mask.h5", mask, axes="zyx", voxel_size=None, attributes={})
    for stage in ("compose", "train"):
        (bench.snapshots / stage).mkdir(parents=True)
    bench.train(BASE)
    shutil.copy(bench.checkpoint, "trained.ckpt")
    bench.infer(BASE)
    shutil.copytree("outputs", bench.snapshots / "infer")
    (tested,) = test.infer_all(bench.session(BASE, "infer"), bench.checkpoint).values()
    _improve(tested, "test")
    bench.decode(BASE)
    for stage in ("decode", "evaluate", "sweep"):
        bench.evaluate(BASE)
        shutil.copytree("outputs", bench.snapshots / stage)
    session = bench.session(BASE, "tune")
    sources = test.test_sources(session)
    with ExitStack() as locks:
        found = test.infer_sources(session, bench.checkpoint, sources, locks, subfolder="tune")
    (tuned,) = found.values()
    _improve(tuned, "val")
    shutil.copytree("outputs", bench.snapshots / "tune")


def _composed_once() -> Callable[..., dict[str, Any]]:
    """Composing the group files is a third of the time here, and always of the same ones."""
    known: dict[str, dict[str, Any]] = {}

    def compose(folders: Sequence[Path], choices: dict[str, Any]) -> dict[str, Any]:
        key = repr((folders, choices))
        if key not in known:
            known[key] = compose_choices(folders, choices)
        return copy.deepcopy(known[key])

    return compose


def _improve(prediction: Path, split: str) -> None:
    """Put the truth's affinities, blurred and noisy, where the network's prediction was."""
    stored = open_volume(prediction)
    truth = open_volume(f"datasets/demo/{split}_labels.h5")[...].astype(np.int32)
    offsets, edge_side = (stored.attributes[name] for name in ("offsets", "edge_side"))
    apart = erode_labels(truth, radius=(0, 1, 1))
    values, _ = affinities(apart, offsets=offsets, edge_side=edge_side)
    blurred = ndimage.gaussian_filter(values.astype(np.float32), (0, 0.5, 1, 1))
    noise = np.random.default_rng(0).normal(0, 0.15, values.shape)
    write_volume(
        prediction,
        (0.1 + 0.8 * blurred + noise).clip(0, 1).astype(np.float32),
        axes="czyx",
        voxel_size=stored.voxel_size,
        attributes=stored.attributes,
    )


def _flat(state: dict[str, torch.Tensor]) -> np.ndarray:
    return np.concatenate([state[name].float().numpy().ravel() for name in sorted(state)])


def _curves(run: Path) -> dict[str, Any]:
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"images": 0}).Reload()
    tags = events.Tags()
    scalars = {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in tags["scalars"]}
    images = {
        tag: [(e.step, e.width, e.height) for e in events.Images(tag)] for tag in tags["images"]
    }
    return scalars | images


def _differ(one: Any, other: Any, *, atol: float = 0.0) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() != other.keys() or any(_differ(one[k], other[k], atol=atol) for k in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        pairs = zip(one, other, strict=False)
        return len(one) != len(other) or any(_differ(a, b, atol=atol) for a, b in pairs)
    if isinstance(one, np.ndarray | float) and isinstance(other, np.ndarray | float):
        same_shape = np.shape(one) == np.shape(other)
        return not (same_shape and np.allclose(one, other, rtol=0, atol=atol, equal_nan=True))
    return bool(one != other)
