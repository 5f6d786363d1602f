"""The verbs of the command line, which need no config: their words and their functions."""

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple

from emseg.errors import UserError


class Verb(NamedTuple):
    """A verb's module and words; the function there has the verb's name, with `_` for `-`.

    The words are `least` to `most` in number, and perhaps some of `flags`, each with a value.
    """

    module: str
    usage: str
    least: int
    most: int
    flags: tuple[str, ...] = ()


VERBS = {
    "demo": Verb("emseg.stages.demo", "emseg demo", 0, 0),
    "synth": Verb("emseg.datasets.synth", "emseg synth LAYOUT DIR", 2, 2),
    "download": Verb(
        "emseg.datasets.download",
        "emseg download DATASET [DIR] [--sha256 HASH]",
        1,
        2,
        ("--sha256",),
    ),
    "prepare": Verb(
        "emseg.datasets.prepare",
        "emseg prepare ac3ac4 [DIR] [--sha256 HASH], or emseg prepare kasthuri15 [DIR]",
        1,
        2,
        ("--sha256",),
    ),
    "convert": Verb(
        "emseg.datasets.convert",
        "emseg convert cremi SOURCE DIR, or emseg convert public-em SOURCE DIR, or "
        "emseg convert cremi-submission SEGMENTATION FILE.hdf [--alignment RECORD]",
        3,
        3,
        ("--alignment",),
    ),
    "status": Verb("emseg.runs.status", "emseg status RUN", 1, 1),
    "inspect": Verb(
        "emseg.datasets.inspect",
        "emseg inspect FILE … [--json FILE.json]",
        1,
        sys.maxsize,
        ("--json",),
    ),
}


def run_verb(verb: str, words: Sequence[str]) -> None:
    """Calls the function of a verb with its words; UserError for words that it does not take."""
    module, usage, least, most, flags = VERBS[verb]
    if words in (["--help"], ["-h"]):
        print(f"usage: {usage}")
        return
    given, rest = {}, [*words]
    for flag in flags:
        if flag in rest[:-1]:
            at = rest.index(flag)
            given[flag.removeprefix("--").replace("-", "_")] = rest[at + 1]
            del rest[at : at + 2]
    if not least <= len(rest) <= most or any(word.startswith("-") for word in rest):
        raise UserError(f"'{' '.join(words)}' is not what {verb} takes: {usage}")
    getattr(import_module(module), verb.replace("-", "_"))(*rest, **given)
