"""Test: infer, decode and evaluate the volumes of `data.test`, together or one stage alone."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from emseg.config import dump
from emseg.errors import UserError
from emseg.runs.artifacts import existing
from emseg.runs.earlier import latest_name
from emseg.runs.lock import MOMENT, locked
from emseg.runs.run_folder import (
    NAME,
    add_record,
    log_start,
    results_of,
    run_for,
    run_of,
    say,
    write_config,
)
from emseg.stages.absent_chunks import refuse_hollow, report_absent
from emseg.stages.decode import decode, decode_shard
from emseg.stages.decode_job import DecodeJob, as_it_is, open_prediction
from emseg.stages.evaluate import evaluate, table
from emseg.stages.foreign_prediction import segmentation_of
from emseg.stages.overview import write_overview
from emseg.stages.report import write_report
from emseg.stages.scores import Scores, build_metrics
from emseg.stages.session import (
    Session,
    current_predictions,
    decode_job,
    found_predictions,
    found_segmentations,
    rehearsed_sources,
    test_sources,
)
from emseg.stages.sources import Source
from emseg.stages.voxel_grid import unlike_training
from emseg.volumes import check_writable, open_volume
from emseg.volumes.location import parse_location

if TYPE_CHECKING:
    from emseg.stages.network import Trained

# torch is imported only if a network is needed: decoding and evaluating files needs none.


def test_all(session: Session, checkpoint: Path) -> dict[str, Scores]:
    """The scores by volume, after all three stages; each is skipped if its result is current."""
    sources = rehearsed_sources(session)
    with ExitStack() as locks:
        predictions = infer_sources(session, checkpoint, sources, locks)
        if session.shard is not None and not _has_all(session, predictions, sources, locks):
            return {}
        segmentations = {
            name: _decode(session, decode_job(session, one)) for name, one in predictions.items()
        }
        return _judge(session, sources, segmentations)


def _has_all(
    session: Session, predictions: Mapping[str, Path], sources: Sequence[Source], locks: ExitStack
) -> bool:
    """Whether this shard goes on with whole volumes: all are predicted, and no other has them."""
    if len(predictions) < len(sources):
        return False
    try:
        for name, path in sorted(predictions.items()):
            session.lock(path.parent / name, locks)
    except UserError as error:
        say(f"decoding is left to another shard: {error}")
        return False
    return True


def infer_all(session: Session, checkpoint: Path) -> dict[str, Path]:
    """The prediction of each test volume."""
    with ExitStack() as locks:
        return infer_sources(session, checkpoint, test_sources(session), locks)


def decode_all(
    session: Session, *, checkpoint: Path | None, prediction: Path | None
) -> dict[str, Path]:
    """The segmentation of each test volume's prediction, or of the given `prediction`."""
    with ExitStack() as locks:
        if prediction is not None:
            jobs = {_volume_name(prediction, "prediction"): _given(session, prediction, locks)}
        else:
            assert checkpoint is not None
            sources = test_sources(session)
            found = found_predictions(session, checkpoint, sources, locks, made_by="--mode infer")
            _log_start(session, checkpoint)
            jobs = {name: decode_job(session, path) for name, path in found.items()}
        make = _decode if session.shard is None else _decode_shard
        made = {name: path for name, job in jobs.items() if (path := make(session, job))}
        for path in made.values():
            add_record(path.parent, "", None, [path])
        return made


def _given(session: Session, prediction: Path, locks: ExitStack) -> DecodeJob:
    job, segmentation = decode_job(session, prediction), segmentation_of(prediction)
    predicted = open_prediction(job)
    refuse_hollow(predicted)
    report_absent(predicted)
    check_writable(segmentation.parent)
    session.lock_volumes(segmentation.parent, [_volume_name(segmentation, "segmentation")], locks)
    return as_it_is(job) if session.verify else job


def evaluate_all(
    session: Session, *, checkpoint: Path | None, segmentation: Path | None
) -> dict[str, Scores]:
    """The scores of each test volume's segmentation, or of the given `segmentation`."""
    sources = test_sources(session)
    with ExitStack() as locks:
        if segmentation is not None:
            own = _own_source(sources, segmentation)
            folder = parse_location(segmentation).path.parent
            session.lock_volumes(folder, [_volume_name(segmentation, "segmentation")], locks)
            scores = _judge(session, [own], {own.name: segmentation})
            say(f"{NAME} and overview.png lie beside the input, in {folder.absolute()}")
            return scores
        assert checkpoint is not None
        before = "--mode infer, for --mode decode,"
        predictions = found_predictions(session, checkpoint, sources, locks, made_by=before)
        found = found_segmentations(session, predictions)
        _log_start(session, checkpoint)
        return _judge(session, sources, found)


def _own_source(sources: Sequence[Source], segmentation: Path) -> Source:
    """The source of a segmentation, by its name; UserError if there is none."""
    name = _volume_name(segmentation, "segmentation")
    own = [source for source in sources if source.name == name or len(sources) == 1]
    if not own:
        names = ", ".join(source.name for source in sources)
        raise UserError(f"--input {segmentation}: data.test has no volume '{name}', but {names}")
    volume = open_volume(segmentation)
    refuse_hollow(volume, like=own[0].image)
    report_absent(volume)
    return own[0]


def infer_sources(
    session: Session,
    checkpoint: Path,
    sources: Sequence[Source],
    locks: ExitStack,
    *,
    subfolder: str = "",
) -> dict[str, Path]:
    """The prediction of each volume, in `results_step=<step>/` of the checkpoint's run.

    Volumes are checked before the first is predicted; a checkpoint outside any run gets a new run.
    The results of these volumes are locked until `locks` close.
    """
    from emseg.stages.infer import check_image, infer
    from emseg.stages.network import load_trained
    from emseg.stages.prediction_settings import check_settings

    root = session.loaded.root
    trained = load_trained(root, checkpoint, allow=session.loaded.allow)
    check_settings(trained, root)
    before = run_of(checkpoint)
    if before is None and session.shard is not None:
        raise UserError(f"--shard: {checkpoint} lies in no run, where shards would find each other")
    there = current_predictions(session, before, trained, sources, subfolder) if before else {}
    for source in sources:
        if session.force or source.name not in there:
            check_image(source.image, trained, root)
    run = run_for(checkpoint, root.experiment_name, config=dump(session.loaded.saved))
    folder = results_of(run, trained.facts.global_step) / subfolder
    check_writable(folder)
    session.lock_volumes(folder, [source.name for source in sources], locks)
    # Only with the locks are existing results safe from changes.
    done = {}
    if not session.force:
        done = current_predictions(
            session, run, trained, sources, subfolder, verify=session.verify, report=say
        )
    for path in done.values():
        say(f"{path.name} is up to date: inference skipped")
    missing = [source for source in sources if source.name not in done]
    for source in missing:
        if source.name in there and not session.force:
            check_image(source.image, trained, root)
    log_start(run, command=session.command, seed=root.system.seed)
    with locked(folder / "config.yaml", session.command, report=say, wait=MOMENT):
        write_config(folder, dump(session.loaded.saved))
    _warn(session, run, trained, sources, missing)
    network = {"checkpoint": checkpoint, "allow": tuple(session.loaded.allow)}
    for source in missing:
        path = infer(source, trained, root, folder=folder, shard=session.shard, **network)
        if path is not None:
            done[source.name] = path
    return {source.name: done[source.name] for source in sources if source.name in done}


def _warn(
    session: Session,
    run: Path,
    trained: "Trained",
    sources: Sequence[Source],
    missing: Sequence[Source],
) -> None:
    from emseg.stages.devices import resolve_devices
    from emseg.stages.infer import unlike_intensities

    root = session.loaded.root
    warnings = [unlike_training(source.image, trained.facts) for source in missing]
    warnings += [unlike_intensities(source.image, trained, root) for source in missing]
    if root.evaluation.enabled:
        warnings += [_seen_before(source, trained) for source in sources]
    devices = resolve_devices(root.system)
    for warning in (devices.warning, *warnings):
        if warning:
            say(f"warning: {warning}", run=run)
    if missing and devices.accelerator == "gpu" and devices.count > 1:
        say(f"system.num_gpus: there are {devices.count}, inference predicts on one", run=run)


def _seen_before(source: Source, trained: "Trained") -> str | None:
    warning = "its scores are not those of new tissue"
    if source.has_truth and source.is_in(trained.facts.trained_on):
        return f"{source.name} was trained on: {warning}"
    if source.has_truth and source.is_in(trained.facts.seen_unlabelled):
        return f"{source.name} was seen in training, without its labels: {warning}"
    return None


def _decode(session: Session, job: DecodeJob) -> Path:
    return decode(
        job,
        segmentation=segmentation_of(job.prediction),
        force=session.force,
        verify=session.verify,
        keep=session.loaded.root.evaluation.keep_segmentations,
    )


def _decode_shard(session: Session, job: DecodeJob) -> Path | None:
    keep = session.loaded.root.evaluation.keep_segmentations
    segmentation = segmentation_of(job.prediction)
    return decode_shard(job, segmentation=segmentation, verify=session.verify, keep=keep)


def _judge(
    session: Session, sources: Sequence[Source], segmentations: Mapping[str, Path]
) -> dict[str, Scores]:
    config = session.loaded.root.evaluation
    folder = parse_location(next(iter(segmentations.values()))).path.parent
    scores: dict[str, Scores] = {}
    if config.enabled:
        scores = evaluate(
            segmentations,
            sources,
            metrics=config.metrics,
            folder=folder,
            force=session.force,
            verify=session.verify,
            allow=session.loaded.allow,
        )
    if scores:
        print(table(scores))
    there = {source.name: existing(folder, f"{source.name}_prediction") for source in sources}
    predictions = {name: paths[0] for name, paths in there.items() if paths}
    write_overview(
        folder / "overview.png", sources, predictions=predictions, segmentations=segmentations
    )
    write_report(
        folder / "report.html",
        sources,
        segmentations=segmentations,
        predictions=predictions,
        scores=scores,
        metrics=[one.func for one in build_metrics(config.metrics, allow=session.loaded.allow)],
        title=session.loaded.root.experiment_name,
        command=session.command,
        config=dump(session.loaded.saved),
    )
    print(f"results: {folder}")
    return scores


def _log_start(session: Session, checkpoint: Path) -> None:
    run = run_of(checkpoint)
    assert run is not None
    log_start(run, command=session.command, seed=session.loaded.root.system.seed)


def _volume_name(path: Path, kind: str) -> str:
    return latest_name(parse_location(path).path.stem).removesuffix(f"_{kind}")
