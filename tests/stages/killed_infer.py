"""`emseg`, killed by itself when the prediction is written up to the plane given first."""

import os
import signal
import sys
from typing import Any

import numpy as np

from emseg.cli import main
from emseg.volumes import PartialVolume


def _kill_at(plane: int) -> None:
    write = PartialVolume.write

    def write_until(partial: PartialVolume, start: int, array: np.ndarray, *area: Any) -> None:
        if start >= plane:
            os.kill(os.getpid(), signal.SIGKILL)
        write(partial, start, array, *area)

    PartialVolume.write = write_until  # type: ignore[method-assign]


if __name__ == "__main__":
    _kill_at(int(sys.argv[1]))
    sys.exit(main(sys.argv[2:]))
