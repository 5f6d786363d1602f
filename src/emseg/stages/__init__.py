"""The stages, and which of them a mode runs."""

from pathlib import Path

from emseg.config import Loaded


def check(loaded: Loaded, mode: str, *, checkpoint: Path | None, source: Path | None) -> list[str]:
    """Notes for the user on a run of `mode`; raises the UserErrors that the run would raise.

    Volumes are opened, but no voxel is read. For a training the network is also tried for some
    seconds, and, with a `checkpoint`, whether it can be resumed. For infer and test with a
    `checkpoint` it predicts one batch of noise; the notes are those of `plan`.
    """
    if mode == "train":
        from emseg.stages.train import check_training

        return check_training(loaded, checkpoint)
    if mode in ("infer", "test") and checkpoint is not None:
        from emseg.stages.plan import plan

        return plan(loaded, checkpoint)
    from emseg.stages.sources import open_sources, require_truth

    if mode != "decode" or source is None:
        sources = open_sources(loaded.root.data.test, split="test")
        if mode == "tune":
            require_truth(sources, "tuning")
    return []


def run(
    loaded: Loaded,
    mode: str,
    *,
    test: Loaded | None,
    checkpoint: Path | None,
    source: Path | None,
    force: bool,
    verify: bool,
    shard: tuple[int, int] | None,
    command: str,
) -> None:
    """Run the stages of `mode` on a checked config.

    `test` is the config composed for test, with whose data tune compares its own and which
    tune-test uses next; `shard` is the number of a part of each volume and how many there are;
    `source` is the prediction or segmentation that decode or evaluate begin with.
    """
    if mode == "train":
        from emseg.stages.train import train

        train(loaded, checkpoint=checkpoint, command=command)
        return
    from emseg.runs.run_folder import require_one_process
    from emseg.stages.session import Session
    from emseg.stages.test import decode_all, evaluate_all, infer_all, test_all

    require_one_process(mode)
    session = Session(loaded, force=force, verify=verify, command=command, shard=shard)
    if mode == "infer":
        infer_all(session, checkpoint)
    elif mode == "decode":
        decode_all(session, checkpoint=checkpoint, prediction=source)
    elif mode == "evaluate":
        evaluate_all(session, checkpoint=checkpoint, segmentation=source)
    elif mode == "test":
        test_all(session, checkpoint)
    elif mode == "sweep":
        from emseg.stages.sweep import sweep

        sweep(session, checkpoint)
    else:
        from emseg.stages.tune import tune_decoder

        tune_decoder(session, test, checkpoint, then_test=mode == "tune-test")
