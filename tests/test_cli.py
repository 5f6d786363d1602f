"""The command line as it is typed: forms, where they lead, and what a mistake in them brings."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import emseg.stages
from emseg.cli import main
from emseg.errors import UserError
from emseg.volumes import write_volume

REPOSITORY = Path(__file__).resolve().parents[1]

TUTORIAL = """\
experiment_name: typed
data: {train: {image: raw.h5, label: labels.h5}, test: {image: raw.h5, label: labels.h5}}
optimization: {max_epochs: 10}
test: {inference: {window: {overlap: 0.25}}}
tune: {metric: voi_sum, search_space: {thresholds: {low: 0.1, high: 0.9}}}
"""

FILES = ("last.ckpt", "p.h5", "s.h5")


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A tutorial in an otherwise empty working folder; what its flags may name lies beside it."""
    monkeypatch.chdir(tmp_path)
    Path("t.yaml").write_text(TUTORIAL)
    for name in FILES:
        Path(name).touch()
    return "t.yaml"


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the stages would have been run with; they are not."""
    calls: list[dict[str, Any]] = []

    def take(loaded: Any, mode: str, **others: Any) -> None:
        calls.append({"root": loaded.root, "mode": mode, **others})

    monkeypatch.setattr(emseg.stages, "run", take)
    monkeypatch.setattr(emseg.stages, "check", lambda loaded, mode, **_: ["a line"])
    return calls


def mistake(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line that the words bring on standard error."""
    assert main(words) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("emseg: ") and printed.err.count("\n") == 1, printed.err
    return printed.err


CHECKPOINT = ("--checkpoint", "last.ckpt")


@pytest.mark.parametrize(
    ("words", "mode"),
    [
        ((), "train"),
        (("--mode", "train", *CHECKPOINT), "train"),
        (("--mode", "test", *CHECKPOINT), "test"),
        (("--mode", "infer", *CHECKPOINT), "infer"),
        (("--mode", "tune", *CHECKPOINT), "tune"),
        (("--mode", "tune-test", *CHECKPOINT), "tune-test"),
        (("--mode", "decode", *CHECKPOINT), "decode"),
        (("--mode", "evaluate", *CHECKPOINT), "evaluate"),
        (("--mode=decode", "--input", "p.h5"), "decode"),
        (("--mode", "evaluate", "--input=s.h5:labels"), "evaluate"),
    ],
)
def test_modes_lead_to_their_stages(
    config: str, ran: list[dict[str, Any]], words: tuple[str, ...], mode: str
) -> None:
    assert main(["--config", config, *words]) == 0
    (call,) = ran
    assert call["mode"] == mode
    assert call["checkpoint"] == (Path("last.ckpt") if CHECKPOINT[0] in words else None)
    assert (call["source"] is not None) == any("--input" in word for word in words)
    assert (call["test"] is not None) == mode.startswith("tune")
    # The mode's own section counts: test and tune have another overlap than train.
    assert call["root"].inference.window.overlap == (None if mode == "train" else 0.25)
    assert call["command"].startswith("emseg --config t.yaml")


def test_flags_reach_the_stages(config: str, ran: list[dict[str, Any]]) -> None:
    assert main(["--config", config, "--force", "--verify", "--mode", "test", *CHECKPOINT]) == 0
    assert main(["--config", config, "--mode", "test", *CHECKPOINT]) == 0
    assert [(call["force"], call["verify"]) for call in ran] == [(True, True), (False, False)]


OVERRIDES = (
    "system.num_gpus=4",
    "inference.model.select_channel=[6, 9, 4]",
    "model=rsunet_iso",
    "optimization/optimizer=sgd",
    "decoding=affinity_cc",
    "decoding.affinity_mask_path=null",
)


@pytest.mark.parametrize(
    "words",
    [
        ("--config", "t.yaml", *OVERRIDES),
        (*OVERRIDES, "--config", "t.yaml"),
        (*OVERRIDES[:2], "--config", "t.yaml", *OVERRIDES[2:], "--allow", "mylab"),
    ],
)
def test_overrides_stand_before_or_after_flags(
    config: str, ran: list[dict[str, Any]], words: tuple[str, ...]
) -> None:
    assert main(words) == 0
    root = ran[0]["root"]
    assert root.system.num_gpus == 4
    assert root.inference.model.select_channel == [6, 9, 4]
    assert root.model["width"] == [24, 48, 96]
    assert root.optimization.optimizer["_target_"] == "torch.optim.SGD"
    assert root.decoding["affinity_mask_path"] is None


def test_the_printed_config_is_a_config(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--print-config", "system.seed=7", "optimization/optimizer=sgd", "model=rsunet_iso"]
    assert main(["--config", config, *words]) == 0
    printed = capsys.readouterr()
    assert printed.err == "" and "seed: 7" in printed.out
    Path("printed.yaml").write_text(printed.out)
    assert main(["--config", "printed.yaml", "--print-config"]) == 0
    assert capsys.readouterr().out == printed.out


def test_check_builds_and_stops(
    config: str, ran: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--config", config, "--check", "--mode", "tune"]) == 0
    printed = capsys.readouterr()
    assert "t.yaml: the config is valid for --mode tune" in printed.out
    assert printed.err == "emseg: a line\n"
    assert ran == []


def test_a_dropped_setting_is_said(
    config: str, ran: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    Path(config).write_text(TUTORIAL + "model: {num_groups: 2}\n")
    assert main(["--config", config, "model=rsunet_iso"]) == 0
    told = capsys.readouterr().err
    assert told.startswith("emseg: ") and "num_groups" in told and told.count("\n") == 1


def test_no_words_ask_for_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == 0
    printed = capsys.readouterr()
    assert printed.err == "" and "--config FILE" in printed.out and "emseg demo" in printed.out


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["demoo"], ["unknown command 'demoo'", "did you mean 'demo'", "synth"]),
        (["--config", "t.yaml", "demo"], ["'demo' comes first", "emseg demo"]),
        (["--config", "t.yaml", "test"], ["'test' is a mode", "--mode test"]),
        (["--config", "t.yaml", "t2.yaml"], ["'t2.yaml' is no override", "KEY=VALUE"]),
        (["--config", "t.yaml", "--mode", "tets"], ["mode 'tets'", "did you mean 'test'"]),
        (["--config", "t.yaml", "--checkpont", "a"], ["--checkpont", "mean '--checkpoint'"]),
        (["--config", "t.yaml", "-v"], ["unknown flag '-v'", "--verify"]),
        (["--config"], ["--config", "expected one argument"]),
        (["system.seed=1"], ["--config FILE is missing"]),
        (["--config", "u.yaml"], ["no config file u.yaml", "did you mean 't.yaml'"]),
        (["--config", "t.yaml", "--mode", "test"], ["--mode test needs --checkpoint"]),
        (["--config", "t.yaml", "--mode", "decode"], ["--checkpoint CKPT and --input FILE"]),
        (
            ["--config", "t.yaml", "--mode", "test", "--checkpoint", "lost.ckpt"],
            ["--checkpoint lost.ckpt", "no such file"],
        ),
        (["--config", "t.yaml", "--input", "p.h5"], ["--input", "decode and evaluate", "train"]),
        (["demo", "fast"], ["'fast'", "emseg demo"]),
        (["synth", "snemi"], ["'snemi'", "emseg synth LAYOUT DIR"]),
        (["synth", "snemii", "there"], ["'snemii'", "did you mean 'snemi'"]),
        (["download", "--all"], ["'--all'", "emseg download DATASET [DIR]"]),
        (["download", "snem"], ["'snem'", "did you mean 'snemi'"]),
        (["convert", "cremi"], ["'cremi'", "emseg convert cremi SOURCE DIR"]),
        (["convert", "cremi", "a", "b", "--alignment"], ["[--alignment RECORD]"]),
        (["convert", "crem", "a", "b"], ["'crem'", "did you mean 'cremi'"]),
    ],
)
def test_a_mistyped_form_is_one_line(
    config: str,
    ran: list[dict[str, Any]],
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    parts: list[str],
) -> None:
    told = mistake(capsys, *words)
    assert [part for part in parts if part not in told] == [], told
    assert ran == []
    assert {path.name for path in Path().iterdir()} == {"t.yaml", *FILES}


def test_a_verb_says_how_it_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["synth", "--help"]) == 0
    assert capsys.readouterr().out == "usage: emseg synth LAYOUT DIR\n"


def _failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail(*args: Any, **others: Any) -> None:
        raise error

    monkeypatch.setattr(emseg.stages, "run", fail)


def test_interrupted_is_130(
    config: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _failing(monkeypatch, KeyboardInterrupt())
    assert main(["--config", config]) == 130
    assert capsys.readouterr().err == "emseg: interrupted; what was finished is kept\n"


def test_a_quoted_library_stays_on_one_line(
    config: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _failing(monkeypatch, UserError("cannot open 'a.h5':\nno\nfile"))
    assert mistake(capsys, "--config", config) == "emseg: cannot open 'a.h5': no file\n"


def test_debug_shows_the_traceback(
    config: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _failing(monkeypatch, UserError("a mistake"))
    monkeypatch.setenv("EMSEG_DEBUG", "1")
    assert main(["--config", config]) == 2
    told = capsys.readouterr().err
    assert told.startswith("Traceback") and told.endswith("emseg: a mistake\n")


HEAVY = {"torch", "numpy", "h5py", "zarr", "numba", "scipy", "pytorch_lightning"}


@pytest.mark.parametrize(
    ("words", "code", "without"),
    [
        (["--help"], 0, HEAVY | {"omegaconf", "hydra", "yaml"}),
        (["--config", "t.yaml", "data.dataloader.batch_sze=1"], 2, HEAVY),
        (["--config", "t.yaml", "model.widht=[1]"], 2, HEAVY),
    ],
)
def test_help_and_misspelt_keys_load_little(
    config: str, words: list[str], code: int, without: set[str]
) -> None:
    program = (
        "import sys, runpy\n"
        "try: runpy.run_path(sys.argv.pop(1), run_name='__main__')\n"
        "except SystemExit as ended: print(ended.code)\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, str(REPOSITORY / "scripts" / "main.py"), *words],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY / "src")},
    )
    *_, exit_code, modules = ended.stdout.splitlines()
    assert int(exit_code) == code
    assert not without & set(modules.split())


def test_a_run_says_nothing_that_is_not_ours(tmp_path: Path) -> None:
    data = tmp_path / "datasets" / "demo"
    for split in ("train", "val", "test"):
        labels = np.ones((16, 32, 32), np.uint32)
        labels[:, 16:] = 2
        for name, array in (("raw", np.uint8(labels * 90)), ("labels", labels)):
            write_volume(
                data / f"{split}_{name}.h5",
                array,
                axes="zyx",
                voxel_size=(30, 6, 6),
                attributes={},
            )
    program = (
        "import sys\nfrom glob import glob\nfrom emseg.cli import main\n"
        "demo = sys.argv[1:]\n"
        "assert main(demo) == 0\n"
        "weights = ['--checkpoint', *glob('outputs/demo/*/checkpoints/last.ckpt')]\n"
        "assert main([*demo, *weights, 'optimization.max_steps=3']) == 0\n"
        "assert main([*demo, *weights, '--mode', 'tune-test']) == 0\n"
    )
    words = [
        "--config",
        str(REPOSITORY / "tutorials" / "demo.yaml"),
        "data.dataloader.patch_size=[8,16,16]",
        "inference.window.window_size=[8,16,16]",
        "optimization.max_steps=2",
        "optimization.n_steps_per_epoch=2",
        "optimization.scheduler.warmup_epochs=0.5",
        "data.val=${data.train}",
        "system.num_workers=1",
        "tune.n_trials=2",
    ]
    ended = subprocess.run(
        [sys.executable, "-c", program, *words],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY / "src"), "OMP_NUM_THREADS": "1"},
    )
    assert ended.returncode == 0, ended.stderr
    strange = [line for line in ended.stderr.splitlines() if not line.startswith("emseg: ")]
    assert strange == []
    lines = ended.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["volume", "test_im", "results:"]
