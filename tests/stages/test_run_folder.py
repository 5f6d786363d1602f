"""Run folders: where they are found, and what they keep."""

from pathlib import Path

import pytest

from emseg.errors import UserError
from emseg.runs import run_folder as runs
from emseg.runs.run_folder import (
    log_start,
    process_rank,
    require_one_process,
    run_of,
    say,
    start_run,
    write_config,
)


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


LAUNCHED = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS")


@pytest.mark.parametrize(
    ("launched", "rank", "refused"),
    [
        ({}, 0, False),
        # An allocation's batch script: one process.
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "2"}, 0, False),
        ({"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "2"}, 0, True),
        ({"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2"}, 1, True),
        ({"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}, 0, False),
        ({"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2"}, 0, True),
        # torchrun, or a process that Lightning started, inside an allocation.
        ({"RANK": "3", "LOCAL_RANK": "1", "SLURM_PROCID": "0"}, 3, True),
        ({"LOCAL_RANK": "1", "SLURM_PROCID": "0"}, 1, True),
    ],
)
def test_launched_processes_know_their_rank_and_train_only(launched, rank, refused, monkeypatch):
    for name in LAUNCHED:
        monkeypatch.delenv(name, raising=False)
    for name, value in launched.items():
        monkeypatch.setenv(name, value)
    assert process_rank() == rank
    if refused:
        with pytest.raises(UserError, match="--mode test runs in one process: start it without"):
            require_one_process("test")
    else:
        require_one_process("test")


def test_other_modes_than_train_are_refused_in_a_launcher(experiment, monkeypatch, capsys):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    capsys.readouterr()
    assert experiment.emseg("infer") == 2
    assert "--mode infer runs in one process" in capsys.readouterr().err
    assert not [*experiment.run.glob("results_step=*")]
