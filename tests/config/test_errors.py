"""Every mistake is one line that names the key, the value, what is allowed and the nearest name."""

from pathlib import Path

import pytest

from config.sample import TUTORIAL, Load, Write
from emseg.config.loaded import load
from emseg.errors import UserError


def failure(load_text: Load, *overrides: str, text: str = TUTORIAL, mode: str = "train") -> str:
    with pytest.raises(UserError) as caught:
        load_text(*overrides, text=text, mode=mode)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("batch_sze=2", ["batch_sze", "did you mean 'data.dataloader.batch_size'"]),
        ("data.dataloader.batch_sze=2", ["did you mean 'data.dataloader.batch_size'"]),
        ("test.inference.window.overlp=0", ["did you mean 'test.inference.window.overlap'"]),
        ("decoding.treshold=1", ["decoding.treshold", "did you mean 'decoding.threshold'"]),
        ("optimization.optimizer.lrr=1", ["did you mean 'optimization.optimizer.lr'"]),
        ("tune.n_trails=1", ["did you mean 'tune.n_trials'"]),
        ("train.tune.n_trials=1", ["unknown key 'train.tune'"]),
        ("data.test.imag=x", ["did you mean 'data.test.image'"]),
        ("data.dataloader.batch_size=two", ["data.dataloader.batch_size", "'two'", "int"]),
        ("data.dataloader.batch_size=true", ["data.dataloader.batch_size", "True"]),
        ("data.dataloader.patch_size=[16, 224]", ["patch_size", "[16, 224]", "[int, int, int]"]),
        ("inference.window.overlap=1.5", ["inference.window.overlap=1.5", "in [0, 1)"]),
        ("test.inference.window.overlap=-1", ["window.overlap=-1 ", "mode test"]),
        ("inference.window.blending=gausian", ["'gausian'", "bump", "did you mean 'gaussian'"]),
        ("inference.model.select_channel=[6, 9", ["select_channel", "'[6, 9'", "[int, ...]"]),
        ("data.train.axes=zyz", ["data.train.axes='zyz'", "zyx"]),
        ("data.train.range=[0.5,1.5]", ["data.train.range=[0.5, 1.5]", "fractions"]),
        ("data.test=x.h5", ["data.test", "'x.h5'"]),
        ("decoding.aff_threshold.2=1", ["decoding.aff_threshold.2", "list of 2"]),
        ("decoding.threshold.low=1", ["decoding.threshold.low", "0.4"]),
        ("optimization.max_epochs=null", ["optimization.max_epochs", "max_steps"]),
        ("model=wid", ["choice of model 'wid'", "did you mean 'wide'", "command line"]),
        ("model=[net,wide]", ["model", "exactly one"]),
        ("evaluation/metrics=[rand,nerls]", ["'nerls'", "voi"]),
        ("system.profile=all-gpus", ["'all-gpus'", "did you mean 'all-gpu-cpu'"]),
        ("optimization.optimizer=sgd", ["optimization.optimizer", "'sgd'", "optimizer=sgd"]),
        ("modle=net", ["modle", "did you mean 'model'"]),
        ("+data.dataloader.batch_sze=2", ["+data.dataloader.batch_sze=2", "neither added"]),
        ("++model.x=2", ["++model.x=2", "model.x=value"]),
        ("~data.train", ["~data.train"]),
        ("--verbose", ["--verbose", "key=value"]),
        ("model._target_=os.system", ["model._target_", "group's file"]),
        ("target.weights={_target_: os.system}", ["target.weights._target_"]),
        ("experiment_name=${nothing.there}", ["nothing.there"]),
        ("experiment_name=a/b", ["experiment_name='a/b'", "folder"]),
        ("data.split_val_range=[0.8,1.0]", ["data.split_val_range", "data.split_train_range"]),
        ("test.system.profile=cpu", ["test.system.profile", "did you mean 'system.profile'"]),
    ],
)
def test_mistakes_on_the_command_line(load_text: Load, override: str, parts: list[str]) -> None:
    message = failure(load_text, override)
    assert [part for part in parts if part not in message] == [], message


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("experiment_name: a\nbatch_sze: 3\n", ["sample.yaml", "data.dataloader.batch_size"]),
        (
            "experiment_name: a\ndata: {val: {image: b}, split_val_range: [0.8, 1.0]}\n",
            ["data.split_val_range=[0.8, 1.0]", "data.val"],
        ),
        ("a: [1, 2\nb: 3\n", ["sample.yaml:2", "broken YAML"]),
        ("a: 1\na: 2\n", ["sample.yaml:2", "duplicate key"]),
        ("- a\n- b\n", ["sample.yaml", "mapping"]),
        ("optimization: {max_epochs: 1}\n", ["experiment_name"]),
        ("experiment_name: a\nmodel: wide\n", ["model", "'wide'", "override /model: wide"]),
        ("experiment_name: a\nmodel: {_target_: os.system}\n", ["model._target_", "sample.yaml"]),
        ("defaults: [/base, _self_, override /model: net]\n", ["sample.yaml", "last"]),
        ("defaults: [/base, model: net, _self_]\n", ["model: net", "override /group"]),
        ("defaults: [/base, override /modle: net, _self_]\n", ["did you mean 'model'"]),
        ("defaults: [/base, override /model: nett, _self_]\n", ["'nett'", "did you mean 'net'"]),
        ("defaults: [./sampl, _self_]\n", ["'./sampl'", "did you mean './sample'"]),
        ("defaults: [sample, _self_]\n", ["sample.yaml", "inherits from itself"]),
        ("experiment_name: a\ntest: {data: {test: {image: 3}}}\n", ["data.test.image", "3"]),
        ("experiment_name: a\nsystem: null\n", ["system: expected a mapping", "None"]),
        ("experiment_name: a\ntune: null\n", ["tune: expected a mapping", "None"]),
        ("experiment_name: a\ntest: 3\n", ["test: expected a mapping", "3"]),
        (
            "experiment_name: a\ndata: {train: {image: x, b: {image: y}}}\n",
            ["data.train", "by name (b)"],
        ),
        ("experiment_name: a\noptimization: {max_steps: 9}\n", ["data.train", "no volume"]),
        (
            "experiment_name: a\ndata:\n  test:\n    image: ???\n    resolution: ???\n",
            ["data.test.image, data.test.resolution"],
        ),
    ],
)
def test_mistakes_in_the_file(load_text: Load, text: str, parts: list[str]) -> None:
    message = failure(load_text, text=text)
    assert [part for part in parts if part not in message] == [], message


OUT_OF_RANGE = """
system.num_gpus=-2 system.num_workers=-2 system.seed=-1 system.seed=4294967296 system.memory=0
optimization.max_epochs=0 optimization.n_steps_per_epoch=0 optimization.max_steps=0
optimization.val_check_interval=0 optimization.val_steps_per_epoch=0
optimization.gradient_clip_val=0 optimization.accumulate_grad_batches=0
optimization.ema.decay=1 optimization.ema.warmup_steps=-1
data.train.weight=0 data.train.resolution=[0,1,1] data.train.range=[3,3] data.train.range=[-1,3]
data.split_train_range=[2,1] data.dataloader.patch_size=[0,8,8] data.reject_sampling.p=1.1
data.reject_sampling.size_thres=-1 data.intensity_range=[2,2] data.intensity_percentiles=[0,101]
inference.window.window_size=[0,1,1] inference.window.sw_batch_size=0
inference.window.overlap=[0,0,1] inference.model.select_channel=[]
inference.model.select_channel=[-1] inference.prediction.scale=0 inference.prediction.offsets=[]
inference.prediction.axes=zz inference.prediction.resolution=[1,-1,1] inference.pad=[-1,0,0]
inference.crop_pad=[0,0,0,0,0,-1] inference.test_time_augmentation.flip_axes=[0,0]
inference.test_time_augmentation.flip_axes=[3]
inference.test_time_augmentation.rotation90_axes=[[1,1]]
evaluation.keep_segmentations=-1 evaluation.border_mask.distance=-1
tune.n_trials=0 tune.trial_timeout=0 tune.n_startup_trials=-1 tune.study_name=a/b
sweep.name=. sweep.grid.threshold=[] sweep.grid.threshold=[1,1]
monitor.checkpoint.save_top_k=-2 monitor.checkpoint.every_n_steps=0
monitor.logging.log_every_n_steps=0 monitor.logging.images.every_n_epochs=0
monitor.logging.images.n_images=-1 monitor.logging.images.n_slices=0
"""


@pytest.mark.parametrize("override", OUT_OF_RANGE.split())
def test_a_value_out_of_range_is_refused(load_text: Load, override: str) -> None:
    message = failure(load_text, override)
    assert message.startswith(f"{override.partition('=')[0]}=") and "must be" in message


def test_a_mistake_in_another_mode_is_found_at_once(load_text: Load) -> None:
    text = TUTORIAL.replace("overlap: 0.25", "overlap: 7")
    assert "inference.window.overlap=7 " in failure(load_text, text=text, mode="train")


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("tune.search_space.thresold={low: 0, high: 1}", "did you mean 'threshold'"),
        ("tune.search_space.aff_threshold.0.low=0.9", "aff_threshold.0.low, high=[0.9, 0.5]"),
        ("tune.search_space.threshold.choices=[1]", "tune.search_space.threshold.choices"),
        ("tune.search_space.aff_threshold={choices: [[0.0, 0.9]]}", "is a part of 'aff_threshold'"),
        ("tune=default", "nothing to tune"),
        ("decoding=cc", "aff_threshold.0"),
        ("mode", "key=value"),
    ],
)
def test_mistakes_in_the_search_space(load_text: Load, override: str, part: str) -> None:
    text = TUTORIAL.replace("profile: tune_cut", "") if override == "tune=default" else TUTORIAL
    assert part in failure(load_text, override, text=text, mode="tune")


def test_missing_files_name_the_nearest(write: Write, conf: Path) -> None:
    written = write("neuron_snemi.yaml", TUTORIAL)
    with pytest.raises(UserError, match=r"did you mean .*/neuron_snemi\.yaml"):
        load(written.with_name("neuron_snem.yaml"), mode="train", overrides=[], conf=[conf])
    with pytest.raises(UserError, match="no conf folder"):
        load(written, mode="train", overrides=[], conf=[conf / "none"])
    with pytest.raises(UserError, match="unknown mode 'trian'.*did you mean 'train'"):
        load(written, mode="trian", overrides=[], conf=[conf])


def test_broken_group_file_names_file_and_line(write: Write, conf: Path) -> None:
    mine = write("conf/model/broken.yaml", "_target_: a\nwidths: [1,\n").parents[1]
    config = write("t.yaml", "experiment_name: x\n")
    with pytest.raises(UserError, match=r"model/broken\.yaml:3: broken YAML"):
        load(config, mode="test", overrides=["model=broken"], conf=[mine, conf])
