"""emseg: segment neurons and synapses in electron-microscopy volumes.

For notebooks, on plain arrays: `load_run`, `predict`, `open_volume`, the decoders `agglomerate` and
`affinity_cc`, the metrics `adapted_rand` and `voi`. `docs/notebook.py` shows them.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emseg.decoding.affinity_cc import affinity_cc
    from emseg.decoding.agglomerate import agglomerate
    from emseg.evaluation.adapted_rand import adapted_rand
    from emseg.evaluation.voi import voi
    from emseg.inference.predict import predict
    from emseg.stages.load_run import load_run
    from emseg.volumes import open_volume

# PyTorch's threads wait for each other by spinning, beside a busy process for whole time slices.
# With so many turns, a tenth of the default, a quiet machine is as fast as ever and a busy one up
# to twice as fast (benchmarks/cpu_training.py). Read when PyTorch is loaded.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "30000")

__version__ = "0.1.0"

__all__ = [
    "adapted_rand",
    "affinity_cc",
    "agglomerate",
    "load_run",
    "open_volume",
    "predict",
    "voi",
]

# Imported on first use: the command line's --help must not wait for torch.
_HOMES = {
    "adapted_rand": "emseg.evaluation.adapted_rand",
    "affinity_cc": "emseg.decoding.affinity_cc",
    "agglomerate": "emseg.decoding.agglomerate",
    "load_run": "emseg.stages.load_run",
    "open_volume": "emseg.volumes",
    "predict": "emseg.inference.predict",
    "voi": "emseg.evaluation.voi",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'emseg' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
