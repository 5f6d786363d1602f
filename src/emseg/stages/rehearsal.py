"""Tries decoders and metrics on toy data, to find mistakes before hours of work."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from emseg.config import build
from emseg.config.schema import Root
from emseg.config.schema_inference import Inference
from emseg.data.labelled import check_labels
from emseg.data.target_facts import TargetFacts
from emseg.decoding.calibration import calibration_of
from emseg.decoding.decoder import decoder_of
from emseg.errors import UserError
from emseg.stages.channels import Channels
from emseg.stages.scores import build_metrics, score_names
from emseg.stages.sources import Source
from emseg.volumes.places import check_on_grid

TOY_SHAPE = (4, 8, 8)


def try_decoders(
    decodings: Sequence[Mapping[str, Any]],
    sources: Sequence[Source],
    root: Root,
    *,
    allow: Sequence[str] = (),
    key: str = "",
) -> None:
    """Raises the UserError that one of the `decodings` (leaves) would raise for a prediction.

    Each is called with a toy prediction that has the values, channels and offsets of `root`. Files
    that a decoder reads are masks: without channels, with shape and axes of every image. The error
    begins with the `key` of the config that the leaves are from, if it is given.
    """
    target = TargetFacts.of(build(root.target, kind="target", allow=allow))
    about = Channels.of(target, root.inference.activation)
    channels = about.chosen(root.inference.model.selected, where="the target")
    toy = _toy_prediction(len(channels), root.inference)
    try:
        for decoding in decodings:
            files = {
                name: value
                for name, value in decoding.items()
                if name.endswith("_path") and value is not None
            }
            for name, location in files.items():
                for source in sources:
                    check_on_grid(location, source.image, what=f"decoding.{name}")
            # A toy has another shape than the files.
            leaf = {**decoding, **dict.fromkeys(files)}
            decoder = decoder_of(build(leaf, kind="decoding", allow=allow))
            voxel_size = sources[0].image.voxel_size
            asked = about.facts_for(decoder, channels, voxel_size=voxel_size, where="the target")
            calibration, prediction = calibration_of(decoding), toy
            if calibration is not None:
                calibration.check(len(channels))
                logits = about.are_logits(channels, where="the prediction")
                prediction = calibration(toy, logits=logits)
            decoder(prediction, **asked)
    except UserError as error:
        raise UserError(f"{key}: {error}" if key else str(error)) from error


def try_metrics(
    metrics: Mapping[str, dict[str, Any]], sources: Sequence[Source], *, allow: Sequence[str] = ()
) -> None:
    """Raises the UserError that one of the metrics, or a source's truth, would raise.

    The metrics (leaves) are called on toy data, with the kinds of truth that each source has.
    Truths of signed integers and skeletons are read for it, once.
    """
    built = build_metrics(metrics, allow=allow)
    score_names(built)
    for source in sources:
        if not source.has_truth:
            continue
        skeletons = source.skeletons()
        score_names(
            built,
            labelled=source.label is not None,
            skeletons=skeletons is not None,
            voxel_size=source.image.voxel_size,
        )
        if source.label is not None:
            check_labels(source.labelled())


def _toy_prediction(channels: int, inference: Inference) -> np.ndarray:
    values = np.random.default_rng(0).random((channels, *TOY_SHAPE), np.float32)
    if inference.activation == "none":
        values = 8 * values - 4
    if inference.output_dtype == "uint8":
        values = 255 * values
    return values.astype(inference.output_dtype)
