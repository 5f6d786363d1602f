"""What is decoded: a prediction, its channels, and all that determines the labels."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from emseg.blocks.memory import GIB, memory_within
from emseg.config import build
from emseg.config.leaves import CODE_READ, NO_RESULT
from emseg.config.schema import System
from emseg.config.schema_inference import PredictionConfig
from emseg.decoding.decoder import Sweeping, decoder_of
from emseg.decoding.stored_values import Calibration, calibrated, calibration_of, usual_scale
from emseg.errors import UserError
from emseg.runs.artifacts import check_format, contents, fingerprint
from emseg.runs.run_folder import say
from emseg.stages.channels import read_channels
from emseg.stages.foreign_prediction import agreed, open_elsewhere
from emseg.volumes import Volume, identity, open_volume, read_attributes
from emseg.volumes.content import content_now, stored_content
from emseg.volumes.places import check_on_grid

if TYPE_CHECKING:
    from emseg.decoding.agglomerate import Agglomerate


@dataclass(frozen=True)
class DecodeJob:
    """All that decoding one prediction needs; plain values, to be sent to a child process.

    `decoding` is the decoder's leaf, `select` the chosen channels or head (None: the nearest
    offsets), `memory` GiB that decoding may use (None: what the machine or its cgroup has),
    `system` says who labels the blocks of a large volume, `said` what the config says about a
    prediction of another program, `content` the hash of the prediction's content if it was changed
    after it was written, `shard` the number of a part of its blocks and how many parts there are.
    """

    prediction: Path
    decoding: dict[str, Any]
    select: Sequence[int] | str | None
    allow: tuple[str, ...] = ()
    memory: float | None = None
    system: System = field(default_factory=System)
    said: PredictionConfig = field(default_factory=PredictionConfig)
    content: str | None = None
    shard: tuple[int, int] | None = None

    @property
    def memory_bytes(self) -> int:
        return memory_within(self.memory)


def as_it_is(job: DecodeJob) -> DecodeJob:
    """The job, with the hash of its prediction's content if that was changed after writing.

    Prints a line in that case. Reads the whole prediction.
    """
    now = content_now(job.prediction)
    if now is None or now == stored_content(read_attributes(job.prediction)):
        return job
    say(f"{job.prediction} was changed after it was written: it is taken as it is now")
    return replace(job, content=now)


def open_prediction(job: DecodeJob) -> Volume:
    """The prediction, lazily; UserError if it is none, or if facts about it are unknown."""
    path, stored = job.prediction, read_attributes(job.prediction)
    if "format_version" not in stored:
        return open_elsewhere(path, job.said, asked=_asked(job))
    check_format(path, stored)
    kind = stored.get("kind")
    if kind != "prediction":
        raise UserError(f"{path} is a {kind}, not a prediction")
    step = stored.get("step")
    if type(step) is not int or step < 0:
        raise UserError(f"{path}: the attribute step is {step!r:.60}, it must be 0 or more")
    if not isinstance(stored.get("fingerprint"), str):
        raise UserError(f"{path}: the attribute fingerprint must be text")
    volume = open_volume(path)
    read_channels(volume)
    agreed(stored, job.said, where=path, scale=usual_scale(volume.dtype))
    return volume


def decoder_for(job: DecodeJob) -> Callable[..., np.ndarray]:
    """The job's decoder. Raises UserError if one of its settings is not allowed."""
    leaf = dict(job.decoding)
    if leaf.get("memory_limit", 0) is None:
        # The prediction and its labels may use the other half.
        leaf["memory_limit"] = job.memory_bytes / GIB / 2
    return decoder_of(build(leaf, kind="decoding", allow=job.allow))


def _asked(job: DecodeJob) -> list[str]:
    """The decoder's required arguments."""
    parameters = inspect.signature(decoder_for(job)).parameters.values()
    return [one.name for one in parameters if one.default is inspect.Parameter.empty]


# Increased manually when a decoder's labels change for the same inputs.
_VERSIONS = {"emseg.decoding.agglomerate.agglomerate": 2}


def decode_facts(job: DecodeJob) -> dict[str, Any]:
    """All that determines the labels, as plain containers."""
    version = _VERSIONS.get(job.decoding["_target_"])
    unused = set(NO_RESULT["decoding"])
    if job.decoding.get("fragments") in ("volume", "sections"):
        # Nothing reads them then, and segmentations from before they existed stay current.
        unused |= {"basin_boundary", "basin_reach"}
    return {
        **prediction_facts(job),
        **({} if version is None else {"version": version}),
        "decoding": {k: v for k, v in job.decoding.items() if k not in unused},
        "files": [identity(file) for file in decoder_files(job.decoding)],
    }


def prediction_facts(job: DecodeJob) -> dict[str, Any]:
    """All that determines which affinities the decoder gets, as plain containers."""
    predicted = open_prediction(job)
    content = job.content or stored_content(predicted.attributes)
    return {
        "prediction": predicted.attributes["fingerprint"],
        # Predictions of older versions have none; their segmentations stay current.
        **({} if content is None else {"content": content}),
        "select": channels_of(job, predicted),
        "calibration": [job.decoding.get(key) for key in CODE_READ["decoding"]],
    }


def labels_of(job: DecodeJob, graph: Path | None = None) -> np.ndarray:
    """The labels (Z, Y, X) that the job's decoder computes from the chosen channels.

    With `decoding.save_graph` they are made of the region graph at the path `graph`.
    """
    decoder, prediction, facts = decoder_input(job)
    if graph is not None and _saves_graph(job, decoder):
        # Imported here: compiled code and h5py, which a stage that saves no graph does not need.
        from emseg.decoding.agglomeration.saved_graph import labels_by_graph

        return labels_by_graph(decoder, graph, _graph_key(job), prediction[...], **facts)
    return decoder(prediction[...], **facts)


def lacks_graph(job: DecodeJob, graph: Path) -> bool:
    """Whether `labels_of` would have to make the region graph at the path `graph`."""
    decoder = decoder_for(job)
    if not _saves_graph(job, decoder):
        return False
    from emseg.decoding.agglomeration.saved_graph import has_graph

    return not has_graph(decoder, graph, _graph_key(job))


def _saves_graph(job: DecodeJob, decoder: object) -> TypeGuard["Agglomerate"]:
    if not job.decoding.get("save_graph"):
        return False
    from emseg.decoding.agglomerate import Agglomerate

    # A user's own decoder may have a setting of that name.
    return isinstance(decoder, Agglomerate)


def _graph_key(job: DecodeJob) -> str:
    about = prediction_facts(job) | contents(inputs_of(job, open_prediction(job)))
    return fingerprint("decode", about)


def labels_by_value(
    job: DecodeJob, name: str, values: Sequence[float]
) -> Iterator[tuple[float, np.ndarray]]:
    """(value, labels) for each value of the decoder's swept setting `name`, in one pass."""
    decoder, prediction, facts = decoder_input(job)
    if not (isinstance(decoder, Sweeping) and decoder.swept == name):
        target = job.decoding["_target_"].rpartition(".")[2]
        raise UserError(f"the decoder {target} cannot sweep over '{name}'")
    yield from decoder.sweep(prediction[...], values, **facts)


def channels_of(job: DecodeJob, predicted: Volume) -> list[int]:
    """The channels of the prediction that the decoder gets."""
    return read_channels(predicted).chosen(job.select, where=job.prediction)


def decoder_input(
    job: DecodeJob,
) -> tuple[Callable[..., np.ndarray], Volume, dict[str, Any]]:
    """(decoder, prediction, facts): its channels, lazily, calibrated if asked, and its facts."""
    decoder, predicted = decoder_for(job), open_prediction(job)
    for file in decoder_files(job.decoding):
        check_on_grid(file, predicted, what="decoding.affinity_mask_path")
    about, where = read_channels(predicted), job.prediction
    chosen = about.chosen(job.select, where=where)
    facts = about.facts_for(decoder, chosen, voxel_size=predicted.voxel_size, where=where)
    prediction, calibration = predicted.select(chosen), calibration_of(job.decoding)
    if calibration is None and "elsewhere" in predicted.attributes and about.activation == "logit":
        # The config has said that they are logits.
        calibration = Calibration(biases=None, temperature=1.0)
    if calibration is not None:
        logits = about.are_logits(chosen, where=where)
        prediction = calibrated(prediction, calibration, logits=logits)
    return decoder, prediction, facts


def decoder_files(decoding: Mapping[str, Any]) -> list[str]:
    """The files that a decoder reads, on which the result depends as on its arguments."""
    return [value for key, value in decoding.items() if key.endswith("_path") and value is not None]


def inputs_of(job: DecodeJob, predicted: Volume) -> list[str]:
    """The files whose bytes no fingerprint covers: the decoder's, and foreign predictions."""
    elsewhere = "elsewhere" in predicted.attributes
    return [*decoder_files(job.decoding), *([predicted.location] if elsewhere else [])]
