"""Run folders: where they are found, and what they keep."""

from pathlib import Path

from emseg.stages import runs
from emseg.stages.runs import log_start, run_of, say, start_run, write_config


def test_a_run_is_found_from_all_that_lies_in_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = start_run("name")
    inside = run / "results_step=3" / "tune" / "a.h5"
    assert run_of(inside) is None  # not a run before it has a config and a log
    write_config(run, "experiment_name: name\n")
    log_start(run, command="emseg --config a", seed=7)
    assert run == run_of(inside) == run_of(run / "checkpoints" / "last.ckpt")
    assert run_of(tmp_path / inside) == run
    assert run_of(Path("elsewhere.ckpt")) is None
    (tmp_path / "other").mkdir()
    monkeypatch.chdir("other")
    assert run_of(tmp_path / inside) == tmp_path / run


def test_runs_of_one_second_have_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runs.time, "strftime", lambda *_: "20260101_000000")
    found = [start_run("name") for _ in range(3)]
    assert [run.name for run in found] == [f"20260101_000000{end}" for end in ("", "_1", "_2")]


def test_the_log_tells_what_was_asked_and_said(tmp_path, capsys):
    log_start(tmp_path, command="emseg --config a.yaml", seed=7)
    say("half way", run=tmp_path)
    log_start(tmp_path, command="emseg --mode test", seed=7)
    log = (tmp_path / "run.log").read_text()
    for told in ("command: emseg --config a.yaml", "command: emseg --mode test", "seed: 7"):
        assert told in log
    assert log.index("half way") > log.index("torch: ")
    assert capsys.readouterr().err == "emseg: half way\n"
