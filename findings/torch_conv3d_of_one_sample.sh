#!/usr/bin/env bash
# torch 2.13.0 on a CPU: a 3 x 3 x 3 convolution in float32 of one sample of 24 x 24 x 24 voxels is not
# given to oneDNN, but to `slow_conv3d`; of two such samples, or of one of 48 x 48 x 48 voxels, it is given
# to oneDNN. The threads do not matter. So one small sample takes longer than two together: a step of a
# U-Net whose finest level has 24 x 24 x 24 voxels took 2.6 s with one and 0.9 s with two.
#
# Seen (32 channels):
#   torch 2.13.0
#   1 thread, 1 sample of 24: aten::slow_conv3d_forward
#   1 thread, 2 samples of 24: aten::mkldnn_convolution
#   1 thread, 1 sample of 48: aten::mkldnn_convolution
#   2 threads, 1 sample of 24: aten::slow_conv3d_forward
#
# Fails if that changes. Way round: batches of two.
set -euo pipefail
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
python3 -m venv "$room/venv"
"$room/venv/bin/pip" install --quiet --extra-index-url https://download.pytorch.org/whl/cpu \
    torch==2.13.0 numpy==2.4.6
cd "$room"
cat > which.py <<'PY'
import torch
from torch.profiler import ProfilerActivity, profile

layer = torch.nn.Conv3d(32, 32, 3, padding=1, bias=False)
for threads, samples, size in ((1, 1, 24), (1, 2, 24), (1, 1, 48), (2, 1, 24)):
    torch.set_num_threads(threads)
    image = torch.rand(samples, 32, size, size, size)
    with torch.no_grad(), profile(activities=[ProfilerActivity.CPU]) as seen:
        layer(image)
    names = {event.key for event in seen.key_averages()}
    [name] = names & {"aten::slow_conv3d_forward", "aten::mkldnn_convolution"}
    counts = f"{threads} thread{'s'[: threads > 1]}, {samples} sample{'s'[: samples > 1]}"
    print(f"{counts} of {size}: {name}")
PY
found=$(venv/bin/python which.py 2>/dev/null)
echo "torch $(venv/bin/python -c 'import torch; print(torch.__version__.partition("+")[0])')"
echo "$found"
wanted="1 thread, 1 sample of 24: aten::slow_conv3d_forward
1 thread, 2 samples of 24: aten::mkldnn_convolution
1 thread, 1 sample of 48: aten::mkldnn_convolution
2 threads, 1 sample of 24: aten::slow_conv3d_forward"
[ "$found" = "$wanted" ]
