"""Modes, overrides, inheritance and drops; the saved config."""

from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from config.sample import TUTORIAL, Load, Write
from emseg.config.loaded import MODES, Loaded, dump, load
from emseg.config.schema import Space
from emseg.errors import UserError


def test_mode_sections_are_merged_over_the_root(load_text: Load) -> None:
    roots = {mode: load_text(mode=mode).root for mode in MODES}
    assert roots["train"].model["dropout"] == 0.2
    assert roots["train"].decoding["threshold"] == 0.4
    assert roots["train"].inference.window.overlap is None
    for mode in ("test", "infer", "decode", "evaluate", "tune"):
        assert roots[mode].model["dropout"] == 0.1
        assert roots[mode].decoding["threshold"] == 0.3
        assert roots[mode].inference.window.overlap == 0.25
    assert roots["test"].data.test[""].image == "c.h5"
    assert roots["tune"].data.test[""].image == "d.h5"


def test_the_command_line_wins_over_sections_and_section_overrides_do_not(load_text: Load) -> None:
    root = load_text("decoding.threshold=0.9", "test.decoding.threshold=0.2", mode="test").root
    assert root.decoding["threshold"] == 0.9
    root = load_text("test.decoding.threshold=0.2", mode="test").root
    assert root.decoding["threshold"] == 0.2
    assert load_text("test.decoding.threshold=0.2", mode="train").root.decoding["threshold"] == 0.4
    assert load_text("tune.decoding.threshold=0.2", mode="tune").root.decoding["threshold"] == 0.2
    assert load_text("tune.n_trials=3", mode="tune").root.tune.n_trials == 3


def test_values_become_what_the_spine_says(load_text: Load) -> None:
    root = load_text("data.train.range=[0,0.5]", "data.intensity_range=[0, 255]").root
    assert root.data.dataloader.patch_size == (8, 32, 32)
    assert root.data.train[""].range == (0.0, 0.5)
    assert root.data.intensity_range == (0.0, 255.0)
    assert load_text("data.train.range=[0,160]").root.data.train[""].range == (0, 160)
    assert root.model["_target_"] == "emseg.models.sample.Net"
    assert root.model["init_from"] is None


@pytest.mark.parametrize(
    ("override", "path", "expected"),
    [
        ("system.num_gpus=4", "system.num_gpus", 4),
        ("data.dataloader.batch_size=2", "data.dataloader.batch_size", 2),
        ("inference.model.select_channel=[6, 9, 4]", "inference.model.select_channel", [6, 9, 4]),
        (
            "inference.test_time_augmentation.enabled=true",
            "inference.test_time_augmentation.enabled",
            True,
        ),
        ("decoding.affinity_mask_path=null", "decoding.affinity_mask_path", None),
        ("evaluation.enabled=false", "evaluation.enabled", False),
        ("decoding.aff_threshold.0=0.2", "decoding.aff_threshold", [0.2, 0.999]),
        ("optimization.optimizer.lr=1e-4", "optimization.optimizer.lr", 1e-4),
        ("target.weights={a: 1, b: 2}", "target.weights", {"a": 1, "b": 2}),
        ("data.test.image=x (1) #{=}.h5", "data.test.image", "x (1) #{=}.h5"),
        ("data.test.image=a=b", "data.test.image", "a=b"),
        ("data.test.image=a,b", "data.test.image", "a,b"),
        ("data.test.image=file.h5:volumes/raw", "data.test.image", "file.h5:volumes/raw"),
        ("experiment_name=on", "experiment_name", "on"),
    ],
)
def test_overrides_of_the_command_line(
    load_text: Load, override: str, path: str, expected: Any
) -> None:
    saved: Any = load_text(override, mode="test").saved
    for part in path.split("."):
        saved = saved[part]
    assert saved == expected and type(saved) is type(expected)


def test_group_choices_switch_files(load_text: Load) -> None:
    loaded = load_text("optimization/optimizer=sgd", "evaluation/metrics=[rand,voi]", "model=net")
    assert loaded.root.optimization.optimizer["momentum"] == 0.9
    assert set(loaded.root.evaluation.metrics) == {"rand", "voi"}
    assert loaded.choices["model"] == "net"
    assert load_text("evaluation/metrics=voi").choices["evaluation/metrics"] == ["voi"]


def test_profile_is_the_choice_of_the_group(load_text: Load) -> None:
    loaded = load_text()
    assert (loaded.choices["system"], loaded.choices["tune"]) == ("single-gpu-cpu", "tune_cut")
    assert (loaded.root.system.num_gpus, loaded.root.system.profile) == (1, "single-gpu-cpu")
    assert loaded.root.tune.n_trials == 7
    assert load_text("system.profile=all-gpu-cpu").root.system.num_gpus == -1
    assert load_text("system=all-gpu-cpu").root.system.profile == "all-gpu-cpu"


def test_a_profile_and_another_choice_in_one_file_are_refused(load_text: Load) -> None:
    text = "defaults: [/base, override /system: all-gpu-cpu, _self_]\nsystem: {profile: cpu}\n"
    with pytest.raises(UserError, match=r"'all-gpu-cpu' in 'defaults' and 'cpu' in system.profile"):
        load_text(text=text)


def test_another_choice_drops_the_settings_and_says_so(load_text: Load) -> None:
    loaded = load_text("model=plain")
    assert "dropout" not in loaded.root.model and loaded.root.model["norm"] == "none"
    assert loaded.notes == [
        "model: settings of sample.yaml for wide (dropout) are dropped, as the choice is plain"
    ]
    assert load_text("model=wide").notes == []
    # same _target_, other choice: the choices are compared
    assert load_text("decoding=cc", mode="test").root.decoding["threshold"] == 0.75
    assert load_text("decoding=cc", "decoding.threshold=0.6").root.decoding["threshold"] == 0.6
    # the spine stays
    assert load_text("system=all-gpu-cpu", "system.seed=1").root.data.dataloader.batch_size == 2


def test_a_dropped_metric_takes_its_settings_along(load_text: Load) -> None:
    text = TUTORIAL + "evaluation: {metrics: {rand: {variant: skimage}}}\n"
    both = load_text("evaluation/metrics=[voi,rand]", text=text)
    assert both.root.evaluation.metrics["rand"]["variant"] == "skimage" and not both.notes
    one = load_text("evaluation/metrics=[voi]", text=text)
    assert set(one.root.evaluation.metrics) == {"voi"} and len(one.notes) == 1


CHILD = """
defaults: [../sample, override /target: far, override /model: net, _self_]
experiment_name: child
model: {norm: batch}
"""


def test_a_child_in_another_folder_inherits(write: Write, conf: Path) -> None:
    write("tutorials/sample.yaml", TUTORIAL)
    child = write("tutorials/deep/child.yaml", CHILD)
    loaded = load(child, mode="train", overrides=[], conf=[conf])
    root = loaded.root
    assert root.experiment_name == "child" and root.data.train[""].image == "a.h5"
    assert root.target["offsets"] == [[0, 0, 9]]
    # the parent's dropouts, in the root and in `train:`, were written for `wide`
    assert (root.model["dropout"], root.model["norm"]) == (0.0, "batch")
    assert ["sample.yaml for wide" in note for note in loaded.notes] == [True]


def test_a_grandchild_that_goes_back_keeps_the_first_settings(write: Write, conf: Path) -> None:
    write("tutorials/sample.yaml", TUTORIAL)
    write("tutorials/deep/child.yaml", CHILD)
    text = "defaults: [deep/child, override /model: wide, _self_]\n"
    loaded = load(write("tutorials/third.yaml", text), mode="train", overrides=[], conf=[conf])
    assert loaded.root.model["dropout"] == 0.2 and loaded.root.model["norm"] == "group"
    assert ["child.yaml for net (norm)" in note for note in loaded.notes] == [True]


def test_a_flat_file_stands_on_base(load_text: Load) -> None:
    text = "experiment_name: flat\ndata: {test: {image: a.h5}}\nmodel: {dropout: 0.5}\n"
    root = load_text(text=text, mode="test").root
    assert root.model["widths"] == [8, 16] and root.model["dropout"] == 0.5


def test_hydra_composes_the_same(write: Write, conf: Path) -> None:
    """Without drops and modes, a tutorial is what Hydra makes of it as a primary config."""
    write("sample.yaml", TUTORIAL.replace("{profile: single-gpu-cpu}", "{seed: 7}"))
    text = (
        "defaults: [sample, override /target: far, override /tune: tune_cut, _self_]\n"
        "data: {train: {image: z.h5}, dataloader: {batch_size: 9}}\n"
        "loss:\n  max_weight: ${data.dataloader.batch_size}\n"
    )
    child = write("child.yaml", text)
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(child.parent), version_base="1.3"):
        composed = compose("child", overrides=[f"hydra.searchpath=['file://{conf}']"])
    OmegaConf.set_struct(composed, False)
    for key in ("train", "test"):
        composed.pop(key)
    composed.tune.pop("profile")
    expected: Any = OmegaConf.to_container(composed, resolve=True)
    ours = load(child, mode="train", overrides=[], conf=[conf])
    _assert_within(ours.saved, expected)
    assert ours.saved["loss"]["max_weight"] == 9


def _assert_within(ours: Any, expected: Any) -> None:
    for key, value in expected.items():
        if isinstance(value, dict):
            _assert_within(ours[key], value)
        elif key != "_target_":
            assert ours[key] == value, key


def test_named_volumes_replace_a_lone_one(load_text: Load) -> None:
    text = TUTORIAL.replace(
        "data: {test: {image: d.h5}}", "data: {test: {a: {image: A}, b: {image: B}}}"
    )
    assert set(load_text(text=text, mode="tune").root.data.test) == {"a", "b"}
    assert set(load_text(text=text, mode="test").root.data.test) == {""}
    one = load_text("data.test.b=null", text=text, mode="tune")
    assert set(one.root.data.test) == {"a"}


def test_named_volumes_on_the_command_line_replace_a_lone_one(load_text: Load) -> None:
    named = "data.train={near: {image: n.h5}, far: {image: f.h5}}"
    root = load_text(named, "data.train.far.weight=2").root
    assert {name: volume.image for name, volume in root.data.train.items()} == {
        "near": "n.h5",
        "far": "f.h5",
    }
    assert root.data.train["far"].weight == 2.0


def test_choices_replace_a_range_of_the_search_space_and_the_reverse(
    load_text: Load, write: Write, conf: Path
) -> None:
    text = (
        TUTORIAL + "  search_space: {threshold: {choices: [0.5, 0.7]}, aff_threshold.0: {low: 0.2}}"
    )
    parent = load_text(text=text, mode="tune")
    assert parent.root.tune.search_space["threshold"] == Space(choices=[0.5, 0.7])
    assert parent.root.tune.search_space["aff_threshold.0"] == Space(low=0.2, high=0.5, step=0.1)
    for child, expected in [
        ("{choices: [0.1]}", Space(choices=[0.1])),
        ("{low: 0.1, high: 0.2}", Space(low=0.1, high=0.2)),
    ]:
        tutorial = f"defaults: [sample, _self_]\ntune: {{search_space: {{threshold: {child}}}}}\n"
        file = write("tutorials/child.yaml", tutorial)
        loaded = load(file, mode="tune", overrides=[], conf=[conf])
        assert loaded.root.tune.search_space["threshold"] == expected
        again = write("saved.yaml", dump(loaded.saved))
        assert load(again, mode="tune", overrides=[], conf=[conf]).root == loaded.root


def test_a_reference_to_a_volume_can_be_refined(load_text: Load) -> None:
    text = TUTORIAL.replace("test: {image: c.h5}", "test: '${data.train}'\n  val: '${data.train}'")
    text = text.replace("test:\n  decoding", "test:\n  data: {test: {range: [1, 2]}}\n  decoding")
    loaded = load_text("data.val.range=[3,4]", "data.train.label=z.h5", text=text, mode="test")
    test, val = loaded.root.data.test[""], loaded.root.data.val[""]
    assert (test.image, test.label, test.range) == ("a.h5", "b.h5", (1, 2))
    assert (val.image, val.range) == ("a.h5", (3, 4))
    assert load_text("data.train.label=z.h5", text=text).root.data.val[""].label == "z.h5"


@pytest.mark.parametrize(
    "overrides",
    [
        [
            "model=plain",
            "optimization/optimizer=sgd",
            "decoding.threshold=0.7",
            "test.decoding.threshold=0.6",
            "decoding.aff_threshold.1=0.9",
            "test.inference.window.overlap=[0.1,0.2,0.3]",
            "train.data.dataloader.batch_size=7",
            "tune.n_trials=3",
            "tune.data.test.label=y.h5",
            "experiment_name='1e3'",
        ],
        [
            "evaluation/metrics=[voi,rand]",
            "system.profile=all-gpu-cpu",
            "inference.window.overlap=0",
            "data.dataloader.batch_size=5",
            "tune.search_space.aff_threshold.0.high=0.4",
            "data.test.image=q (1).h5",
            "augment.transforms.flip=null",
            "experiment_name='off: # x'",
        ],
    ],
)
def test_the_saved_config_gives_the_same_roots(
    load_text: Load, write: Write, conf: Path, overrides: list[str]
) -> None:
    first = {mode: load_text(*overrides, mode=mode) for mode in ("train", "test", "tune")}
    text = dump(first["train"].saved)
    assert "_target_" not in text
    saved = write("outputs/run/config.yaml", text)
    for mode, loaded in first.items():
        again = load(saved, mode=mode, overrides=[], conf=[conf])
        assert again.root == loaded.root
        assert again.saved == loaded.saved == first["train"].saved
        assert again.notes == []


def test_a_saved_config_takes_overrides_and_switches(
    load_text: Load, write: Write, conf: Path
) -> None:
    saved = write("run/config.yaml", dump(load_text().saved))

    def again(*overrides: str) -> Loaded:
        return load(saved, mode="test", overrides=overrides, conf=[conf])

    assert again("decoding.threshold=0.45").root.decoding["threshold"] == 0.45
    assert again("model=plain").root.model["norm"] == "none"
    assert again("decoding=cc").root.decoding == {
        "_target_": "emseg.models.sample.decode",
        "threshold": 0.75,
        "biases": None,
        "temperature": 1.0,
    }


def test_a_user_conf_folder_comes_first(write: Write, conf: Path) -> None:
    mine = write("my conf/model/net.yaml", "_target_: mine.Net\ndepth: 3\n").parents[1]
    write("my conf/model/other.yaml", "_target_: mine.Net\n")
    config = write("t.yaml", "experiment_name: x\nmodel: {depth: 4}\ndata: {test: {image: a}}\n")
    loaded = load(config, mode="test", overrides=[], conf=[mine, conf])
    assert loaded.root.model == {"init_from": None, "_target_": "mine.Net", "depth": 4}
    loaded = load(config, mode="test", overrides=["model=other"], conf=[mine, conf])
    assert "depth" not in loaded.root.model


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("decoding.biases=-1", r"decoding.biases: expected \[number, ...\] or null, got -1"),
        ("decoding.biases=[a,1,1]", "decoding.biases: expected"),
        ("decoding.temperature=null", "decoding.temperature: expected number, got None"),
    ],
)
def test_what_code_reads_of_a_leaf_is_typed(load_text: Load, override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_text(override, mode="test")
    assert load_text("decoding.biases=[-1,0.5]").root.decoding["biases"] == [-1, 0.5]
