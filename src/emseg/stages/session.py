"""One call of the command line on the volumes of `data.test`, and results that it need not redo."""

import glob
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from emseg.config import Loaded
from emseg.errors import UserError
from emseg.runs.earlier import make_latest
from emseg.runs.lock import MOMENT, locked, locked_by
from emseg.runs.run_folder import results_of, run_of, say
from emseg.stages.decode import current_segmentation
from emseg.stages.decode_job import DecodeJob
from emseg.stages.sources import Source, open_test


@dataclass(frozen=True)
class Session:
    """One call of the command line: its config, and how it treats existing results.

    With a `shard`, (number, count), it predicts one part of each volume, beside other runs that
    predict the others.
    """

    loaded: Loaded
    force: bool
    verify: bool
    command: str
    shard: tuple[int, int] | None = None

    def lock(self, path: Path, locks: ExitStack) -> None:
        """Locks `path` until `locks` close; UserError if another run has it."""
        locks.enter_context(locked(path, self.command, report=say))

    def lock_volumes(self, folder: Path, names: Iterable[str], locks: ExitStack) -> None:
        """Locks all results of these volumes in the folder of results, or one part of them.

        Each locks its own first and then looks for the other kind, so that of two runs that start
        at once at most one goes on.
        """
        for name in sorted(names):
            self.lock(locked_by(folder, name, self.shard), locks)
            if self.shard is not None:
                with locked(folder / name, self.command, report=say, wait=MOMENT):
                    pass
                continue
            for file in folder.glob(f"{glob.escape(name)}.shard-*.lock"):
                with locked(file.with_suffix(""), self.command, report=say):
                    pass


def rehearsed_sources(session: Session) -> list[Source]:
    """The open volumes of `data.test`, after checking that they can be decoded and evaluated."""
    from emseg.stages.scores import try_decoders, try_metrics

    sources, root, allow = test_sources(session), session.loaded.root, session.loaded.allow
    try_decoders([root.decoding], sources, root, allow=allow)
    if root.evaluation.enabled:
        try_metrics(root.evaluation.metrics, sources, allow=allow)
    return sources


def test_sources(session: Session) -> list[Source]:
    """The open volumes of `data.test`; a single unnamed one is called test_im."""
    root = session.loaded.root
    sources = open_test(root.data.test)
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
        root.system,
        root.inference.prediction,
        shard=session.shard,
    )


if TYPE_CHECKING:
    from emseg.stages.network import Trained


def current_predictions(
    session: Session,
    run: Path,
    trained: "Trained",
    sources: Sequence[Source],
    subfolder: str = "",
    *,
    verify: bool = False,
    report: Callable[[str], None] | None = None,
) -> dict[str, Path]:
    """The predictions that infer would make with these weights and settings, by volume.

    `verify` and `report` are as for `find_current`.
    """
    from emseg.stages.infer import current_prediction

    root, folder = session.loaded.root, results_of(run, trained.facts.global_step) / subfolder
    paths = {
        source.name: current_prediction(
            source, trained, root, folder=folder, verify=verify, report=report
        )
        for source in sources
    }
    return {name: path for name, path in paths.items() if path is not None}


def found_predictions(
    session: Session,
    checkpoint: Path,
    sources: Sequence[Source],
    locks: ExitStack,
    *,
    made_by: str,
) -> dict[str, Path]:
    """The earlier prediction of each volume; UserError if one is missing or stale."""
    from emseg.stages.network import load_trained

    run = run_of(checkpoint)
    if run is None:
        raise UserError(f"{checkpoint} lies in no run: name what to go on from with --input FILE")
    trained = load_trained(session.loaded.root, checkpoint, allow=session.loaded.allow)
    folder = results_of(run, trained.facts.global_step)
    found = current_predictions(session, run, trained, sources)
    if found:
        session.lock_volumes(folder, found, locks)
        found = current_predictions(session, run, trained, sources, verify=session.verify)
    for source in sources:
        if source.name not in found:
            raise UserError(
                f"{folder} has no {source.name}_prediction of these weights, image and settings: "
                f"{made_by} makes it"
            )
    return found


def found_segmentations(session: Session, predictions: Mapping[str, Path]) -> dict[str, Path]:
    """The earlier segmentation of each prediction by this decoder."""
    found = {}
    for volume, prediction in predictions.items():
        job, folder = decode_job(session, prediction), prediction.parent
        name = f"{volume}_segmentation"
        path = current_segmentation(job, folder=folder, name=name, verify=session.verify)
        if path is None:
            raise UserError(
                f"{folder} has no {name} of this prediction and decoder: --mode decode makes it"
            )
        found[volume] = path if path.stem == name else make_latest(path, name)
    return found
