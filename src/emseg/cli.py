"""The command line: arguments, one-line errors, and calls of the stages and verbs."""

import argparse
import os
import re
import shlex
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from emseg.errors import UserError, unknown_name
from emseg.faults import fault_line
from emseg.stopping import Stopped, ending_signals
from emseg.verbs import VERBS, run_verb

if TYPE_CHECKING:
    from emseg.config import Loaded

MODES = ("train", "test", "tune", "tune-test", "sweep", "infer", "decode", "evaluate")
NEEDS_WEIGHTS = ("test", "tune", "tune-test", "sweep", "infer")

EXAMPLES = """\
examples:
  emseg --config tutorials/neuron_fib25/neuron_fib25.yaml
  emseg --config … --mode test --checkpoint outputs/<name>/<timestamp>/checkpoints/last.ckpt
  emseg --config … --mode tune --checkpoint … tune.n_trials=50
  emseg --config … model=rsunet_iso optimization/optimizer=sgd data.dataloader.batch_size=2
  emseg --config … --print-config
  emseg demo                      end to end on a synthetic volume, a few minutes on a CPU
  emseg synth snemi DIR           one of demo, snemi, nisb, cremi, polarity, dbmim, ac3ac4
  emseg download snemi            the real one
  emseg prepare ac3ac4            volumes of section images that are published as such
  emseg convert cremi FILE DIR    volumes of a challenge's own file
  emseg plan --config … --checkpoint CKPT     windows, memory, disk and time of a prediction
  emseg status RUN                what of a run's results is finished, and the time left
  emseg inspect FILE …            what is in HDF5, zarr and TIFF files
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0; 2 after a mistake of the user or a fault of the machine; 130 interrupted.

    For 2 and 130 there is one line on standard error. A signal to end (`stopping`) gives 128 plus
    its number, 143 for SIGTERM; a closed output pipe (`| head`) gives 141. `EMSEG_DEBUG=1` shows
    the traceback before the line.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with ending_signals(), _faults_of_threads() as faults:
            if words[:1] == ["plan"]:  # --check says what a test takes
                words = ["--check", "--mode", "test", *words[1:]]
            if words and words[0] in VERBS:
                run_verb(words[0], words[1:])
            else:
                _run_config(_parse(words), command=shlex.join(["emseg", *words]))
            sys.stdout.flush()
        return _report(UserError(faults[0])) if faults else 0
    except UserError as error:
        return _report(error)
    except Stopped as stop:
        if stop.line:
            print(f"emseg: {stop}", file=sys.stderr)
        return stop.exit_code
    except KeyboardInterrupt:
        print("emseg: interrupted; what was finished is kept", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Python flushes again when it exits, and would print an error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno())
        return 128 + signal.SIGPIPE
    except Exception as error:
        line = fault_line(error)
        if line is None:
            raise
        return _report(UserError(line))


def _report(error: UserError) -> int:
    if os.environ.get("EMSEG_DEBUG") == "1":
        traceback.print_exc()
    print("emseg:", error.line(), file=sys.stderr)
    return 2


@contextmanager
def _faults_of_threads() -> Iterator[list[str]]:
    """Lines for machine faults in threads of libraries, where Python would print tracebacks."""
    faults: list[str] = []
    before = threading.excepthook

    def collect(ended: threading.ExceptHookArgs) -> None:
        line = None if ended.exc_value is None else fault_line(ended.exc_value)
        if line is None:
            before(ended)
        else:
            faults.append(line)

    threading.excepthook = collect
    try:
        yield faults
    finally:
        threading.excepthook = before


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        raise UserError(f"{message} (emseg --help shows the forms)")


def _parser() -> _Parser:
    parser = _Parser(
        prog="emseg",
        description="Train, infer, decode, evaluate and tune the segmentation of EM volumes.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--config", type=Path, metavar="FILE", help="the tutorial, or a run's own config.yaml")
    add("--mode", default="train", metavar="MODE", help=f"one of {', '.join(MODES)} (train)")
    add("--checkpoint", type=Path, metavar="CKPT", help="train: go on from it; else: its weights")
    add("--input", type=Path, metavar="FILE", help="decode: a prediction; evaluate: a segmentation")
    add("--shard", metavar="I/N", help="infer, decode, test: the I-th of N parts of each volume")
    add("--force", action="store_true", help="run the stages even where their results are there")
    add("--verify", action="store_true", help="compare inputs by content, too")
    add("--print-config", action="store_true", help="print the composed config, then stop")
    add(
        "--check",
        action="store_true",
        help="check config and shapes of volumes, then stop; train: hours",
    )
    add("--conf", type=Path, action="append", default=[], metavar="DIR", help="more choices")
    add("--allow", action="append", default=[], metavar="PREFIX", help="trust targets under PREFIX")
    add("overrides", nargs="*", metavar="KEY=VALUE", help="model=rsunet, system.seed=1, …")
    return parser


def _parse(words: list[str]) -> argparse.Namespace:
    parser = _parser()
    flags = [*parser._option_string_actions]
    for word in words:
        flag = word.partition("=")[0]
        if flag.startswith("-") and flag not in flags:
            raise unknown_name("flag", flag, flags)
    arguments = parser.parse_intermixed_args(words or ["--help"])
    for word in arguments.overrides:
        if "=" not in word:
            raise _misplaced(word)
    if arguments.mode not in MODES:
        raise unknown_name("mode", arguments.mode, MODES, where="--mode")
    if arguments.shard is not None:
        arguments.shard = _shard(arguments.shard, arguments.mode)
        if arguments.force:
            raise UserError("--shard goes on with what others have predicted: it allows no --force")
    if arguments.config is None:
        raise UserError(f"--config FILE is missing (or one of the verbs: {', '.join(VERBS)})")
    return arguments


def _shard(text: str, mode: str) -> tuple[int, int]:
    if mode not in ("infer", "decode", "test"):
        raise UserError(f"--shard is for --mode infer, decode and test, not for {mode}")
    number, count = map(int, text.split("/")) if re.fullmatch(r"\d{1,6}/\d{1,6}", text) else (0, 0)
    if not 1 <= number <= count:
        raise UserError(f"--shard {text}: must be I/N with 1 <= I <= N, as 1/8 to 8/8")
    return number, count


def _misplaced(word: str) -> UserError:
    if word in MODES:
        return UserError(f"'{word}' is a mode: write --config FILE --mode {word}")
    if word in VERBS:
        return UserError(f"'{word}' comes first and takes no --config: {VERBS[word].usage}")
    if word.replace("-", "").isalpha():
        return unknown_name("command", word, VERBS)
    return UserError(f"'{word}' is no override: write KEY=VALUE")


def _run_config(arguments: argparse.Namespace, *, command: str) -> None:
    from emseg.config import check_targets, dump

    mode = "tune" if arguments.mode == "tune-test" else arguments.mode
    loaded = _loaded(arguments, mode)
    for note in loaded.notes:
        print(f"emseg: {note}", file=sys.stderr)
    if arguments.print_config:
        print(dump(loaded.saved), end="")
        return
    if not arguments.check:
        _check_inputs(arguments)
    check_targets(loaded, mode, of_file=arguments.input is not None)
    if arguments.check:
        from emseg.stages import check

        for line in check(loaded, mode, checkpoint=arguments.checkpoint, source=arguments.input):
            print(f"emseg: {line}", file=sys.stderr)
        print(f"{arguments.config}: the config is valid for --mode {arguments.mode}")
        return
    from emseg.stages import run

    run(
        loaded,
        arguments.mode,
        test=_loaded(arguments, "test") if mode == "tune" else None,
        checkpoint=arguments.checkpoint,
        source=arguments.input,
        force=arguments.force,
        verify=arguments.verify,
        shard=arguments.shard,
        command=command,
    )


def _loaded(arguments: argparse.Namespace, mode: str) -> "Loaded":
    from emseg.config import load

    return load(
        arguments.config,
        mode=mode,
        overrides=arguments.overrides,
        conf=arguments.conf,
        allow=arguments.allow,
    )


def _check_inputs(arguments: argparse.Namespace) -> None:
    mode, checkpoint, source = arguments.mode, arguments.checkpoint, arguments.input
    if source is not None and mode not in ("decode", "evaluate"):
        raise UserError(f"--input is for --mode decode and evaluate, not for {mode}")
    for flag in ("force", "verify"):
        if mode == "train" and getattr(arguments, flag):
            raise UserError(f"--{flag} is for modes that make results, not for train")
    if mode in NEEDS_WEIGHTS and checkpoint is None:
        raise UserError(f"--mode {mode} needs --checkpoint CKPT")
    if mode in ("decode", "evaluate") and (checkpoint is None) == (source is None):
        raise UserError(f"--mode {mode} needs one of --checkpoint CKPT and --input FILE")
    from emseg.volumes.location import parse_location, require_local, require_regular, require_there

    if checkpoint is not None:
        require_local(checkpoint, "--checkpoint")
        if not checkpoint.exists():
            raise UserError(f"--checkpoint {checkpoint}: no such file")
        require_regular(checkpoint)
    if source is not None:
        require_local(source, "--input")  # what is made of it lies beside it
        require_there(parse_location(source))
