#!/usr/bin/env bash
# zarr-python 3.1.6: the dict that was given to create_array as `attributes` is not copied. Given once
# more to `attrs.put`, which first clears what is there, it is emptied before it is written: neither the
# array nor the caller's dict has the attributes any more, and nothing is raised. An equal dict is fine.
#
# Seen:
#   zarr 3.1.6
#   same dict:  stored {} and the caller's dict is {}
#   equal dict: stored {'resolution': [30, 6, 6]} and the caller's dict is {'resolution': [30, 6, 6]}
#
# Fails if that changes. Way round: give `put` a copy, or set keys one by one (`attrs[key] = value`).
set -euo pipefail
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
python3 -m venv "$room/venv"
"$room/venv/bin/pip" install --quiet zarr==3.1.6 numpy==2.4.6
cd "$room"
venv/bin/python - <<'PY'
import zarr

print("zarr", zarr.__version__)
expected = {"same dict": ({}, {}), "equal dict": ({"resolution": [30, 6, 6]},) * 2}
for name, (stored, left) in expected.items():
    facts = {"resolution": [30, 6, 6]}
    group = zarr.create_group(store=f"{name}.zarr")
    array = group.create_array("raw", shape=(4, 4, 4), dtype="uint8", attributes=facts)
    array.attrs.put(facts if name == "same dict" else dict(facts))
    found = zarr.open_array(f"{name}.zarr/raw", mode="r").attrs.asdict()
    print(f"{name + ':':11} stored {found} and the caller's dict is {facts}")
    assert (found, facts) == (stored, left), "this has changed"
PY
