#!/usr/bin/env bash
# numba 0.68.1: a function with `cache=True` whose argument is a NamedTuple. The class is renamed in the
# source, which makes the stored code out of date. numba does not compile anew: it unpickles the whole
# index of the old source, argument types and all, before it compares the time stamps, and the next call
# raises AttributeError. A plain edit of the same file is noticed and compiled anew, as it should be.
#
# Seen:
#   numba 0.68.1
#   first run: 3
#   edited: 4
#   renamed: AttributeError: Can't get attribute 'Pair' on <module 'kernel' from ...>
#
# Fails if that changes. Way round: remove the cache (*.nbi, *.nbc), as an upgraded package must.
set -euo pipefail
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
python3 -m venv "$room/venv"
"$room/venv/bin/pip" install --quiet numba==0.68.1 numpy==2.4.6
cd "$room"
cat > kernel.py <<'PY'
from typing import NamedTuple

from numba import njit


class Pair(NamedTuple):
    first: int
    second: int


@njit(cache=True)
def added(pair):
    return pair.first + pair.second


made = Pair(1, 2)
PY
run() {
    venv/bin/python -c "import kernel; print(kernel.added(kernel.made))" 2>&1 | tail -1
}
venv/bin/python -c "import numba; print('numba', numba.__version__)"
first=$(run)
echo "first run: $first"
sed -i 's/Pair(1, 2)/Pair(2, 2)/' kernel.py
edited=$(run)
echo "edited: $edited"
sed -i 's/Pair/Couple/' kernel.py
renamed=$(run || true)
echo "renamed: $renamed"
[ "$first" = 3 ] && [ "$edited" = 4 ]
case "$renamed" in
"AttributeError: Can't get attribute 'Pair' on <module 'kernel'"*) ;;
*) exit 1 ;;
esac
