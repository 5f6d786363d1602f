#!/usr/bin/env bash
# distributed 2026.8.0: a task that has finished, whose `future.result()` was read, is run once more if the
# worker that ran it dies while the future is alive, though it returned None: the result lived on that worker
# alone. A task that writes a file does so twice, perhaps minutes after it was done.
#
# Seen, with two workers:
#   distributed 2026.8.0
#   finished: ran 1 time
#   its worker is killed: ran 2 times
#
# Fails if that changes. Way round: jobs that look whether their work is there before they begin, and futures
# that are dropped as soon as they are done.
set -euo pipefail
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
python3 -m venv "$room/venv"
"$room/venv/bin/pip" install --quiet distributed==2026.8.0 dask==2026.8.0
cd "$room"
cat > again.py <<'PY'
import os
import signal
import time
from pathlib import Path

from distributed import Client, LocalCluster

NOTE = Path("note.txt")


def work() -> None:
    with NOTE.open("a") as file:
        file.write("ran\n")


def times() -> str:
    count = len(NOTE.read_text().split())
    return f"ran {count} time{'s'[: count > 1]}"


if __name__ == "__main__":
    about = {"host": "127.0.0.1", "dashboard_address": None, "silence_logs": 50}
    with LocalCluster(n_workers=2, threads_per_worker=1, **about) as cluster, Client(cluster) as client:
        future = client.submit(work, pure=False)
        future.result()
        print("finished:", times())
        (address,) = client.who_has([future]).popitem()[1]
        os.kill(client.run(os.getpid, workers=[address])[address], signal.SIGKILL)
        end = time.monotonic() + 30
        while times() == "ran 1 time" and time.monotonic() < end:
            time.sleep(0.2)
        print("its worker is killed:", times())
PY
found=$(venv/bin/python again.py 2>/dev/null)
echo "distributed $(venv/bin/python -c 'import distributed; print(distributed.__version__)')"
echo "$found"
wanted="finished: ran 1 time
its worker is killed: ran 2 times"
[ "$found" = "$wanted" ]
