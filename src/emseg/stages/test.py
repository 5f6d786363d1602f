"""Test: infer, decode and evaluate the volumes of `data.test`, together or one stage alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from emseg.config import Loaded, dump
from emseg.errors import UserError
from emseg.stages.decode import DecodeJob, decode
from emseg.stages.devices import resolve_devices
from emseg.stages.evaluate import Scores, evaluate, table
from emseg.stages.infer import infer
from emseg.stages.network import load_trained
from emseg.stages.overview import write_overview
from emseg.stages.runs import log_start, results_of, run_for, say, write_config
from emseg.stages.sources import Source, open_sources
from emseg.training.checkpoints import read_checkpoint


@dataclass(frozen=True)
class Session:
    """One call of the command line: its config, and what it does about results that are there."""

    loaded: Loaded
    force: bool
    verify: bool
    command: str


def test(session: Session, checkpoint: Path) -> dict[str, Scores]:
    """The scores by volume, after all three stages; each is skipped when its result is current."""
    sources = test_sources(session)
    predictions = infer_all(session, checkpoint)
    segmentations = {name: _decode(session, prediction) for name, prediction in predictions.items()}
    return _judge(session, sources, predictions, segmentations)


def infer_all(
    session: Session, checkpoint: Path, *, subfolder: str | None = None
) -> dict[str, Path]:
    """The prediction of each test volume, in `results_step=<step>/` of the checkpoint's run."""
    root, sources = session.loaded.root, test_sources(session)
    warning = resolve_devices(root.system).warning
    if warning:
        say(warning)
    trained = load_trained(root, checkpoint, allow=session.loaded.allow)
    run = run_for(checkpoint, root.experiment_name, config=dump(session.loaded.saved))
    log_start(run, command=session.command, seed=root.system.seed)
    folder = results_of(run, trained.step) / (subfolder or "")
    folder.mkdir(exist_ok=True)
    write_config(folder, dump(session.loaded.saved))
    return {
        source.name: infer(
            source, trained, root, folder=folder, force=session.force, verify=session.verify
        )
        for source in sources
    }


def decode_all(
    session: Session, *, checkpoint: Path | None, prediction: Path | None
) -> dict[str, Path]:
    """The segmentation of each test volume's prediction, or of the one `prediction` given."""
    if prediction is not None:
        found = {_volume_name(prediction, "prediction"): prediction}
    else:
        found = _artifacts(session, checkpoint, "prediction", made_by="infer")
    return {name: _decode(session, path) for name, path in found.items()}


def evaluate_all(
    session: Session, *, checkpoint: Path | None, segmentation: Path | None
) -> dict[str, Scores]:
    """The scores of each test volume's segmentation, or of the one `segmentation` given."""
    sources = test_sources(session)
    if segmentation is None:
        found = _artifacts(session, checkpoint, "segmentation", made_by="decode")
        return _judge(session, sources, {}, found)
    name = _volume_name(segmentation, "segmentation")
    own = [source for source in sources if source.name == name or len(sources) == 1]
    if not own:
        names = ", ".join(source.name for source in sources)
        raise UserError(f"--input {segmentation}: data.test has no volume '{name}', but {names}")
    return _judge(session, own, {}, {own[0].name: segmentation})


def test_sources(session: Session) -> list[Source]:
    """The open volumes of `data.test`; a lone unnamed one is called test_im."""
    return open_sources(session.loaded.root.data.test, split="test", lone_name="test_im")


def decode_job(session: Session, prediction: Path) -> DecodeJob:
    """The config's decoder for one prediction."""
    root = session.loaded.root
    select = root.inference.model.select_channel
    return DecodeJob(prediction, root.decoding, select, tuple(session.loaded.allow))


def _decode(session: Session, prediction: Path) -> Path:
    name = _volume_name(prediction, "prediction")
    return decode(
        decode_job(session, prediction),
        # As the prediction: HDF5 beside HDF5, zarr beside a zarr that was too large for it.
        segmentation=prediction.with_name(f"{name}_segmentation{prediction.suffix}"),
        force=session.force,
        verify=session.verify,
    )


def _judge(
    session: Session,
    sources: Sequence[Source],
    predictions: Mapping[str, Path],
    segmentations: Mapping[str, Path],
) -> dict[str, Scores]:
    config = session.loaded.root.evaluation
    folder = next(iter(segmentations.values())).parent
    scores: dict[str, Scores] = {}
    if config.enabled:
        scores = evaluate(
            segmentations,
            sources,
            metrics=config.metrics,
            folder=folder,
            context={"decoding": session.loaded.root.decoding},
            verify=session.verify,
            allow=session.loaded.allow,
            force=session.force,
        )
    if scores:
        print(table(scores))
    write_overview(
        folder / "overview.png", sources, predictions=predictions, segmentations=segmentations
    )
    print(f"results: {folder}")
    return scores


def _artifacts(
    session: Session, checkpoint: Path | None, kind: str, *, made_by: str
) -> dict[str, Path]:
    assert checkpoint is not None
    root = session.loaded.root
    run = run_for(checkpoint, root.experiment_name, config=dump(session.loaded.saved))
    folder = results_of(run, read_checkpoint(checkpoint)["global_step"])
    found = {}
    for source in test_sources(session):
        paths = [folder / f"{source.name}_{kind}{suffix}" for suffix in (".h5", ".zarr")]
        there = [path for path in paths if path.exists()]
        if not there:
            raise UserError(f"{paths[0]} is not there: --mode {made_by} makes it")
        found[source.name] = there[0]
    return found


def _volume_name(path: Path, kind: str) -> str:
    return path.stem.removesuffix(f"_{kind}")
