"""The stages, and which of them a mode runs."""

from pathlib import Path

from emseg.config import Loaded


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
    from emseg.stages import test as stages
    from emseg.stages.tune import tune_decoder

    session = stages.Session(loaded, force=force, verify=verify, command=command)
    if mode == "infer":
        stages.infer_all(session, checkpoint)
    elif mode == "decode":
        stages.decode_all(session, checkpoint=checkpoint, prediction=source)
    elif mode == "evaluate":
        stages.evaluate_all(session, checkpoint=checkpoint, segmentation=source)
    elif mode == "test":
        stages.test(session, checkpoint)
    else:
        tune_decoder(session, test, checkpoint, then_test=mode == "tune-test")
