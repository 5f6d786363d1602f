"""The tutorial of synaptic polarity, cut down: every mode of it, on small synthetic volumes."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from emseg.cli import main
from emseg.config.choices import tutorials_folder
from emseg.data.polarity import Polarity
from emseg.synthetic import layouts
from emseg.volumes import open_volume, write_volume
from stages.tiny_tutorial import SmallTutorial

SHAPE = (12, 96, 96)
SMALL = (
    "system=cpu",
    "system.num_workers=0",
    "augment=light",
    "model.width=[4,6]",
    "model.down_factors=[[1,2,2]]",
    "data.reject_sampling.size_thres=20",
    "data.dataloader.patch_size=[8,32,32]",
    "data.dataloader.batch_size=1",
    "optimization.max_steps=2",
    "optimization.n_steps_per_epoch=2",
    "optimization.val_steps_per_epoch=1",
    "optimization.precision=32-true",
    "optimization.ema.warmup_steps=1",
    "inference.window.window_size=[12,96,96]",
    "inference.test_time_augmentation.flip_axes=[2]",
    "monitor.logging.images.n_images=1",
    "tune.n_trials=2",
    "tune.n_startup_trials=1",
)


def scores_in(folder: Path) -> dict[str, float]:
    """Those of the only record in metrics.json."""
    (record,) = json.loads((folder / "metrics.json").read_text())["records"].values()
    (scores,) = record["volumes"].values()
    return scores


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallTutorial]:
    folder = tmp_path_factory.mktemp("polarity")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setitem(layouts.SHAPES, "polarity", SHAPE)
        patch.setattr(layouts, "POLARITY_SYNAPSES", 16.0)
        assert main(["synth", "polarity", "datasets/polarity"]) == 0
        tutorial = SmallTutorial(tutorials_folder() / "syn_polarity.yaml", SMALL)
        assert tutorial.emseg("train") == 0
        yield tutorial


def test_a_test_goes_from_three_probabilities_to_scores(trained: SmallTutorial) -> None:
    assert trained.emseg("test") == 0
    predicted = open_volume(trained.results / "test_im_prediction.h5")
    assert predicted.attributes["channels"] == ["pre", "post", "synapse"]
    assert (predicted.channels, predicted.shape) == (3, SHAPE)
    segmentation = open_volume(trained.results / "test_im_segmentation.h5")
    assert (segmentation.shape, segmentation.dtype) == (SHAPE, "uint32")
    assert set(scores_in(trained.results)) == {
        f"{kind}_{name}_{threshold}"
        for kind in ("synapse", "synapse_directed")
        for name in ("precision", "recall", "f1")
        for threshold in (0.3, 0.5)
    }
    assert (trained.results / "overview.png").is_file()


def test_stages_by_themselves_and_the_checks_work_too(trained: SmallTutorial) -> None:
    for mode in ("infer", "decode", "evaluate"):
        assert trained.emseg(mode) == 0, mode
    for mode in ("test", "tune"):
        assert trained.emseg(mode, "--check") == 0, mode
    given = ["--check", "optimization.max_steps=3", "--checkpoint", str(trained.checkpoint)]
    assert trained.emseg("train", *given) == 0


def test_the_decoder_is_tuned_for_direction_on_the_validation_volume(
    trained: SmallTutorial,
) -> None:
    assert trained.emseg("tune") == 0
    tuned = trained.checkpoint.parents[1] / "tune"
    (choice,) = (tuned / "decoding").glob("*.yaml")
    assert trained.emseg("test", "--conf", str(tuned), f"decoding={choice.stem}") == 0


@pytest.mark.parametrize(("channels", "directed"), [([0, 1, 2], 1.0), ([1, 0, 2], 0.0)])
def test_the_truth_as_prediction_is_found_whole_and_swapped_it_has_the_wrong_direction(
    trained: SmallTutorial, channels: list[int], directed: float, tmp_path: Path
) -> None:
    assert trained.emseg("infer") == 0
    predicted = open_volume(trained.results / "test_im_prediction.h5")
    truth = open_volume("datasets/polarity/test_syn.h5")[...]
    assert truth.max() > 2
    values, _ = Polarity()(truth.astype(np.int32))
    write_volume(
        tmp_path / "test_im_prediction.h5",
        values[channels].astype(np.float32),
        axes="czyx",
        voxel_size=predicted.voxel_size,
        attributes=predicted.attributes,
    )
    for mode, kind in (("decode", "prediction"), ("evaluate", "segmentation")):
        given = ["--input", f"{tmp_path}/test_im_{kind}.h5", "decoding.dust_remove_size=0"]
        assert trained.emseg(mode, *given) == 0
    assert {name: value for name, value in scores_in(tmp_path).items() if "f1" in name} == {
        "synapse_f1_0.3": 1.0,
        "synapse_f1_0.5": 1.0,
        "synapse_directed_f1_0.3": directed,
        "synapse_directed_f1_0.5": directed,
    }
