"""Does masked pretraining help on real EM? A small UNETR on 40 labelled sections of FIB-25, its
encoder pretrained or not.

    python benchmarks/fib25_pretraining.py --data FOLDER [--pretraining 1000] [--steps 150]
        [--seeds 3] [--quick]

FOLDER holds `training_sample1_rawonly.h5` and `training_sample2.h5`. The pretraining, one for all
seeds, sees the raw of the first and of z < 160 of the second; labels are those of z < 40 of the
second. Both arms have equal settings and steps. Runs lie in `outputs/` below the current folder, by
name: called again with the same words, what was interrupted goes on and what is there is kept. The
last line is JSON.
"""

import argparse
import json
import time
from pathlib import Path

from fib25 import (
    Row,
    labelled,
    means,
    tested,
    trained,
    unlabelled,
    volume,
    warmed_up,
)

PRETRAIN, FINETUNE = "dbmim/pretrain.yaml", "dbmim/finetune.yaml"
LABELLED, SEEN = (0, 40), (0, 160)
ARMS = ("scratch", "pretrained")
# What makes the recipes small, and isotropic as the volume is.
SMALL = [
    "system=cpu",
    "system.num_workers=0",
    "optimization.precision=32-true",
    "optimization/scheduler=warmup_cosine_lr",
    "optimization.scheduler.min_lr=1.0e-5",
    "data.intensity_percentiles=null",  # those of a whole volume would be of held-out voxels, too
    "data.dataloader.patch_size=[16,64,64]",
    "model.volume_size=[16,64,64]",
    "model.patch_size=[8,16,16]",
    "model.embed_dim=96",
    "model.depth=4",
    "augment.transforms.flip_across.p=0.5",
    "monitor.logging.images.n_images=0",
]
PRETRAINING = [
    *SMALL,
    "model.decoder_dim=96",
    "loss.axis_weights=[1,1,1]",
    "data.dataloader.batch_size=8",
    "optimization.optimizer.lr=1.0e-3",
    "optimization.n_steps_per_epoch=250",
    "monitor.checkpoint.every_n_steps=250",
]
# One learning rate for all parts: the recipe's slow encoder would not learn from scratch. The
# balanced cross entropy learns in fewer steps than the recipe's squared error.
FINETUNING = [
    *SMALL,
    "model=unetr_aniso",
    "model.feature_size=8",
    "model.dropout=0.0",
    "target.erosion=[1,1,1]",
    "loss=per_channel_bce",
    "data.dataloader.batch_size=2",
    "data.split_train_range=null",
    "data.split_val_range=null",
    "optimization/optimizer=adamw",
    "optimization.optimizer.lr=2.0e-3",
    "optimization.n_steps_per_epoch=50",
    "monitor.checkpoint.every_n_steps=50",
]
# The volume is agglomerated as a whole, a threshold being all that is chosen.
TESTING = [
    *FINETUNING,
    "inference.window={window_size: [16,64,64], overlap: 0.25, sw_batch_size: 2}",
    "decoding=agglomerate",
    "decoding.biases=[0.0,0.0,0.0]",
    "decoding.merge_function=hist_quant_50",
    "decoding.aff_threshold=[0.0,0.999]",
    "evaluation.border_mask.mode=null",
    "evaluation/metrics=[voi,adapted_rand_skimage]",
    "sweep.grid.biases=[[0.0,0.0,0.0]]",
    "sweep.tables=null",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the folder of both volumes")
    parser.add_argument("--pretraining", type=int, default=1000, help="its steps")
    parser.add_argument("--steps", type=int, default=150, help="of each finetuning")
    parser.add_argument("--seeds", type=int, default=3, help="finetunings of each arm")
    parser.add_argument("--quick", action="store_true", help="few steps, to see that it runs")
    asked = parser.parse_args()
    data, prefix = asked.data.absolute(), "fib25_quick" if asked.quick else "fib25"
    pretraining, steps, seeds = asked.pretraining, asked.steps, asked.seeds
    if asked.quick:
        pretraining, steps, seeds = 10, 10, 2
    start = time.monotonic()
    raw = {
        "sample1": volume(data / "training_sample1_rawonly.h5", weight=1),
        "sample2": volume(data / "training_sample2.h5", reach=SEEN, weight=1),
    }
    words = [*PRETRAINING, warmed_up(pretraining), unlabelled("train", raw)]
    begun = trained(PRETRAIN, f"{prefix}_pretraining", pretraining, *words)
    rows: dict[str, list[Row]] = {arm: [] for arm in ARMS}
    for seed, arm in ((seed, arm) for seed in range(seeds) for arm in ARMS):
        words = [*FINETUNING, warmed_up(steps), labelled(data, "train", LABELLED)]
        words += [f"system.seed={seed}"]
        words += [f"model.init_from={begun}"] if arm == "pretrained" else []
        last = trained(FINETUNE, f"{prefix}_{arm}_{seed}", steps, *words)
        rows[arm].append(tested(FINETUNE, last, data, *TESTING))
    print(f"{(time.monotonic() - start) / 60:.1f} min in this call")
    mean = means(rows)
    ratios = {
        name: round(mean["pretrained"][name] / mean["scratch"][name], 3)
        for name in ("adapted_rand_skimage", "voi_sum")
    }
    print(json.dumps({"benchmark": "fib25_pretraining", "ratios": ratios}))


if __name__ == "__main__":
    main()
