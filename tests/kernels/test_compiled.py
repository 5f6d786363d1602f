"""Kernels that are stored on the disk are those of the sources as they are."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import emseg

# `twice_as_long` calls `place_of`; `distant_edges`, in another file, calls both.
ASK = """
import numpy as np
from emseg.kernels.distant_pairs import distant_edges
labels = np.arange(1, 9, dtype=np.uint32).reshape(1, 1, 8)
found = distant_edges(labels, np.zeros((1, 1, 8), np.uint8), np.arange(256) / 255, (0, 0, 2))
print(len(found))
"""


def asked(folder: Path) -> str:
    environment = os.environ | {"PYTHONPATH": str(folder), "NUMBA_CACHE_DIR": str(folder / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", ASK], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_a_kernel_is_compiled_anew_when_one_that_it_calls_is_edited(tmp_path: Path) -> None:
    source = Path(emseg.__file__).parent
    shutil.copytree(source, tmp_path / "emseg", ignore=shutil.ignore_patterns("__pycache__"))
    assert asked(tmp_path) == "6"
    stored = {path: path.stat().st_mtime_ns for path in tmp_path.glob("cache/**/*.nbc")}
    assert stored and asked(tmp_path) == "6"
    assert stored == {path: path.stat().st_mtime_ns for path in tmp_path.glob("cache/**/*.nbc")}
    helper = tmp_path / "emseg" / "kernels" / "pair_keys.py"
    text = helper.read_text()
    assert text.count("return place\n") == 1
    helper.write_text(text.replace("return place\n", "return np.int64(0)\n"))
    # All pairs in one place are one edge.
    assert asked(tmp_path) == "1"
