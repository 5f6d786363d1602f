"""A small folder of choices and a tutorial over it."""

from collections.abc import Callable
from pathlib import Path

from emseg.config.loaded import Loaded

CONF = {
    "base.yaml": """
        defaults:
          - _self_
          - system: all-gpu-cpu
          - model: net
          - target: near
          - loss: plain
          - augment: light
          - optimization/optimizer: adamw
          - optimization/scheduler: none
          - decoding: cut
          - evaluation/metrics: [rand]
          - tune: default
        """,
    "system/all-gpu-cpu.yaml": "num_gpus: -1",
    "system/single-gpu-cpu.yaml": "num_gpus: 1",
    "model/net.yaml": """
        _target_: emseg.models.sample.Net
        widths: [8, 16]
        norm: group
        dropout: 0.0
        """,
    "model/wide.yaml": "defaults: [net, _self_]\nwidths: [32, 64]",
    "model/plain.yaml": "_target_: emseg.models.sample.Net\nnorm: none",
    "target/near.yaml": """
        _target_: emseg.models.sample.Offsets
        offsets: [[0, 0, 1], [0, 1, 0]]
        weights: {}
        """,
    "target/far.yaml": """
        _target_: emseg.models.sample.Offsets
        offsets: [[0, 0, 9]]
        weights: {}
        """,
    "loss/plain.yaml": "_target_: emseg.models.sample.loss\nmax_weight: 10",
    "augment/light.yaml": """
        _target_: emseg.models.sample.Pipeline
        transforms:
          flip: {_target_: emseg.models.sample.Flip, p: 0.5}
        """,
    "optimization/optimizer/adamw.yaml": "_target_: torch.optim.AdamW\nlr: 0.001",
    "optimization/optimizer/sgd.yaml": "_target_: torch.optim.SGD\nlr: 0.1\nmomentum: 0.9",
    "optimization/scheduler/none.yaml": "{}",
    "decoding/cut.yaml": """
        _target_: emseg.models.sample.decode
        threshold: 0.5
        aff_threshold: [0.1, 0.999]
        affinity_mask_path: null
        """,
    "decoding/cc.yaml": "_target_: emseg.models.sample.decode\nthreshold: 0.75",
    "evaluation/metrics/rand.yaml": "rand: {_target_: emseg.models.sample.score, variant: snemi}",
    "evaluation/metrics/voi.yaml": "voi: {_target_: emseg.models.sample.score, variant: snemi}",
    "tune/default.yaml": "search_space: {}",
    "tune/tune_cut.yaml": """
        n_trials: 7
        search_space:
          threshold: {low: 0.1, high: 0.9, step: 0.1}
          aff_threshold.0: {low: 0.0, high: 0.5, step: 0.1}
        """,
}

TUTORIAL = """
defaults:
  - /base
  - override /model: wide
  - _self_
experiment_name: sample
system: {profile: single-gpu-cpu}
data:
  train: {image: a.h5, label: b.h5}
  test: {image: c.h5}
  dataloader: {patch_size: [8, 32, 32], batch_size: 2}
model: {dropout: 0.1}
decoding: {threshold: 0.4}
optimization: {max_epochs: 2}
train:
  model: {dropout: 0.2}
test:
  decoding: {threshold: 0.3}
  inference: {window: {overlap: 0.25}}
tune:
  profile: tune_cut
  study_name: sample_tuning
  data: {test: {image: d.h5}}
"""

Write = Callable[[str, str], Path]
Load = Callable[..., Loaded]
