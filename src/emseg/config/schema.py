"""The typed config; nodes with `_target_` and arguments stay plain dicts.

`annotations.typed` checks types and the rules beside them; a `__post_init__` checks what joins two
fields.
"""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from emseg.bounds import Positive, Rule, above, within
from emseg.config.annotations import require
from emseg.config.schema_data import AboveZero, Data, NotNegative, Size3
from emseg.config.schema_inference import Inference

Leaf = dict[str, Any]
AllOrCount = Annotated[int, Rule("-1 (all) or a count", lambda number: number >= -1)]
Name = Annotated[
    str,
    Rule(
        "a name for a file or folder",
        lambda text: text not in ("", ".", "..") and not {"/", "\\"} & {*text},
    ),
]
Values = Annotated[list[Any], Rule("at least one value", bool)]
DifferentValues = Annotated[
    Values,
    Rule("values that differ", lambda values: all(values.count(one) == 1 for one in values)),
]


@dataclass(kw_only=True)
class System:
    """Devices and workers.

    Attributes:
        num_gpus, num_workers: -1: all available.
        memory: GiB for each process; None: what this process may use.
        executor: what shares out the blocks of a volume: nothing, child processes, or dask.
        processes: of executor process, and of dask without a scheduler; -1: one for each GPU, else
            for each core.
        scheduler: dask's: slurm, pbs, sge or lsf for workers in that queue, with dask's own config;
            an address or file (.json) of a running one; None: an own one on this machine.
        profile: the choice of the group `system`.
    """

    num_gpus: AllOrCount = -1
    num_workers: AllOrCount = -1
    seed: Annotated[int, Rule("in [0, 2**32)", lambda seed: 0 <= seed < 2**32)] = 42
    memory: AboveZero | None = None
    executor: Literal["serial", "process", "dask"] = "serial"
    processes: AllOrCount = -1
    scheduler: str | None = None
    profile: str = ""


@dataclass(kw_only=True)
class EmaConfig:
    """The moving average of the weights: a copy during `warmup_steps`, then with `decay`."""

    enabled: bool = False
    decay: Annotated[float, Rule("in [0, 1)", lambda decay: 0 <= decay < 1)] = 0.999
    warmup_steps: NotNegative = 0
    validate_with_ema: bool = True


@dataclass(kw_only=True)
class Optimization:
    """The length of a training, its precision, optimizer and schedule; steps are optimizer steps.

    Attributes:
        max_epochs, max_steps: the smaller limit counts; training needs one.
        val_check_interval: steps between validations; None: an epoch.
        val_steps_per_epoch: batches of a validation; None: a default.
        precision: auto: bf16-mixed where the device computes it faster, else 32-true.
        gradient_clip_val: the largest norm of gradients; None: any.
        accumulate_grad_batches: batches of a step.
    """

    max_epochs: Positive | None = None
    n_steps_per_epoch: Positive = 1000
    max_steps: Positive | None = None
    val_check_interval: Positive | None = None
    val_steps_per_epoch: Positive | None = None
    precision: Literal["32-true", "bf16-mixed", "16-mixed", "auto"] = "32-true"
    gradient_clip_val: AboveZero | None = 1.0
    accumulate_grad_batches: Positive = 1
    ema: EmaConfig = field(default_factory=EmaConfig)
    optimizer: Leaf = field(default_factory=dict)
    scheduler: Leaf = field(default_factory=dict)

    @property
    def total_steps(self) -> int | None:
        """The optimizer steps of the whole training: the smaller limit of steps and epochs."""
        by_epochs = None if self.max_epochs is None else self.max_epochs * self.n_steps_per_epoch
        limits = [limit for limit in (self.max_steps, by_epochs) if limit is not None]
        return min(limits, default=None)


@dataclass(kw_only=True)
class BorderMask:
    """Truth that metrics ignore: voxels at its borders, in each section.

    Attributes:
        mode: the distance is Euclidean (edt, CREMI's) or that to the side of a square (square,
            dbMiM's); None: nothing is ignored.
        distance: pixels, within which voxels are ignored; whole for a square.
    """

    mode: Literal["edt", "square"] | None = None
    distance: Annotated[float, within(0)] = 1.0

    def __post_init__(self) -> None:
        whole = self.mode != "square" or self.distance.is_integer()
        require(whole, "distance", self.distance, "a whole number where the mode is square")


@dataclass(kw_only=True)
class Evaluation:
    """The metrics of a segmentation; their names are free.

    For each volume `keep_segmentations` earlier ones stay beside the latest.
    """

    enabled: bool = True
    keep_segmentations: NotNegative = 10
    border_mask: BorderMask = field(default_factory=BorderMask)
    metrics: dict[str, Leaf] = field(default_factory=dict)


@dataclass(kw_only=True)
class Space:
    """The values of one tuned argument: `choices`, or `low` to `high`, in steps of `step` if given.

    If `low`, `high` and `step` (if given) are whole numbers, so are all values. With `log` values
    are drawn on a logarithmic scale, without `step`.
    """

    low: int | float | None = None
    high: int | float | None = None
    step: Annotated[int | float, above(0)] | None = None
    log: bool = False
    choices: Values | None = None

    def __post_init__(self) -> None:
        if self.choices is not None:
            alone = (self.low, self.high, self.step, self.log) == (None, None, None, False)
            require(alone, "choices", self.choices, "alone, without low, high, step and log")
            return
        low, high = self.low, self.high
        fine = low is not None and high is not None and low < high
        require(fine, "low, high", [low, high], "low < high, or choices")
        require(not self.log or low > 0, "low", low, "above 0 with log")
        require(not (self.log and self.step), "step", self.step, "null with log")


@dataclass(kw_only=True)
class Tune:
    """The study that tunes a decoder.

    Attributes:
        n_trials, n_startup_trials: all trials, and those drawn at random before the sampler learns.
        trial_timeout: seconds, after which a trial is pruned; None: never.
        study_name: of its file; None: `<experiment_name>_tuning`.
        metric, direction: the score, and whether it is minimized.
        tolerance: a trial takes the middle of the longest run of swept values whose scores are that
            near to its best, since a single best of a small volume is chance; None: the best.
        search_space: by argument of the decoder, or element of one (`aff_threshold.0`).
        profile: the choice of the group `tune`.
    """

    n_trials: Positive = 25
    n_startup_trials: NotNegative = 10
    trial_timeout: AboveZero | None = 300.0
    study_name: Name | None = None
    metric: str = "adapted_rand"
    direction: Literal["minimize", "maximize"] = "minimize"
    tolerance: AboveZero | None = None
    search_space: dict[str, Space] = field(default_factory=dict)
    profile: str = ""


@dataclass(kw_only=True)
class SweepConfig:
    """Every combination of the values in `grid`.

    Attributes:
        name: with which file names begin.
        grid: values by argument of the decoder.
        best: the scores whose mean over the volumes selects the best combinations.
        tables: adds the files of a published evaluation.
    """

    name: Name = "sweep"
    grid: dict[str, DifferentValues] = field(default_factory=dict)
    best: dict[str, Literal["minimize", "maximize"]] = field(default_factory=dict)
    tables: Literal["dbmim"] | None = None


@dataclass(kw_only=True)
class Checkpoint:
    """Which weights are saved: the `save_top_k` best by `monitor`, the last, every n-th step."""

    monitor: str = "train_loss_total_epoch"
    mode: Literal["min", "max"] = "min"
    save_top_k: AllOrCount = 3
    save_last: bool = True
    every_n_steps: Positive | None = None


@dataclass(kw_only=True)
class EarlyStopping:
    """Ends a training once `monitor` has not become better for `patience` validations (or epochs).

    `patience` null: never. `mode` says whether less (`min`) or more (`max`) is better.
    """

    monitor: str = "val_loss_total"
    mode: Literal["min", "max"] = "min"
    patience: Positive | None = None


@dataclass(kw_only=True)
class ValSegmentation:
    """At each validation a crop is decoded and scored, `val_<score>` of all `evaluation.metrics`.

    Attributes:
        size: voxels of the crop, at the centre of the first validation volume; None: none is
            decoded.
        time_limit: seconds for decoding and scoring, in a process of its own.
        memory_limit: GiB for the same.
    """

    size: Size3 | None = None
    time_limit: AboveZero = 60.0
    memory_limit: AboveZero = 4.0


@dataclass(kw_only=True)
class Images:
    """Images in TensorBoard: raw, target and prediction, or what the objective shows instead."""

    every_n_epochs: Positive = 10
    n_images: NotNegative = 8
    n_slices: Positive = 2


@dataclass(kw_only=True)
class Logging:
    """How often values are logged for TensorBoard."""

    log_every_n_steps: Positive = 50
    images: Images = field(default_factory=Images)


@dataclass(kw_only=True)
class Monitor:
    """What a training saves and logs, and when it ends early."""

    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    early_stopping: EarlyStopping = field(default_factory=EarlyStopping)
    segmentation: ValSegmentation = field(default_factory=ValSegmentation)
    logging: Logging = field(default_factory=Logging)


@dataclass(kw_only=True)
class Root:
    """A composed config with the mode's sections merged in."""

    experiment_name: Name
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
