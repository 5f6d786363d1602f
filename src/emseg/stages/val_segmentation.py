"""A crop of the validation volume that is decoded and scored while the network trains."""

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from emseg.blocks.child import ChildCrash, ChildWorker
from emseg.blocks.memory import GIB
from emseg.config import Loaded
from emseg.data.target_facts import TargetFacts
from emseg.errors import UserError
from emseg.runs.run_folder import say
from emseg.stages.decode_job import DecodeJob
from emseg.stages.infer import prediction_attributes
from emseg.stages.network import AUTOCAST, Trained
from emseg.stages.prediction_parts import predict_image
from emseg.stages.prediction_settings import settings_of
from emseg.stages.scores import build_metrics, score_names
from emseg.stages.sources import Source, cut
from emseg.stages.trial import Task, scores_by_value
from emseg.training.objective import Objective
from emseg.volumes import write_volume


def scores_while_training(
    loaded: Loaded, sources: Sequence[Source], target: TargetFacts | None
) -> list[str]:
    """The names of the scores that `SegmentationScores` logs, without `val_`; none if it is off.

    Raises:
        UserError: there is nothing to validate on, or to decode; the crop exceeds the volume.
    """
    size = loaded.root.monitor.segmentation.size
    if size is None:
        return []
    key = f"monitor.segmentation.size={list(size)}"
    if not sources:
        raise UserError(f"{key} needs validation: set data.val or data.split_val_range")
    if target is None:
        raise UserError(f"{key}: the objective has no target, so there is nothing to decode")
    shape = sources[0].image.shape
    if any(one > whole for one, whole in zip(size, shape, strict=True)):
        raise UserError(f"{key} exceeds {sources[0].image.location}, {list(shape)}")
    metrics = build_metrics(loaded.root.evaluation.metrics, allow=loaded.allow)
    return score_names(metrics, voxel_size=sources[0].image.voxel_size, skeletons=False)


class SegmentationScores(Callback):
    """Logs `val_<score>` of a crop after each validation, by the weights that were validated.

    Decoding and scoring have a process, a time limit and a memory limit of their own: the maps of a
    network that has hardly learned fall into many fragments. Beyond a limit the scores are nan and
    a line says so.

    Args:
        loaded: the config: decoder, metrics, windows (without other views), limits.
        source: the first validation volume, with labels.
        target: what the network predicts.
    """

    def __init__(self, loaded: Loaded, source: Source, target: TargetFacts) -> None:
        root, limits = loaded.root, loaded.root.monitor.segmentation
        assert limits.size is not None
        first = [
            (whole - one) // 2 for whole, one in zip(source.image.shape, limits.size, strict=True)
        ]
        stop = [a + b for a, b in zip(first, limits.size, strict=True)]
        self._source = cut(source, (tuple(first), tuple(stop)))
        views = replace(root.inference.test_time_augmentation, enabled=False)
        self._root = replace(root, inference=replace(root.inference, test_time_augmentation=views))
        self._target, self._allow, self._limits = target, tuple(loaded.allow), limits
        self._names = scores_while_training(loaded, [source], target)
        self._child = ChildWorker()

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Objective)
        scores = self._scores(pl_module) if trainer.is_global_zero else {}
        scores = trainer.strategy.broadcast(scores)
        for name in self._names:
            pl_module.log(f"val_{name}", float(scores.get(name, float("nan"))))

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._child.close()

    def _scores(self, module: Objective) -> dict[str, float]:
        assert module.facts is not None
        facts = replace(module.facts, global_step=module.global_step)
        autocast = AUTOCAST[self._root.optimization.precision]
        trained = Trained(module.net.eval(), facts, self._target, "in training", autocast)
        settings = settings_of(self._source.image, trained, self._root)
        with tempfile.TemporaryDirectory(prefix="emseg-validation-") as folder, torch.no_grad():
            predicted = predict_image(self._source.image, trained, self._root, settings)
            assert predicted is not None
            path = Path(folder) / "prediction.h5"
            write_volume(
                path,
                predicted,
                axes="c" + self._source.image.axes,
                voxel_size=self._source.image.voxel_size,
                attributes=prediction_attributes(self._source, trained, self._root, settings),
            )
            return self._decoded(path)

    def _decoded(self, prediction: Path) -> dict[str, float]:
        root, limits = self._root, self._limits
        select = root.inference.model.selected
        job = DecodeJob(prediction, root.decoding, select, self._allow, limits.memory_limit)
        task = Task(job, self._source, root.evaluation.metrics, "")
        try:
            found: dict[str, float] = self._child.call(
                scores_by_value,
                task,
                {},
                None,
                timeout=limits.time_limit,
                memory_limit=int(limits.memory_limit * GIB),
            )[None]
        except (TimeoutError, MemoryError, ChildCrash, UserError) as error:
            say(f"the validation's segmentation has no score: {error or type(error).__name__}")
            return {}
        return found
