"""The typed config; nodes with `_target_` and arguments stay plain dicts.

Field types are enforced by `typed`, lengths and ranges by each `__post_init__`, whose messages
begin with the field's name; `typed` puts the dotted path before it.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

from emseg.config.limits import is_name, require, require_positive
from emseg.config.schema_data import Data
from emseg.config.schema_inference import Inference
from emseg.config.schema_sweep import SweepConfig

Leaf = dict[str, Any]


@dataclass(kw_only=True)
class System:
    """Devices and workers, -1 for all available; `memory` in GiB, null for the machine's."""

    num_gpus: int = -1
    num_workers: int = -1
    seed: int = 42
    memory: float | None = None
    profile: str = ""

    def __post_init__(self) -> None:
        require(self.num_gpus >= -1, "num_gpus", self.num_gpus, "-1 (all) or a count")
        require(self.num_workers >= -1, "num_workers", self.num_workers, "-1 (all) or a count")
        require(0 <= self.seed < 2**32, "seed", self.seed, "in [0, 2**32)")
        require_positive(self, "memory")


@dataclass(kw_only=True)
class EmaConfig:
    """The moving average of the weights: a copy during `warmup_steps`, then with `decay`."""

    enabled: bool = False
    decay: float = 0.999
    warmup_steps: int = 0
    validate_with_ema: bool = True

    def __post_init__(self) -> None:
        require(0 <= self.decay < 1, "decay", self.decay, "in [0, 1)")
        require(self.warmup_steps >= 0, "warmup_steps", self.warmup_steps, "0 or more")


@dataclass(kw_only=True)
class Optimization:
    """Training length in optimizer steps; training needs `max_steps` or `max_epochs`."""

    max_epochs: int | None = None
    n_steps_per_epoch: int = 1000
    max_steps: int | None = None
    val_check_interval: int | None = None
    val_steps_per_epoch: int | None = None
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    gradient_clip_val: float | None = 1.0
    accumulate_grad_batches: int = 1
    ema: EmaConfig = field(default_factory=EmaConfig)
    optimizer: Leaf = field(default_factory=dict)
    scheduler: Leaf = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_positive(self, "max_epochs", "n_steps_per_epoch", "max_steps")
        require_positive(self, "val_check_interval", "val_steps_per_epoch")
        require_positive(self, "gradient_clip_val", "accumulate_grad_batches")

    @property
    def total_steps(self) -> int | None:
        """The optimizer steps of the whole training: the smaller limit of steps and epochs."""
        by_epochs = None if self.max_epochs is None else self.max_epochs * self.n_steps_per_epoch
        limits = [limit for limit in (self.max_steps, by_epochs) if limit is not None]
        return min(limits, default=None)


@dataclass(kw_only=True)
class BorderMask:
    """Truth that metrics ignore: within `distance` pixels of its borders, in each section.

    The distance is Euclidean (edt, CREMI's) or that to the side of a square (square, dbMiM's).
    """

    mode: Literal["edt", "square"] | None = None
    distance: float = 1.0

    def __post_init__(self) -> None:
        require(self.distance >= 0, "distance", self.distance, "0 pixels or more")
        whole = self.mode != "square" or self.distance.is_integer()
        require(whole, "distance", self.distance, "a whole number where the mode is square")


@dataclass(kw_only=True)
class Evaluation:
    """The metrics of a segmentation; their names are free.

    For each volume `keep_segmentations` earlier ones stay beside the latest.
    """

    enabled: bool = True
    keep_segmentations: int = 10
    border_mask: BorderMask = field(default_factory=BorderMask)
    metrics: dict[str, Leaf] = field(default_factory=dict)

    def __post_init__(self) -> None:
        most = self.keep_segmentations
        require(most >= 0, "keep_segmentations", most, "0 (none) or a count")


@dataclass(kw_only=True)
class Space:
    """The values of one tuned argument: `choices`, or `low` to `high`, in steps of `step` if given.

    If `low`, `high` and `step` (if given) are whole numbers, so are all values.
    """

    low: int | float | None = None
    high: int | float | None = None
    step: int | float | None = None
    log: bool = False
    choices: list[Any] | None = None

    def __post_init__(self) -> None:
        if self.choices is not None:
            require(len(self.choices) > 0, "choices", self.choices, "at least one value")
            alone = (self.low, self.high, self.step, self.log) == (None, None, None, False)
            require(alone, "choices", self.choices, "alone, without low, high, step and log")
            return
        low, high = self.low, self.high
        fine = low is not None and high is not None and low < high
        require(fine, "low, high", [low, high], "low < high, or choices")
        require_positive(self, "step")
        require(not self.log or low > 0, "low", low, "above 0 with log")
        require(not (self.log and self.step), "step", self.step, "null with log")


@dataclass(kw_only=True)
class Tune:
    """The study; a key of `search_space` is an argument of the decoder (`aff_threshold.0`)."""

    n_trials: int = 25
    n_startup_trials: int = 10
    trial_timeout: float | None = 300.0
    study_name: str | None = None
    metric: str = "adapted_rand"
    direction: Literal["minimize", "maximize"] = "minimize"
    search_space: dict[str, Space] = field(default_factory=dict)
    profile: str = ""

    def __post_init__(self) -> None:
        require_positive(self, "n_trials", "trial_timeout")
        fine = self.study_name is None or is_name(self.study_name)
        require(fine, "study_name", self.study_name, "a name for a file")
        require(self.n_startup_trials >= 0, "n_startup_trials", self.n_startup_trials, "0 or more")


@dataclass(kw_only=True)
class Checkpoint:
    """Which weights are saved: the `save_top_k` best by `monitor`, the last, every n-th step."""

    monitor: str = "train_loss_total_epoch"
    mode: Literal["min", "max"] = "min"
    save_top_k: int = 3
    save_last: bool = True
    every_n_steps: int | None = None

    def __post_init__(self) -> None:
        require(self.save_top_k >= -1, "save_top_k", self.save_top_k, "-1 (all) or a count")
        require_positive(self, "every_n_steps")


@dataclass(kw_only=True)
class Images:
    """Images in TensorBoard: raw, target and prediction, or what the objective shows instead."""

    every_n_epochs: int = 10
    n_images: int = 8
    n_slices: int = 2

    def __post_init__(self) -> None:
        require_positive(self, "every_n_epochs", "n_slices")
        require(self.n_images >= 0, "n_images", self.n_images, "0 (none) or a count")


@dataclass(kw_only=True)
class Logging:
    """How often values are logged for TensorBoard."""

    log_every_n_steps: int = 50
    images: Images = field(default_factory=Images)

    def __post_init__(self) -> None:
        require_positive(self, "log_every_n_steps")


@dataclass(kw_only=True)
class Monitor:
    """What a training saves and logs."""

    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    logging: Logging = field(default_factory=Logging)


@dataclass(kw_only=True)
class Root:
    """A composed config with the mode's sections merged in."""

    experiment_name: str
    system: System = field(default_factory=System)
    data: Data = field(default_factory=Data)
    objective: Leaf = field(default_factory=dict)
    model: Leaf = field(default_factory=dict)
    target: Leaf = field(default_factory=dict)
    loss: Leaf = field(default_factory=dict)
    augment: Leaf = field(default_factory=dict)
    perturb: Leaf = field(default_factory=dict)
    optimization: Optimization = field(default_factory=Optimization)
    inference: Inference = field(default_factory=Inference)
    decoding: Leaf = field(default_factory=dict)
    evaluation: Evaluation = field(default_factory=Evaluation)
    tune: Tune = field(default_factory=Tune)
    sweep: SweepConfig = field(default_factory=SweepConfig)
    monitor: Monitor = field(default_factory=Monitor)

    def __post_init__(self) -> None:
        fine = is_name(self.experiment_name)
        require(fine, "experiment_name", self.experiment_name, "a name for a folder")
