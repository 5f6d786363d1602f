"""A user's mistake is one line and exit code 2, before training or prediction, and leaves nothing.

Each case runs the command line on a tiny experiment in the current folder; afterwards the folder
holds the very files that it held before.
"""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from emseg.cli import main
from emseg.volumes import write_volume

TUTORIAL = """\
defaults:
  - /base
  - override /system: cpu
  - override /model: rsunet_iso
  - override /augment: none
  - override /optimization/scheduler: constant
  - override /tune: tune_waterz
  - _self_
experiment_name: tiny
system: {num_workers: 0}
data:
  train: {image: raw.h5, label: labels.h5}
  test: {image: raw.h5, label: labels.h5}
  dataloader: {batch_size: 1, patch_size: [8, 16, 16]}
model: {width: [4, 4], down_factors: [[2, 2, 2]]}
optimization: {max_steps: 1, n_steps_per_epoch: 1}
monitor: {logging: {images: {n_images: 0}}}
"""
SHAPE = (12, 24, 24)
LABELS = np.ones(SHAPE, np.uint32)
LABELS[:, 12:] = 2

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


def write(name: str, array: np.ndarray, *, axes: str = "zyx") -> None:
    write_volume(Path(name), array, axes=axes, voxel_size=(10, 10, 10), attributes={})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The experiment after one step of training: not to be written to."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("tiny.yaml").write_text(TUTORIAL)
        write("raw.h5", np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8))
        write("labels.h5", LABELS)
        assert main(["--config", "tiny.yaml"]) == 0
        next(Path("outputs/tiny").iterdir()).rename("outputs/tiny/run")
    return folder


@pytest.fixture(autouse=True)
def experiment(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of the experiment, in the current folder."""
    shutil.copytree(trained, tmp_path / "experiment")
    monkeypatch.chdir(tmp_path / "experiment")


CHECKPOINT = "outputs/tiny/run/checkpoints/last.ckpt"
Spoil = Callable[[], None]


def nothing() -> None:
    """The input files are sound."""


def spoil(name: str, array: np.ndarray, *, axes: str = "zyx") -> Spoil:
    return lambda: write(name, array, axes=axes)


def cut(name: str) -> Spoil:
    """The file without its second half."""

    def halve() -> None:
        whole = Path(name).read_bytes()
        Path(name).write_bytes(whole[: len(whole) // 2])

    return halve


def with_nan() -> None:
    image = np.full(SHAPE, 0.5, np.float32)
    image[7, 3, 3] = np.nan
    write("raw.h5", image)


def without_voxels() -> None:
    with h5py.File("raw.h5", "w") as file:
        file["main"] = np.zeros((0, 24, 24), np.uint8)


def file_instead_of(folder: str) -> Spoil:
    """A folder that cannot be written to, for root neither."""

    def put() -> None:
        if Path(folder).exists():
            shutil.rmtree(folder)
        Path(folder).write_text("in the way")

    return put


def saved(contents: object) -> Spoil:
    return lambda: torch.save(contents, CHECKPOINT)


def files() -> dict[str, tuple[int, int]]:
    """Every file of the current folder with its time and size."""
    found = (path for path in Path().rglob("*"))
    return {str(p): (p.stat().st_mtime_ns, p.stat().st_size) for p in found}


def refusal(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line that the command ends with, after which every file is as it was."""
    before = files()
    capsys.readouterr()
    assert main(["--config", "tiny.yaml", *words]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("emseg: ") and printed.err.count("\n") == 1, printed.err
    assert printed.out == ""
    assert files() == before
    return printed.err


def holds(told: str, parts: list[str]) -> None:
    assert [part for part in parts if part not in told] == [], told


KEYS = [
    (["data.dataloader.batch_sze=2"], ["batch_sze", "did you mean 'data.dataloader.batch_size'"]),
    (["model.widht=[4,4]"], ["widht", "did you mean 'model.width'"]),
    (["data.dataloader.batch_size=two"], ["data.dataloader.batch_size", "'two'", "int"]),
    (["model.width=four"], ["model.width", "'four'"]),
    (["inference.window.overlap=1.5"], ["inference.window.overlap", "1.5", "[0, 1)"]),
    (["model.num_groups=0"], ["model.num_groups", "0", "at least 1"]),
    (["model.norm=grup"], ["model.norm", "'grup'", "did you mean 'group'"]),
    (["evaluation/metrics=[adapted_rnd]"], ["'adapted_rnd'", "did you mean 'adapted_rand'"]),
]


@pytest.mark.parametrize("mode", ["train", "test"])
@pytest.mark.parametrize(("words", "parts"), KEYS)
def test_keys_and_values(
    capsys: pytest.CaptureFixture[str], mode: str, words: list[str], parts: list[str]
) -> None:
    holds(refusal(capsys, "--mode", mode, "--checkpoint", CHECKPOINT, *words), parts)


VOLUMES = [
    (nothing, ["image=rw.h5"], ["'rw.h5' does not exist", "did you mean 'raw.h5'"]),
    (nothing, ["image=raw.h5:volumes/raw"], ["'volumes/raw'", "allowed: main"]),
    (nothing, ["label=lost/labels.h5"], ["no folder 'lost'"]),
    (nothing, ["image=raw.txt"], ["raw.txt", ".h5", ".zarr", ".tif"]),
    (nothing, ["range=[4,20]"], ["raw.h5", "[4, 20]", "12 voxels"]),
    (spoil("labels.h5", LABELS[:, :20]), [], ["labels.h5", "(12, 20, 24)", "(12, 24, 24)"]),
    (spoil("labels.h5", LABELS.astype(np.float32)), [], ["labels.h5", "float32", "integers"]),
    (spoil("labels.h5", LABELS.astype(np.int32) - 8), [], ["labels.h5", "label -7"]),
    (spoil("raw.h5", np.zeros(SHAPE, np.int16)), [], ["raw.h5", "int16", "intensity_range"]),
    (spoil("raw.h5", np.full(SHAPE, 9.0, np.float32)), [], ["raw.h5", "9", "intensity_range"]),
    (with_nan, [], ["raw.h5", "NaN"]),
    (without_voxels, [], ["raw.h5", "empty"]),
    (cut("raw.h5"), [], ["raw.h5", "truncated"]),
    (lambda: Path("raw.h5").write_text("no volume"), [], ["raw.h5", "not an HDF5 file"]),
]


@pytest.mark.parametrize("mode", ["train", "test"])
@pytest.mark.parametrize(("make", "words", "parts"), VOLUMES)
def test_volumes(
    capsys: pytest.CaptureFixture[str], mode: str, make: Spoil, words: list[str], parts: list[str]
) -> None:
    make()
    split = "train" if mode == "train" else "test"
    given = [] if mode == "train" else ["--checkpoint", CHECKPOINT]
    words = [f"data.{split}.{word}" for word in words]
    holds(refusal(capsys, "--mode", mode, *given, *words), parts)


TRAINING = [
    (nothing, ["data.train.label=null"], ["raw.h5", "no label"]),
    (
        nothing,
        ["data.dataloader.patch_size=[16,16,16]"],
        ["raw.h5", "smaller than a patch [16, 16, 16]", "data.pad_small=true"],
    ),
    (
        nothing,
        ["data.dataloader.patch_size=[8,15,16]"],
        ["data.dataloader.patch_size [8, 15, 16]", "stride [2, 2, 2]", "[8, 14, 16]"],
    ),
    (
        nothing,
        ["optimization/scheduler=warmup_cosine_lr", "optimization.scheduler.warmup_epochs=5"],
        ["optimization.scheduler.warmup_epochs", "5 steps"],
    ),
    (
        nothing,
        ["monitor.checkpoint.monitor=train_loss_totl"],
        ["'train_loss_totl'", "monitor.checkpoint.monitor", "did you mean 'train_loss_total_"],
    ),
    (nothing, ["monitor.checkpoint.monitor=val_loss_total"], ["val_loss_total", "data.val"]),
    (nothing, ["data.split_train_range=[0,20]"], ["raw.h5", "[0, 20]"]),
    (nothing, ["data.val.image=lost.h5"], ["'lost.h5' does not exist"]),
    (nothing, ["optimization.precision=16-mixed"], ["optimization.precision", "needs a GPU"]),
    (nothing, ["optimization.optimizer.lr=-1"], ["optimization.optimizer", "learning rate", "-1"]),
    (nothing, ["loss.channel_weights=[1,2]"], ["channel_weights", "2", "3"]),
    (nothing, ["model.init_from=lost.ckpt"], ["lost.ckpt", "does not exist"]),
    (
        nothing,
        [f"model.init_from={CHECKPOINT}", "model.width=[4,6]"],
        [CHECKPOINT, "another architecture", "encoder.1."],
    ),
    (file_instead_of("outputs"), [], ["outputs/tiny/"]),
]


@pytest.mark.parametrize(("make", "words", "parts"), TRAINING)
def test_training(
    capsys: pytest.CaptureFixture[str], make: Spoil, words: list[str], parts: list[str]
) -> None:
    make()
    holds(refusal(capsys, *words), parts)


CHECKPOINTS = [
    (nothing, ["model.width=[4,6]"], ["another architecture", "encoder.1."]),
    (nothing, ["model.norm=none"], ["another architecture", "unknown"]),
    (nothing, ["target.edge_side=source"], ["target edge_side destination", "source"]),
    (lambda: Path(CHECKPOINT).write_text("weights"), [], [CHECKPOINT]),
    (cut(CHECKPOINT), [], [CHECKPOINT]),
    (saved({"weights": torch.zeros(3)}), [], [CHECKPOINT, "no training checkpoint"]),
    (saved({"state_dict": {}, "global_step": 1}), [], [CHECKPOINT, "no checkpoint of emseg"]),
    (saved({"state_dict": Path("x"), "global_step": 1}), [], [CHECKPOINT, "refused"]),
]


@pytest.mark.parametrize("mode", ["train", "test"])
@pytest.mark.parametrize(("make", "words", "parts"), CHECKPOINTS)
def test_checkpoints(
    capsys: pytest.CaptureFixture[str], mode: str, make: Spoil, words: list[str], parts: list[str]
) -> None:
    make()
    holds(refusal(capsys, "--mode", mode, "--checkpoint", CHECKPOINT, *words), parts)


SELECT = "inference.model.select_channel"
PREDICTION = [
    (
        nothing,
        ["inference.window.window_size=[7,16,16]"],
        ["inference.window.window_size [7, 16, 16]", "stride [2, 2, 2]", "[8, 16, 16]"],
    ),
    (
        nothing,
        [
            "inference.test_time_augmentation.enabled=true",
            "inference.test_time_augmentation.rotation90_axes=[[0,1]]",
        ],
        ["rotation90_axes", "[8, 16, 16]"],
    ),
    (
        nothing,
        ["inference.output_dtype=uint8", "inference.activation=none"],
        ["output_dtype uint8", "'none'"],
    ),
    (nothing, ["inference.crop_pad=[4,4,4,4,4,4]"], ["inference.crop_pad"]),
    (
        spoil("raw.h5", np.zeros((2, *SHAPE), np.uint8), axes="czyx"),
        [],
        ["raw.h5", "2 channels", "1"],
    ),
    (file_instead_of("outputs/tiny/run/results_step=1"), [], ["results_step=1"]),
]


@pytest.mark.parametrize(("make", "words", "parts"), PREDICTION)
def test_prediction(
    capsys: pytest.CaptureFixture[str], make: Spoil, words: list[str], parts: list[str]
) -> None:
    make()
    holds(refusal(capsys, "--mode", "infer", "--checkpoint", CHECKPOINT, *words), parts)


DECODING = [
    (["decoding.thresholds=7"], ["decoding.thresholds", "7", "[0, 1]"]),
    (["decoding.merge_function=aff85_his255"], ["'aff85_his255'", "did you mean 'aff85_his256'"]),
    (["decoding.aff_threshold=[0.9,0.1]"], ["decoding.aff_threshold", "[0.9, 0.1]"]),
    (["decoding.dust_remove_size=-1"], ["decoding.dust_remove_size", "-1"]),
    (["inference.activation=none"], ["logits", "inference.activation=sigmoid"]),
    ([f"{SELECT}=[0,1,3]"], [SELECT, "3 is no channel", "0 to 2"]),
    ([f"{SELECT}=[0,1]"], ["one channel along each axis", SELECT]),
    (["decoding=affinity_cc", "decoding.threshold=7"], ["decoding.threshold", "7"]),
    (
        ["decoding=affinity_cc", "decoding.affinity_mask_path=lost.h5"],
        ["'lost.h5' does not exist"],
    ),
    (
        ["decoding=affinity_cc", "decoding.affinity_mask_path=small.h5"],
        ["decoding.affinity_mask_path: small.h5", "(4, 4, 4)", "(12, 24, 24)"],
    ),
]


@pytest.mark.parametrize("mode", ["test", "tune"])
@pytest.mark.parametrize(("words", "parts"), DECODING)
def test_decoding(
    capsys: pytest.CaptureFixture[str], mode: str, words: list[str], parts: list[str]
) -> None:
    write("small.h5", np.ones((4, 4, 4), np.uint8))
    if "decoding=affinity_cc" in words and mode == "tune":
        words = [*words, "tune=default", "tune.search_space={threshold: {low: 0, high: 1}}"]
    holds(refusal(capsys, "--mode", mode, "--checkpoint", CHECKPOINT, *words), parts)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["tune.metric=adapted_rnd"], ["tune.metric", "did you mean 'adapted_rand'"]),
        (["tune.search_space.thresholds.high=1.5"], ["tune.search_space", "1.5", "[0, 1]"]),
        (
            ["tune.search_space.merge_function.choices=[mean,median]"],
            ["tune.search_space", "decoding.merge_function", "'median'", "mean"],
        ),
        (["data.test.label=null"], ["truth", "no label"]),
    ],
)
def test_tuning(capsys: pytest.CaptureFixture[str], words: list[str], parts: list[str]) -> None:
    holds(refusal(capsys, "--mode", "tune", "--checkpoint", CHECKPOINT, *words), parts)


def test_the_test_after_tuning(capsys: pytest.CaptureFixture[str]) -> None:
    Path("tiny.yaml").write_text(TUTORIAL + "tune: {data: {test: {image: tuned.h5}}}\n")
    shutil.copy("raw.h5", "tuned.h5")
    cut("raw.h5")()
    told = refusal(capsys, "--mode", "tune-test", "--checkpoint", CHECKPOINT)
    holds(told, ["raw.h5", "truncated"])


@pytest.mark.parametrize(
    ("mode", "input_file", "parts"),
    [
        ("decode", "raw.h5", ["raw.h5", "not written by emseg"]),
        ("decode", "lost.h5", ["'lost.h5' does not exist"]),
        ("evaluate", "small.h5", ["small.h5", "(4, 4, 4)", "(12, 24, 24)"]),
        ("evaluate", "float.h5", ["float32", "integers"]),
        ("decode", None, ["results_step=1", "--mode infer"]),
        ("evaluate", None, ["results_step=1", "--mode decode"]),
    ],
)
def test_a_stage_alone(
    capsys: pytest.CaptureFixture[str], mode: str, input_file: str | None, parts: list[str]
) -> None:
    write("small.h5", np.ones((4, 4, 4), np.uint32))
    write("float.h5", np.ones(SHAPE, np.float32))
    given = ["--checkpoint", CHECKPOINT] if input_file is None else ["--input", input_file]
    holds(refusal(capsys, "--mode", mode, *given), parts)


def failure(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The last line of a training that began and then failed; all lines are ours."""
    capsys.readouterr()
    assert main(["--config", "tiny.yaml", *words]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert all(line.startswith("emseg: ") for line in lines), lines
    return lines[-1]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_chunk_that_cannot_be_read(capsys: pytest.CaptureFixture[str], num_workers: int) -> None:
    write("raw.h5", np.full(SHAPE, 100, np.uint8))  # what is not compressed is read whatever it is
    with h5py.File("raw.h5") as file:
        chunks = [
            file["main"].id.get_chunk_info(i) for i in range(file["main"].id.get_num_chunks())
        ]
    stored = bytearray(Path("raw.h5").read_bytes())
    for chunk in chunks:
        stored[chunk.byte_offset : chunk.byte_offset + chunk.size] = b"\xff" * chunk.size
    Path("raw.h5").write_bytes(stored)
    told = failure(capsys, "data.preload=false", f"system.num_workers={num_workers}")
    assert told.startswith("emseg: cannot read 'raw.h5:main'")


def test_a_loss_that_is_not_finite(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("optimization.optimizer.lr=1e30", "optimization.max_steps=5")
    told = failure(capsys, *words)
    assert told.startswith("emseg: the training loss is") and "optimization.optimizer.lr" in told


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Lightning leaves Ctrl-C ignored."""
    import signal

    handler = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, handler)


def test_an_interrupted_training(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, interruptible: None
) -> None:
    from emseg.training.supervised import Supervised

    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Supervised, "training_step", interrupted)
    assert main(["--config", "tiny.yaml"]) == 130
    lines = capsys.readouterr().err.splitlines()
    assert all(line.startswith("emseg: ") for line in lines)
    assert lines[-1] == "emseg: interrupted; what was finished is kept"
