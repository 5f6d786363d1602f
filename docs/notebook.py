"""A trained run in a notebook, cell by cell: look at it, predict, decode, score.

As a script: python docs/notebook.py RUN IMAGE TRUTH, for instance the run below outputs/demo and
datasets/demo/test_raw.h5, datasets/demo/test_labels.h5.
"""

# %% A run, and a volume with its truth as arrays (Z, Y, X)
import sys

import emseg

run = emseg.load_run(sys.argv[1])
image = emseg.open_volume(sys.argv[2])[...]
truth = emseg.open_volume(sys.argv[3])[...]
weights = sum(parameter.numel() for parameter in run.net.parameters())
print(f"{run.config.experiment_name}: {weights} weights after step {run.trained.step}")

# %% What the network says, and which pairs of voxels it says it of
prediction = run.predict(image)
for name, values in zip(prediction.channels, prediction.values, strict=True):
    print(f"channel {name}: mean affinity {values.mean():.3f}")

# %% Decoders take one edge an axis
edges = prediction.nearest()
for threshold in (0.3, 0.5, 0.7):
    labels = emseg.agglomerate(
        edges.values, thresholds=threshold, offsets=edges.offsets, edge_side=edges.edge_side
    )
    scores = emseg.adapted_rand(labels, truth) | emseg.voi(labels, truth)
    print(f"threshold {threshold}: {labels.max()} objects,", scores)

# %% The same run with other settings
flipped = emseg.load_run(
    sys.argv[1], overrides=["inference.test_time_augmentation.enabled=true"]
).predict(image)
print("flips change a channel by", abs(flipped.values - prediction.values).mean())

# %% Any network, any array: `predict` asks for a callable and says nothing of runs
probabilities = emseg.predict(
    run.net,
    image,
    channels=len(prediction.channels),
    window_size=run.trained.patch_size,
    normalize=lambda stored: stored.astype("float32") / 255,
    overlap=0.5,
    blending="bump",
)
print("predicted", probabilities.shape, probabilities.dtype)
