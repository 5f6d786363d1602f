"""Tune mode: predict once, search decoder arguments, save the best as a choice, test with it."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from emseg.config import Loaded
from emseg.config.schema import Tune
from emseg.config.schema_data import VolumeConfig
from emseg.errors import UserError, unknown_name
from emseg.runs.run_folder import run_of, say
from emseg.stages.scores import better_when, build_metrics, score_names, try_decoders, try_metrics
from emseg.stages.search_space import own_values, with_parameters
from emseg.stages.session import Session, rehearsed_sources, test_sources
from emseg.stages.sources import Source, require_truth
from emseg.stages.study import Found, search, shown
from emseg.stages.study_file import check_study_file
from emseg.stages.test import infer_sources, test_all
from emseg.stages.trial import tasks_of
from emseg.volumes import check_writable
from emseg.volumes.atomic import replacing


def tune_decoder(
    session: Session, tested: Loaded, checkpoint: Path, *, then_test: bool
) -> dict[str, Any]:
    """The decoder's leaf with the best parameters; with `then_test` runs the test with it.

    The leaf is also written as `<run>/tune/decoding/<study_name>.yaml`, a choice that `--conf
    <run>/tune decoding=<study_name>` selects. If the volumes are not those of the test, predictions
    are in a separate folder, `results_step=<step>/tune/`.
    """
    root = session.loaded.root
    sources = test_sources(session)
    require_truth(sources, "tuning")
    metric = _metric_alone(root.evaluation.metrics, root.tune, session.loaded.allow)
    try_metrics(metric, sources, allow=session.loaded.allow)
    _try_space(session, sources)
    if then_test:
        rehearsed_sources(replace(session, loaded=tested))
    name = root.tune.study_name or f"{root.experiment_name}_tuning"
    trained_in = run_of(checkpoint)
    with ExitStack() as locks:
        if trained_in is not None and (trained_in / "tune").is_dir():
            # Locked first: a study that another run is about to create is not complete.
            session.lock(trained_in / "tune" / name, locks)
            check_study_file(trained_in / "tune" / f"{name}.sqlite3")
        subfolder = "" if root.data.test == tested.root.data.test else "tune"
        predictions = infer_sources(session, checkpoint, sources, locks, subfolder=subfolder)
        run = run_of(next(iter(predictions.values())))
        assert run is not None
        if share_voxels(root.data.test, tested.root.data.test):
            warning = "the decoder is tuned on the test data; set tune.data.test to other volumes"
            say(f"warning: {warning}", run=run)
        folder, config = run / "tune", replace(root.tune, study_name=name)
        check_writable(folder)
        session.lock(folder / name, locks)
        tasks = tasks_of(session, sources, predictions, metric, config.metric)
        found = search(tasks, config, folder=folder, seed=root.system.seed, verify=session.verify)
        _write_best(found, root.decoding, config, run)
        if then_test:
            test_all(replace(session, loaded=_with_decoder(tested, found.leaf)), checkpoint)
        return found.leaf


def _metric_alone(
    metrics: Mapping[str, dict[str, Any]], config: Tune, allow: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """The metric of `tune.metric`; UserError if there is none, or `tune.direction` is wrong."""
    names: list[str] = []
    for key, node in metrics.items():
        built = build_metrics({key: node}, allow=allow)
        own = score_names(built)
        if config.metric in own:
            better = better_when(built, config.metric)
            if better not in (None, config.direction):
                raise UserError(
                    f"tune.direction: {config.direction} would look for the worst {config.metric}; "
                    f"set tune.direction={better}"
                )
            return {key: node}
        names += own
    raise unknown_name("metric", config.metric, names, where="tune.metric")


def _try_space(session: Session, sources: Sequence[Source]) -> None:
    """Raises UserError for a decoder, or an end of a search range, that no trial could use.

    Elements of lists (`aff_threshold.0`) depend on each other, so the trials check them.
    """
    root, allow = session.loaded.root, session.loaded.allow
    try_decoders([root.decoding], sources, root, allow=allow)
    ends = [
        with_parameters(root.decoding, {key: value})
        for key, space in root.tune.search_space.items()
        for value in space.choices or (space.low, space.high)
        if "." not in key
    ]
    try_decoders(ends, sources, root, allow=allow, key="tune.search_space")


def _write_best(found: Found, own: Mapping[str, Any], config: Tune, run: Path) -> None:
    """Writes the best decoder, its score and that of the config's own as a choice.

    The best is that of many tries on these volumes; other volumes will score worse.
    """
    untuned = "no score" if found.untuned is None else f"{found.untuned:.4f}"
    compared = {"untuned": (untuned, own), "tuned": (f"{found.score:.4f}", found.leaf)}
    scores = [
        f"{config.metric} {name}: {score} with {shown(own_values(config.search_space, leaf))}"
        for name, (score, leaf) in compared.items()
    ]
    for line in scores:
        say(line, run=run)
    choice = run / "tune" / "decoding" / f"{config.study_name}.yaml"
    comments = [*scores, f"of a study with the fingerprint {found.fingerprint}"]
    with replacing(choice) as partial:
        comment = "".join(f"# {line}\n" for line in comments)
        partial.write_text(comment + yaml.safe_dump(found.leaf, sort_keys=False))
    say(f"best decoder: add --conf {run / 'tune'} decoding={config.study_name} to --mode test")


def share_voxels(one: Mapping[str, VolumeConfig], other: Mapping[str, VolumeConfig]) -> bool:
    """Whether both have voxels of the same image, judged by names and ranges."""
    pairs = [(a, b) for a in one.values() for b in other.values()]
    return any((a.path, a.image) == (b.path, b.image) and _meet(a, b) for a, b in pairs)


def _meet(one: VolumeConfig, other: VolumeConfig) -> bool:
    first, second = one.range, other.range
    if first is None or second is None or one.range_axis != other.range_axis:
        return True
    # Voxels and fractions can only be compared with the image.
    if type(first[0]) is not type(second[0]):
        return True
    return first[0] < second[1] and second[0] < first[1]


def _with_decoder(loaded: Loaded, decoding: dict[str, Any]) -> Loaded:
    """The config with the decoder's arguments, also in the copy saved with the results."""
    arguments = {key: value for key, value in decoding.items() if key != "_target_"}
    section = loaded.saved.get("test", {}) | {"decoding": arguments}
    return replace(
        loaded,
        root=replace(loaded.root, decoding=decoding),
        saved=loaded.saved | {"test": section},
    )
