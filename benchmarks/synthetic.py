"""How fast synthetic volumes are made, on one core and warm.

python benchmarks/synthetic.py [--quick]
"""

import argparse
import json
import statistics
import time

import numpy as np

from emseg.synthetic.synthesize import synthesize

ROUNDS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small volume")
    shape = (32, 128, 128) if parser.parse_args().quick else (100, 512, 512)
    first = synthesize(shape, seed=0)
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        again = synthesize(shape, seed=0)
        seconds.append(time.perf_counter() - start)
    rate = float(np.prod(shape)) / 1e6 / statistics.median(seconds)
    equal = np.array_equal(first.raw, again.raw) and np.array_equal(first.labels, again.labels)
    name = "x".join(map(str, shape))
    print(f"{name}: {statistics.median(seconds):.2f} s, {rate:.1f} Mvoxel/s")
    print(
        json.dumps(
            {"benchmark": "synthetic", "mvoxel_per_s": {name: round(rate, 1)}, "equal": equal}
        )
    )


if __name__ == "__main__":
    main()
