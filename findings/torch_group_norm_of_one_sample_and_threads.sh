#!/usr/bin/env bash
# torch 2.13.0 on a CPU: group norm of a channels-last volume gives other bits with one thread than with two
# if the batch holds one sample, and the same if it holds two. It then shares out the samples over the
# threads, but a single one by its voxels, so that the sums are rounded otherwise. So a prediction window by
# window differs between machines with other numbers of cores, and between one process with all cores and
# several with one each. A contiguous volume gives the same bits in both cases.
#
# Seen (24 channels, 4 groups, 40 x 40 x 40 voxels):
#   torch 2.13.0
#   1 sample, channels last: differs
#   2 samples, channels last: equal
#   1 sample, contiguous: equal
#
# Fails if that changes. Way round: as many batches at a time as there are threads, one thread for each.
set -euo pipefail
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
python3 -m venv "$room/venv"
"$room/venv/bin/pip" install --quiet --extra-index-url https://download.pytorch.org/whl/cpu \
    torch==2.13.0 numpy==2.4.6
cd "$room"
cat > threads.py <<'PY'
import torch

torch.manual_seed(0)
norm = torch.nn.GroupNorm(4, 24)
formats = {"channels last": torch.channels_last_3d, "contiguous": torch.contiguous_format}
for samples, name in ((1, "channels last"), (2, "channels last"), (1, "contiguous")):
    volume = torch.rand(samples, 24, 40, 40, 40).to(memory_format=formats[name])
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        with torch.no_grad():
            found.append(norm(volume))
    word = "equal" if torch.equal(*found) else "differs"
    print(f"{samples} sample{'s'[: samples > 1]}, {name}: {word}")
PY
found=$(venv/bin/python threads.py 2>/dev/null)
echo "torch $(venv/bin/python -c 'import torch; print(torch.__version__.partition("+")[0])')"
echo "$found"
wanted="1 sample, channels last: differs
2 samples, channels last: equal
1 sample, contiguous: equal"
[ "$found" = "$wanted" ]
