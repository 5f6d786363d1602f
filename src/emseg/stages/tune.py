"""Tune mode: predict once, search the decoder, keep the best as a choice, test with it."""

from dataclasses import replace
from pathlib import Path

import yaml

from emseg.config import Loaded
from emseg.errors import UserError
from emseg.stages.runs import run_of, say
from emseg.stages.study import Task, search
from emseg.stages.test import Session, decode_job, infer_all, test, test_sources
from emseg.volumes.atomic import replacing


def tune_decoder(session: Session, tested: Loaded, checkpoint: Path, *, then_test: bool) -> dict:
    """The decoder's leaf with the best parameters; with `then_test` the test is run with it.

    The leaf is also written as `<run>/tune/decoding/<study_name>.yaml`, a choice that
    `--conf <run>/tune decoding=<study_name>` picks.
    """
    root = session.loaded.root
    sources = test_sources(session)
    bare = [source.name for source in sources if source.label is None]
    if bare:
        raise UserError(f"tuning needs truth: data.test volume '{bare[0]}' has no label")
    same = root.data.test == tested.root.data.test
    if same:
        say("warning: the decoder is tuned on the test data; set tune.data.test to other volumes")
    predictions = infer_all(session, checkpoint, subfolder=None if same else "tune")
    run = run_of(next(iter(predictions.values())))
    assert run is not None
    config = replace(root.tune, study_name=root.tune.study_name or f"{root.experiment_name}_tuning")
    tasks = [
        Task(decode_job(session, predictions[s.name]), s, root.evaluation.metrics, config.metric)
        for s in sources
    ]
    best = search(tasks, config, folder=run / "tune", seed=root.system.seed)
    choice = run / "tune" / "decoding" / f"{config.study_name}.yaml"
    with replacing(choice) as partial:
        partial.write_text(yaml.safe_dump(best, sort_keys=False))
    say(f"best decoder: add --conf {run / 'tune'} decoding={config.study_name} to --mode test")
    if then_test:
        decided = replace(tested, root=replace(tested.root, decoding=best))
        test(replace(session, loaded=decided), checkpoint)
    return best
