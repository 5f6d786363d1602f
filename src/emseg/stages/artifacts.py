"""Fingerprints: what a result depends on, in one hash, so that nothing stale is taken for it."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from emseg.errors import UserError
from emseg.volumes import read_attributes

# Raised when the layout of an artifact changes; others are refused, never guessed.
FORMAT_VERSION = 1

# Raised by hand when a stage's output changes for the same inputs.
STAGE_VERSIONS = {"infer": 1, "decode": 1, "evaluate": 1}


def fingerprint(stage: str, facts: Mapping[str, Any]) -> str:
    """A hash of everything that decides the stage's result: equal facts, equal fingerprint.

    `facts` are plain containers (numbers, strings, lists, mappings, None).
    """
    text = json.dumps({"stage": stage, "version": STAGE_VERSIONS[stage], **facts}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def weights_hash(state: Mapping[str, torch.Tensor]) -> str:
    """A hash over the names, shapes, dtypes and values of a state dict, in the order of names."""
    digest = hashlib.sha256()
    for name in sorted(state):
        # A clone has plain strides, whatever the memory order the tensor was trained in.
        tensor = state[name].detach().cpu().clone(memory_format=torch.contiguous_format)
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def is_current(path: Path, wanted: str) -> bool:
    """True when the artifact is there and carries the wanted fingerprint.

    An artifact of an unknown format version is an error: it is not ours to overwrite.
    """
    if not path.exists():
        return False
    attributes = read_attributes(path)
    return attributes.get("fingerprint") == wanted and known_format(path, attributes)


def known_format(path: Path, attributes: Mapping[str, Any]) -> bool:
    """True; a UserError when the artifact was written in a format this emseg does not know."""
    found = attributes.get("format_version")
    if found != FORMAT_VERSION:
        raise UserError(
            f"{path}: format_version {found} is unknown to this emseg (it writes "
            f"{FORMAT_VERSION}); convert it with the emseg that wrote it, or move it away"
        )
    return True
