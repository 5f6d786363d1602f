"""Predictions of other programs: `inference.prediction` adds what their files do not say."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from emseg.config.schema_inference import PredictionConfig
from emseg.decoding.stored_values import as_decoders_take_it, check_stored_values, usual_scale
from emseg.errors import UserError
from emseg.runs.artifacts import fingerprint
from emseg.stages.voxel_grid import TOLERANCE
from emseg.volumes import Volume, identity, open_volume
from emseg.volumes.attributes import plain, stored_voxel_size
from emseg.volumes.formats import open_source
from emseg.volumes.location import MAIN, parse_location

# How each fact is set on the command line, and what it may be.
_EXAMPLES = {
    "values": "values=probability (or scaled, logit)",
    "scale": "scale=65535 (the number that stands for 1)",
    "offsets": "offsets='[[1, 0, 0], [0, 1, 0], [0, 0, 1]]' (one for each channel, stored axes)",
    "edge_side": "edge_side=destination (or source)",
    "axes": "axes=czyx (as they are stored)",
    "resolution": "resolution='[40, 4, 4]' (nm, stored axes)",
}
# The facts that decoders ask for by name, and the config keys for those missing in files.
_ASKED = {"offsets": "offsets", "edge_side": "edge_side", "voxel_size": "resolution"}


def open_elsewhere(path: Path, said: PredictionConfig, *, asked: Sequence[str]) -> Volume:
    """The prediction (C, Z, Y, X), lazily, with the attributes that emseg writes.

    They come from its file and the config, which must not contradict it. Raises a UserError that
    names all missing facts that a decoder which asks for `asked` needs.
    """
    source = open_source(path)
    facts = agreed(source.attributes, said, where=path)
    missing = [key for name, key in _ASKED.items() if name in asked and facts[key] is None]
    missing += ["values"] if facts["values"] is None else []
    missing += ["axes"] if len(source.shape) == 4 and facts["axes"] is None else []
    scaled = facts["values"] != "logit" and facts["scale"] is None
    missing += ["scale"] if scaled and usual_scale(source.dtype) is None else []
    if missing:
        keys = ", ".join(f"inference.prediction.{_EXAMPLES[key]}" for key in missing)
        raise UserError(
            f"{path} was not written by emseg and does not say all that decoding takes: set {keys}"
        )
    stored = open_volume(path, axes=facts["axes"], voxel_size=facts["resolution"])
    channels = stored.channels or 1
    if facts["offsets"] is not None and len(facts["offsets"]) != channels:
        raise UserError(
            f"inference.prediction.offsets has {len(facts['offsets'])} offsets, {path} has "
            f"{channels} channels: one for each is needed"
        )
    scale = facts["scale"] or usual_scale(stored.dtype)
    facts["scale"] = 1.0 if facts["values"] == "logit" else scale
    prediction = as_decoders_take_it(stored, facts["scale"])
    attributes = {
        "kind": "prediction",
        "fingerprint": fingerprint("infer", {"file": identity(path), "said": facts}),
        "channels": list(map(str, range(channels))),
        "offsets": facts["offsets"],
        "edge_side": facts["edge_side"],
        "activation": facts["values"],
        "step": None,
        "elsewhere": {"file": stored.location, **facts},
    }
    return replace(
        prediction, location=stored.location, offset=stored.offset, attributes=attributes
    )


def check_elsewhere(predicted: Volume, channels: Sequence[int]) -> None:
    """Raises UserError if the chosen channels hold values that they should not.

    Only for predictions of other programs, which are read once for it.
    """
    facts = predicted.attributes.get("elsewhere")
    if facts is None:
        return
    stored = open_volume(facts["file"], axes=facts["axes"])
    chosen = stored if stored.channels is None else stored.select(channels)
    check_stored_values(chosen, scale=facts["scale"], logits=facts["values"] == "logit")


def agreed(
    attributes: Mapping[str, Any],
    said: PredictionConfig,
    *,
    where: str | Path,
    scale: float | None = None,
) -> dict[str, Any]:
    """The facts of a prediction by the keys of `inference.prediction`, None for unknown ones.

    They come from its file's attributes (and the `scale`, if known), else from the config;
    UserError if both have a fact and differ.
    """
    stored = {**_stored_facts(attributes, where=f"'{where}'"), "scale": scale}
    facts: dict[str, Any] = {}
    for key, value in plain(asdict(said)).items():
        own = stored.get(key)
        if None not in (own, value) and not _same(own, value):
            raise UserError(
                f"inference.prediction.{key} is {value}, {where} itself says {own}: leave the key "
                "null, or mend the file"
            )
        facts[key] = value if own is None else own
    return facts


def segmentation_of(prediction: Path) -> Path:
    """Where the segmentation of a prediction is written: next to its file, never into it.

    zarr for zarr, else HDF5; named after the file, and after the data set if that is unusual.
    """
    location = parse_location(prediction)
    inner = [] if location.key in ("", MAIN) else location.key.split("/")
    name = "_".join([location.path.stem.removesuffix("_prediction"), *inner, "segmentation"])
    return location.path.with_name(name + (".zarr" if location.format == "zarr" else ".h5"))


def _stored_facts(attributes: Mapping[str, Any], *, where: str) -> dict[str, Any]:
    axes, offsets = attributes.get("axes"), attributes.get("offsets")
    size = stored_voxel_size(attributes, where=where)
    return {
        "values": attributes.get("activation"),
        "offsets": offsets if _are_offsets(offsets) else None,
        "edge_side": attributes.get("edge_side"),
        "axes": axes and "".join(map(str, axes)).lower(),
        "resolution": size and list(size),
    }


def _are_offsets(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(one, list) and len(one) == 3 and all(isinstance(step, int) for step in one)
        for one in value
    )


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, list) and isinstance(one[0], float):
        return bool(np.allclose(one, other, rtol=TOLERANCE))
    return bool(one == other)
