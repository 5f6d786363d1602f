"""Do unlabelled sections help on real EM? Ten labelled ones of FIB-25 alone, and with a teacher.

    python benchmarks/fib25_few_labels.py --data FOLDER [--steps 200] [--seeds 3] [--quick]

FOLDER holds `training_sample1_rawonly.h5` and `training_sample2.h5`. Labels are those of z < 10 of
the second; without labels all of the first and z < 200 of the second are seen. The arms share
labelled steps, samples and averaged weights: `supervised` goes by the labels alone, `ws` and `ema`
also by a teacher. Runs lie in `outputs/` below the current folder, by name: called again with the
same words, what was interrupted goes on and what is there is kept. The last line is JSON.
"""

import argparse
import json
import time
from pathlib import Path

from fib25 import Row, labelled, means, tested, trained, unlabelled, volume, warmed_up

TUTORIAL = "neuron_fib25/neuron_fib25.yaml"
LABELLED, SEEN = (0, 10), (0, 200)
# What makes the tutorial small, and its patches as deep as there are labels.
SMALL = [
    "system=cpu",
    "system.num_workers=0",
    "optimization.precision=32-true",
    "model=rsunet",
    "model.width=[8,16,24]",
    "model.down_factors=[[1,2,2],[2,2,2]]",
    "model.depth_2d=0",
    "target=aff3",
    "target.erosion=[1,1,1]",
    "augment=ssns",
    "data.dataloader={batch_size: 2, patch_size: [10,64,64]}",
    "optimization.n_steps_per_epoch=50",
    "monitor.checkpoint.every_n_steps=50",
    "monitor.logging.images.n_images=0",
    "inference.window={window_size: [10,96,96], overlap: 0.25, sw_batch_size: 2}",
    "inference.test_time_augmentation.enabled=false",
    "decoding.merge_function=aff50_his256",
]
# Weights are averaged alike in all arms; in the last the average teaches.
AVERAGED = "optimization.ema={enabled: true, decay: 0.99, warmup_steps: 0}"
TEACHING = ["objective=consistency", "perturb=ssns_ws"]
ARMS = {
    "supervised": [AVERAGED],
    "ws": [*TEACHING, AVERAGED],
    "ema": [
        *TEACHING,
        "objective.teacher=ema",
        "objective.decay=0.99",
        "optimization.ema.enabled=false",
    ],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the folder of both volumes")
    parser.add_argument("--steps", type=int, default=200, help="of each training")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each arm")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--quick", action="store_true", help="few steps, to see that it runs")
    asked = parser.parse_args()
    data, prefix = asked.data.absolute(), "few_quick" if asked.quick else "few"
    steps, seeds = (10, 2) if asked.quick else (asked.steps, asked.seeds)
    start = time.monotonic()
    raw = {
        "sample1": volume(data / "training_sample1_rawonly.h5"),
        "sample2": volume(data / "training_sample2.h5", reach=SEEN),
    }
    rows: dict[str, list[Row]] = {arm: [] for arm in asked.arms}
    for seed, arm in ((seed, arm) for seed in range(seeds) for arm in asked.arms):
        words = [*SMALL, *ARMS[arm], f"system.seed={seed}"]
        if arm != "supervised":
            words += [unlabelled("unlabelled", raw), f"objective.ramp_steps={steps // 2}"]
        own = [labelled(data, "train", LABELLED), warmed_up(steps)]
        last = trained(TUTORIAL, f"{prefix}_{arm}_{seed}", steps, *words, *own)
        rows[arm].append(tested(TUTORIAL, last, data, *words))
    print(f"{(time.monotonic() - start) / 60:.1f} min in this call")
    mean = means(rows)
    ratios = {
        f"{arm} {name}": round(mean[arm][name] / mean["supervised"][name], 3)
        for arm in mean
        for name in ("adapted_rand_skimage", "voi_sum")
        if arm != "supervised" and "supervised" in mean
    }
    print(json.dumps({"benchmark": "fib25_few_labels", "ratios": ratios}))


if __name__ == "__main__":
    main()
