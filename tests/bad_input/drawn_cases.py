"""Cases of broken input, drawn by number, and what the command line makes of each.

`python tests/bad_input/drawn_cases.py --count 3000` prints the counts by kind and outcome.
"""

import argparse
import os
import random
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bad_input.sound import (
    FOUND_STUDY,
    PREDICTION,
    RESULTS,
    SEGMENTATION,
    STUDY,
    copy_sound,
    make_sound,
)
from bad_input.spoilers import (
    CANARY,
    ODD_VALUES,
    put_special,
    spoil_bytes,
    spoil_hdf5,
    spoil_json,
    spoil_pickle,
    spoil_skeletons,
    spoil_sqlite,
    spoil_text,
    spoil_weights,
    spoil_zarr,
)
from bad_input.spoilt import CHECKPOINT, TUTORIAL
from emseg.cli import main
from emseg.config import load

SECONDS, GIGABYTES = 10.0, 2
# Trials of a study run in a process of their own, which imports all anew; volumes are made up.
LONG, SECONDS_OF_LONG = {"tune", "synth"}, 60.0
LOGS = ("run.log", "results_step=1/config.yaml")
# How a case may end: as it should (the first two), or by one of our faults.
FINE = ("refused", "accepted")
Spoiler = Callable[[Path, random.Random], None]


@dataclass(frozen=True)
class Case:
    """What is spoilt, how, and the command that meets it."""

    kind: str
    number: int
    words: tuple[str, ...]
    path: str | None = None
    spoiler: Spoiler | None = None

    def spoil(self) -> None:
        """The current folder, a copy of the sound experiment, is as the case has it."""
        if self.spoiler is not None and self.path is not None:
            self.spoiler(Path(self.path), random.Random(self.number))


def draw(number: int) -> Case:
    """The case of that number."""
    chance = random.Random(number)
    kind = chance.choice([*_KINDS])
    path, spoiler, words = _KINDS[kind](chance)
    return Case(kind, number, tuple(words), path, spoiler)


def outcome(case: Case, sound: Path, *, seconds: float = SECONDS) -> tuple[str, str]:
    """How the command ends on a spoilt copy of `sound`, in a process of its own: (word, output).

    "refused" (one line, exit code 2, nothing written) and "accepted" (exit code 0) are right;
    "traceback", "crash", "hang", "lines", "wrote" and "ran" are faults.
    """
    with tempfile.TemporaryDirectory() as room:
        folder, said = Path(room, "experiment"), Path(room, "said")
        copy_sound(sound, folder)
        child = os.fork()
        if child == 0:
            _run_case(case, folder, said)
        status = _wait(child, max(seconds, SECONDS_OF_LONG) if LONG & {*case.words} else seconds)
        text = said.read_text(errors="replace") if said.exists() else ""
        if (folder / CANARY).exists():
            return "ran", text
        if status is None:
            return "hang", text
        if os.WIFSIGNALED(status):
            return "crash", f"{text}\nsignal {os.WTERMSIG(status)}"
        word = _judged(os.waitstatus_to_exitcode(status), text)
        # With --force what comes before the broken file has been made anew.
        return "refused" if word == "wrote" and "--force" in case.words else word, text


def _judged(code: int, text: str) -> str:
    head, _, said = text.partition("\0")
    if "Traceback (most recent call last)" in said or code not in (0, 2):
        return "traceback"
    if code == 0:
        return "accepted"
    lines = said.partition("\0")[2].splitlines()
    if not lines or not all(line.startswith("emseg: ") for line in lines):
        return "lines"
    return "wrote" if head == "changed" else "refused"


def _run_case(case: Case, folder: Path, said: Path) -> None:
    """Runs in the child, which it ends: the first word of `said` is whether files changed."""
    code, changed = 1, ""
    try:
        os.chdir(folder)
        case.spoil()
        before = _files()
        for end in (1, 2):
            with said.with_suffix(f".{end}").open("wb") as out:
                os.dup2(out.fileno(), end)
        # What ran before may have put something else in their place, as pytest does.
        sys.stdout, sys.stderr = (os.fdopen(os.dup(end), "w") for end in (1, 2))
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + GIGABYTES * 2**30,) * 2)
        code = main(case.words)
        changed = "changed" if _files() != before else ""
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        printed = [path.read_bytes() for path in sorted(said.parent.glob("said.*"))]
        said.write_bytes(b"\0".join([changed.encode(), *printed]))
        os._exit(code if code in (0, 2) else 1)


def _wait(child: int, seconds: float) -> int | None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def _files() -> dict[str, tuple[int, int]]:
    # Every command that begins is noted in these.
    found = ((str(path), path.lstat()) for path in Path().rglob("*") if not path.is_dir())
    found = ((name, facts) for name, facts in found if not name.endswith(LOGS))
    return {name: (facts.st_mtime_ns, facts.st_size) for name, facts in found}


# Kinds: each draws the file, how it is spoilt, and the words of the command line.

Drawn = tuple[str | None, Spoiler | None, list[str]]
CONFIG = ["--config", "tiny.yaml"]
WEIGHTS = ["--checkpoint", CHECKPOINT]


def _mode(chance: random.Random, *modes: str) -> list[str]:
    mode = chance.choice(modes)
    return [
        *CONFIG,
        *_MODES[mode],
        *chance.choice(([], [], [], ["--force"] * ("--mode" in _MODES[mode]))),
    ]


_MODES = {
    "train": [],
    "check": ["--check"],
    "on": [*WEIGHTS, "optimization.max_steps=2"],
    "init": [f"model.init_from={CHECKPOINT}"],
    "infer": ["--mode", "infer", *WEIGHTS],
    "test": ["--mode", "test", *WEIGHTS],
    "tune": ["--mode", "tune", *WEIGHTS, *STUDY],
    "decode": ["--mode", "decode", *WEIGHTS],
    "evaluate": ["--mode", "evaluate", *WEIGHTS],
    "decode_file": ["--mode", "decode", "--input", PREDICTION],
    "evaluate_file": ["--mode", "evaluate", "--input", SEGMENTATION],
}


def _volume(chance: random.Random) -> Drawn:
    part = chance.choice(("image", "image", "label"))
    name = {"image": "raw", "label": "labels"}[part]
    suffix = chance.choice((".h5", ".zarr", ".tif", "_v2.zarr"))
    mode = chance.choice(("train", "test", "infer", "evaluate_file", "inspect", "check"))
    path = name + suffix
    spoiler: Spoiler = {".h5": spoil_hdf5, ".tif": spoil_bytes}.get(suffix, spoil_zarr)
    if mode == "inspect":
        return path, spoiler, ["inspect", path, "raw.h5"]
    split = "train" if mode in ("train", "check") else "test"
    return path, spoiler, [*_mode(chance, mode), f"data.{split}.{part}={path}"]


def _linked(chance: random.Random) -> Drawn:
    key = chance.choice(("external", "virtual"))
    path = chance.choice(("linked.h5", "raw.h5"))
    words = chance.choice((["inspect", f"linked.h5:{key}"], _mode(chance, "infer", "train")))
    if words[0] != "inspect":
        words = [*words, f"data.train.image=linked.h5:{key}", f"data.test.image=linked.h5:{key}"]
    return path, chance.choice((spoil_hdf5, put_special)), words


def _skeletons(chance: random.Random) -> Drawn:
    path = f"skeletons.{chance.choice(('pkl', 'npz', 'swc'))}"
    words = [*_mode(chance, "evaluate_file", "test"), "evaluation/metrics=[nerl]"]
    return path, spoil_skeletons, [*words, f"data.test.skeletons={path}"]


def _checkpoint(chance: random.Random) -> Drawn:
    modes = ("on", "init", "infer", "test", "tune", "decode", "evaluate")
    return CHECKPOINT, spoil_weights, _mode(chance, *modes)


def _result(chance: random.Random) -> Drawn:
    path = chance.choice((PREDICTION, SEGMENTATION, f"{RESULTS}/metrics.json"))
    spoiler = spoil_json if path.endswith("json") else spoil_hdf5
    words = _mode(chance, "test", "decode", "evaluate", "decode_file", "evaluate_file", "tune")
    return path, spoiler, [*words, *chance.choice(([], ["--verify"]))]


def _study(chance: random.Random) -> Drawn:
    return FOUND_STUDY, spoil_sqlite, _mode(chance, "tune")


def _config(chance: random.Random) -> Drawn:
    words = _mode(chance, "train", "check", "infer", "decode_file")
    return "tiny.yaml", spoil_text, [*words, *chance.choice(([], ["--print-config"]))]


def _saved_config(chance: random.Random) -> Drawn:
    path = "outputs/tiny/run/config.yaml"
    mode = chance.choice(("check", "infer"))
    return path, spoil_text, ["--config", path, *_MODES[mode]]


@cache
def _keys() -> list[str]:
    """Every key of the experiment's config, those of the leaves chosen and of groups too."""
    with tempfile.TemporaryDirectory() as room:
        config = Path(room, "tiny.yaml")
        config.write_text(TUTORIAL)
        loaded = load(config, mode="tune", overrides=())
    return sorted({*_dotted(loaded.saved, ""), *loaded.choices, "model._target_", "data.test.path"})


def _dotted(node: object, path: str) -> Iterator[str]:
    if path:
        yield path
    for key, value in node.items() if isinstance(node, dict) else ():
        yield from _dotted(value, f"{path}.{key}" if path else key)


def _override(chance: random.Random) -> Drawn:
    odd = [*map(str, ODD_VALUES), "???", "${", "[1,", "a=b", "'", "off", "010", "1:30", "~", "*"]
    odd += ["os.getcwd", "[8,16,16]", "builtins.print", "torch.save", "raw.h5:x/y", "..", "a/b"]
    words = [
        f"{chance.choice(_keys())}={chance.choice(odd)}" for _ in range(chance.choice((1, 1, 2)))
    ]
    return None, None, [*_mode(chance, "train", "check", "infer", "decode_file"), *words]


def _special(chance: random.Random) -> Drawn:
    uses = {
        "raw.h5": _mode(chance, "train", "infer"),
        "labels.zarr": [*_mode(chance, "train", "check"), "data.train.label=labels.zarr"],
        "raw.tif": ["inspect", "raw.tif"],
        "tiny.yaml": _mode(chance, "train"),
        "skeletons.swc": [*_mode(chance, "test"), "data.test.skeletons=skeletons.swc"],
        CHECKPOINT: _mode(chance, "on", "init", "infer"),
        PREDICTION: _mode(chance, "decode", "decode_file", "infer"),
        SEGMENTATION: _mode(chance, "evaluate", "evaluate_file"),
        f"{RESULTS}/metrics.json": _mode(chance, "evaluate"),
    }
    path = chance.choice([*uses])
    return path, put_special, uses[path]


def _verb(chance: random.Random) -> Drawn:
    path = chance.choice(("raw.h5", "labels.h5", "raw.zarr", "raw.tif", "skeletons.npz"))
    spoiler: Spoiler = {".h5": spoil_hdf5, ".zarr": spoil_zarr}.get(Path(path).suffix, spoil_bytes)
    verbs = (
        ["convert", "cremi", path, "made"],
        ["convert", "public-em", ".", "made"],
        ["convert", "cremi-submission", path, "made.hdf"],
        ["prepare", "kasthuri15", "."],
        ["prepare", "ac3ac4", ".", "--sha256", "0"],
        ["inspect", path, path, "nowhere.h5"],
        ["synth", chance.choice(("snemi", "nothing")), path],
        ["download", chance.choice(("nothing", "nisb")), path],
    )
    return path, chance.choice((spoiler, put_special)), chance.choice(verbs)


def _pickled(chance: random.Random) -> Drawn:
    words = chance.choice((_mode(chance, "init"), _mode(chance, "infer", "on")))
    return CHECKPOINT, spoil_pickle, words


_KINDS: dict[str, Callable[[random.Random], Drawn]] = {
    "volume": _volume,
    "linked": _linked,
    "skeletons": _skeletons,
    "checkpoint": _checkpoint,
    "pickle": _pickled,
    "result": _result,
    "study": _study,
    "config": _config,
    "saved config": _saved_config,
    "override": _override,
    "special file": _special,
    "verb": _verb,
}


def _campaign(count: int, first: int, *, seconds: float, show: int) -> None:
    counts: Counter[tuple[str, str]] = Counter()
    taken: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as sound:
        os.chdir(sound)
        make_sound()
        os.chdir("/")
        for number in range(first, first + count):
            case, start = draw(number), time.monotonic()
            word, said = outcome(case, Path(sound), seconds=seconds)
            counts[case.kind, word] += 1
            taken[case.kind] += round(1000 * (time.monotonic() - start))
            if word not in FINE and show:
                spoiler = getattr(case.spoiler, "__name__", "")
                last = said.replace("\0", "").strip().splitlines()[-show:]
                print(
                    f"{number} {word}: {case.kind}, {spoiler} {case.path}: {' '.join(case.words)}"
                )
                print("   ", "\n    ".join(last), flush=True)
    words = sorted({word for _, word in counts})
    print(f"{'kind':14}", *(f"{word:>10}" for word in (*words, "s a case")))
    for kind in _KINDS:
        numbers = [counts[kind, word] for word in words]
        mean = taken[kind] / 1000 / max(1, sum(numbers))
        print(f"{kind:14}", *(f"{number:10}" for number in numbers), f"{mean:10.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="more is a hang")
    parser.add_argument("--show", type=int, default=3, help="lines of each fault's output")
    arguments = parser.parse_args()
    _campaign(arguments.count, arguments.first, seconds=arguments.seconds, show=arguments.show)
