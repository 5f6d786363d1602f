"""Whatever is broken, a command ends in one line and exit code 2, or does its work."""

import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path

import pytest

from bad_input.drawn_cases import FINE, Case, draw, outcome
from bad_input.sound import copy_sound, make_sound
from bad_input.spoilers import spoil_hdf5
from stages.tiny_tutorial import MAIN

# In the suite; `python tests/bad_input/drawn_cases.py --count 3000` draws more.
MANY, CHUNK = 100, 50
AS_A_COMMAND = 5
# A busy machine takes its time; that 10 s suffice is for the many cases outside the suite to show.
SECONDS = 30.0
# Of modes that need neither a training nor a child process: a start costs seconds.
QUICK = {"decode", "evaluate", "inspect", "convert", "prepare", "synth", "download", "--check"}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sound experiment: not to be written to."""
    folder = tmp_path_factory.mktemp("sound")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        make_sound()
    return folder


@pytest.mark.parametrize("first", range(0, MANY, CHUNK))
def test_no_drawn_case_ends_otherwise(sound: Path, first: int) -> None:
    faults = []
    for number in range(first, first + CHUNK):
        case = draw(number)
        word, said = outcome(case, sound, seconds=SECONDS)
        # The HDF5 library itself loops over some damage (the heap of text attributes, say).
        in_hdf5 = word in ("hang", "crash") and case.spoiler is spoil_hdf5
        if word not in FINE and not in_hdf5:
            faults.append((number, word, case.words, said[-500:]))
    assert faults == []


def test_what_is_not_spoilt_is_accepted(sound: Path) -> None:
    """Else the cases would be refused for something else."""
    commands = {case.words: case for case in map(draw, range(60)) if case.spoiler is not None}
    kept = {case.kind: case for case in commands.values() if case.kind not in ("verb", "study")}
    for case in kept.values():
        word, said = outcome(Case(case.kind, case.number, case.words), sound)
        assert word == "accepted", (case.words, said)


def test_the_same_through_the_command_line(sound: Path, tmp_path: Path) -> None:
    for case in islice(_quick(), AS_A_COMMAND):
        folder = tmp_path / str(case.number)
        copy_sound(sound, folder)
        here = Path.cwd()
        os.chdir(folder)
        case.spoil()
        os.chdir(here)
        done = subprocess.run(
            [sys.executable, MAIN, *case.words],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode in (0, 2), (case.words, done.stderr)
        assert all(line.startswith("emseg: ") for line in done.stderr.splitlines()), done.stderr


def _quick() -> Iterator[Case]:
    cases = map(draw, count())
    return (
        case
        for case in cases
        if QUICK & {*case.words} and case.kind != "checkpoint" and case.spoiler is not spoil_hdf5
    )
