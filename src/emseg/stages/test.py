"""Test: infer, decode and evaluate the volumes of `data.test`, together or one stage alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from emseg.config import Loaded, dump
from emseg.errors import UserError
from emseg.stages.artifacts import existing
from emseg.stages.decode import DecodeJob, current_segmentation, decode, open_prediction
from emseg.stages.devices import resolve_devices
from emseg.stages.evaluate import evaluate, open_segmentation, table
from emseg.stages.grid import unlike_training
from emseg.stages.infer import check_image, check_settings, current_prediction, infer
from emseg.stages.network import Trained, load_trained
from emseg.stages.overview import write_overview
from emseg.stages.rehearsal import try_decoders, try_metrics
from emseg.stages.runs import log_start, results_of, run_for, run_of, say, write_config
from emseg.stages.scores import Scores
from emseg.stages.sources import Source, open_sources
from emseg.stages.stored import refuse_hollow, tell_absent
from emseg.volumes import check_writable, open_volume
from emseg.volumes.location import parse_location


@dataclass(frozen=True)
class Session:
    """One call of the command line: its config, and what it does about results that are there."""

    loaded: Loaded
    force: bool
    verify: bool
    command: str


def test_all(session: Session, checkpoint: Path) -> dict[str, Scores]:
    """The scores by volume, after all three stages; each is skipped when its result is current."""
    sources = rehearsed_sources(session)
    predictions = infer_sources(session, checkpoint, sources)
    segmentations = {name: _decode(session, prediction) for name, prediction in predictions.items()}
    return _judge(session, sources, segmentations)


def infer_all(session: Session, checkpoint: Path) -> dict[str, Path]:
    """The prediction of each test volume."""
    return infer_sources(session, checkpoint, test_sources(session))


def decode_all(
    session: Session, *, checkpoint: Path | None, prediction: Path | None
) -> dict[str, Path]:
    """The segmentation of each test volume's prediction, or of the one `prediction` given."""
    if prediction is not None:
        predicted = open_prediction(prediction)
        refuse_hollow(predicted)
        tell_absent(predicted)
        found = {_volume_name(prediction, "prediction"): prediction}
    else:
        assert checkpoint is not None
        sources = test_sources(session)
        found = _found_predictions(session, checkpoint, sources, made_by="--mode infer")
        _log_start(session, checkpoint)
    return {name: _decode(session, path) for name, path in found.items()}


def evaluate_all(
    session: Session, *, checkpoint: Path | None, segmentation: Path | None
) -> dict[str, Scores]:
    """The scores of each test volume's segmentation, or of the one `segmentation` given."""
    sources = test_sources(session)
    if segmentation is None:
        assert checkpoint is not None
        before = "--mode infer, for --mode decode,"
        predictions = _found_predictions(session, checkpoint, sources, made_by=before)
        found = _found_segmentations(session, predictions)
        _log_start(session, checkpoint)
        return _judge(session, sources, found)
    name = _volume_name(segmentation, "segmentation")
    own = [source for source in sources if source.name == name or len(sources) == 1]
    if not own:
        names = ", ".join(source.name for source in sources)
        raise UserError(f"--input {segmentation}: data.test has no volume '{name}', but {names}")
    refuse_hollow(open_volume(segmentation), like=own[0].image)
    tell_absent(open_segmentation(segmentation, own[0]))
    return _judge(session, own, {own[0].name: segmentation})


def infer_sources(
    session: Session, checkpoint: Path, sources: Sequence[Source], *, subfolder: str = ""
) -> dict[str, Path]:
    """The prediction of each volume, in `results_step=<step>/` of the checkpoint's run.

    Volumes are checked before the first is predicted; a checkpoint from outside any run gets one.
    """
    root = session.loaded.root
    trained = load_trained(root, checkpoint, allow=session.loaded.allow)
    check_settings(trained, root)
    before = None if session.force else run_of(checkpoint)
    done = _current(session, before, trained, sources, subfolder) if before else {}
    for path in done.values():
        say(f"{path.name} is up to date: inference skipped")
    missing = [source for source in sources if source.name not in done]
    for source in missing:
        check_image(source.image, trained, root)
    run = run_for(checkpoint, root.experiment_name, config=dump(session.loaded.saved))
    folder = results_of(run, trained.step) / subfolder
    check_writable(folder)
    log_start(run, command=session.command, seed=root.system.seed)
    write_config(folder, dump(session.loaded.saved))
    warnings = [unlike_training(source.image, trained.grid) for source in missing]
    if root.evaluation.enabled:
        warnings += [_seen_before(source, trained) for source in sources]
    devices = resolve_devices(root.system)
    for warning in (devices.warning, *warnings):
        if warning:
            say(f"warning: {warning}", run=run)
    if missing and devices.accelerator == "gpu" and devices.count > 1:
        say(f"system.num_gpus: there are {devices.count}, inference predicts on one", run=run)
    for source in missing:
        done[source.name] = infer(source, trained, root, folder=folder)
    return {source.name: done[source.name] for source in sources}


def rehearsed_sources(session: Session) -> list[Source]:
    """The open volumes of `data.test`, once it is sure that they will be decoded and evaluated."""
    sources, root, allow = test_sources(session), session.loaded.root, session.loaded.allow
    try_decoders([root.decoding], sources, root, allow=allow)
    if root.evaluation.enabled:
        try_metrics(root.evaluation.metrics, sources, allow=allow)
    return sources


def test_sources(session: Session) -> list[Source]:
    """The open volumes of `data.test`; a lone unnamed one is called test_im."""
    root = session.loaded.root
    sources = open_sources(root.data.test, split="test", lone_name="test_im")
    return [replace(source, border_mask=root.evaluation.border_mask) for source in sources]


def decode_job(session: Session, prediction: Path) -> DecodeJob:
    """The config's decoder for one prediction."""
    root = session.loaded.root
    select = root.inference.model.selected
    return DecodeJob(
        prediction, root.decoding, select, tuple(session.loaded.allow), root.system.memory
    )


def _seen_before(source: Source, trained: Trained) -> str | None:
    told = "its scores are not those of new tissue"
    if source.has_truth and source.is_in(trained.trained_on):
        return f"{source.name} was trained on: {told}"
    if source.has_truth and source.is_in(trained.seen_unlabelled):
        return f"{source.name} was seen in training, without its labels: {told}"
    return None


def _current(
    session: Session, run: Path, trained: Trained, sources: Sequence[Source], subfolder: str = ""
) -> dict[str, Path]:
    """The predictions that are what infer would make with these weights and settings, by volume."""
    root, folder = session.loaded.root, results_of(run, trained.step) / subfolder
    paths = {
        source.name: current_prediction(source, trained, root, folder=folder, verify=session.verify)
        for source in sources
    }
    return {name: path for name, path in paths.items() if path is not None}


def _decode(session: Session, prediction: Path) -> Path:
    path, name = parse_location(prediction).path, _volume_name(prediction, "prediction")
    return decode(
        decode_job(session, prediction),
        # As the prediction: HDF5 beside HDF5, zarr beside a zarr that was too large for it.
        segmentation=path.with_name(f"{name}_segmentation{path.suffix}"),
        force=session.force,
        verify=session.verify,
    )


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
    print(f"results: {folder}")
    return scores


def _found_predictions(
    session: Session, checkpoint: Path, sources: Sequence[Source], *, made_by: str
) -> dict[str, Path]:
    """What an earlier infer made of each volume; a UserError where one is not there or stale."""
    run = run_of(checkpoint)
    if run is None:
        raise UserError(f"{checkpoint} lies in no run: name what to go on from with --input FILE")
    trained = load_trained(session.loaded.root, checkpoint, allow=session.loaded.allow)
    found = _current(session, run, trained, sources)
    for source in sources:
        if source.name not in found:
            raise UserError(
                f"{results_of(run, trained.step)} has no {source.name}_prediction of these "
                f"weights, image and settings: {made_by} makes it"
            )
    return found


def _found_segmentations(session: Session, predictions: Mapping[str, Path]) -> dict[str, Path]:
    """What an earlier decode made of each prediction with this decoder."""
    found = {}
    for name, prediction in predictions.items():
        job, folder = decode_job(session, prediction), prediction.parent
        path = current_segmentation(
            job, folder=folder, name=f"{name}_segmentation", verify=session.verify
        )
        if path is None:
            raise UserError(
                f"{folder} has no {name}_segmentation of this prediction and decoder: "
                "--mode decode makes it"
            )
        found[name] = path
    return found


def _log_start(session: Session, checkpoint: Path) -> None:
    run = run_of(checkpoint)
    assert run is not None
    log_start(run, command=session.command, seed=session.loaded.root.system.seed)


def _volume_name(path: Path, kind: str) -> str:
    return parse_location(path).path.stem.removesuffix(f"_{kind}")
