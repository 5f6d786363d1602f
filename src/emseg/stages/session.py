"""One call of the command line on the volumes of `data.test`."""

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from emseg.config import Loaded
from emseg.runs.lock import locked
from emseg.runs.run_folder import say
from emseg.stages.decode_job import DecodeJob
from emseg.stages.sources import Source, open_sources


@dataclass(frozen=True)
class Session:
    """One call of the command line: its config, and how it treats existing results."""

    loaded: Loaded
    force: bool
    verify: bool
    command: str

    def lock(self, path: Path, locks: ExitStack) -> None:
        """Locks `path` until `locks` close; UserError if another run has it."""
        locks.enter_context(locked(path, self.command, report=say))

    def lock_volumes(self, folder: Path, names: Iterable[str], locks: ExitStack) -> None:
        """Locks all results of these volumes in the folder of results."""
        for name in sorted(names):
            self.lock(folder / name, locks)


def rehearsed_sources(session: Session) -> list[Source]:
    """The open volumes of `data.test`, after checking that they can be decoded and evaluated."""
    from emseg.stages.rehearsal import try_decoders, try_metrics

    sources, root, allow = test_sources(session), session.loaded.root, session.loaded.allow
    try_decoders([root.decoding], sources, root, allow=allow)
    if root.evaluation.enabled:
        try_metrics(root.evaluation.metrics, sources, allow=allow)
    return sources


def test_sources(session: Session) -> list[Source]:
    """The open volumes of `data.test`; a single unnamed one is called test_im."""
    root = session.loaded.root
    sources = open_sources(root.data.test, split="test", lone_name="test_im")
    return [replace(source, border_mask=root.evaluation.border_mask) for source in sources]


def decode_job(session: Session, prediction: Path) -> DecodeJob:
    """The config's decoder for one prediction."""
    root = session.loaded.root
    select = root.inference.model.selected
    return DecodeJob(
        prediction,
        root.decoding,
        select,
        tuple(session.loaded.allow),
        root.system.memory,
        root.inference.prediction,
    )
