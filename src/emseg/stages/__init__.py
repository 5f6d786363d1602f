"""The stages, and which of them a mode runs."""

from pathlib import Path

from emseg.config import Loaded


def check(loaded: Loaded, mode: str) -> None:
    """Nothing, or a UserError for settings that `mode` would refuse before it opens a volume."""
    if mode == "train":
        from emseg.stages.objective import objective_of
        from emseg.stages.patches import check_together

        check_together(loaded, objective_of(loaded.root, allow=loaded.allow))


def run(
    loaded: Loaded,
    mode: str,
    *,
    test: Loaded | None,
    checkpoint: Path | None,
    source: Path | None,
    force: bool,
    verify: bool,
    command: str,
) -> None:
    """Run the stages of `mode` on a checked config.

    `test` is the config composed for test, which tune compares its data with and tune-test goes
    on with; `source` is the prediction or segmentation that decode or evaluate begin with.
    """
    if mode == "train":
        from emseg.stages.train import train

        train(loaded, checkpoint=checkpoint, command=command)
        return
    from emseg.runs.lock import ending_on_sigterm
    from emseg.stages.runs import require_one_process, say
    from emseg.stages.sweep import sweep
    from emseg.stages.test import Session, decode_all, evaluate_all, infer_all, test_all
    from emseg.stages.tune import tune_decoder

    require_one_process(mode)
    session = Session(loaded, force=force, verify=verify, command=command)
    with ending_on_sigterm(say):
        if mode == "infer":
            infer_all(session, checkpoint)
        elif mode == "decode":
            decode_all(session, checkpoint=checkpoint, prediction=source)
        elif mode == "evaluate":
            evaluate_all(session, checkpoint=checkpoint, segmentation=source)
        elif mode == "test":
            test_all(session, checkpoint)
        elif mode == "sweep":
            sweep(session, checkpoint)
        else:
            tune_decoder(session, test, checkpoint, then_test=mode == "tune-test")
