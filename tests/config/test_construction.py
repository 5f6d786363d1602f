"""Leaves are built by name, below allowed prefixes, with arguments that fit."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from config.sample import Load
from emseg.bounds import within
from emseg.config.annotations import conform
from emseg.config.choices import tutorials_folder
from emseg.config.construction import build, resolve
from emseg.config.loaded import load
from emseg.config.trial_build import USES, check_targets
from emseg.errors import UserError

NET = "emseg.models.sample.Net"
FLIP = "emseg.models.sample.Flip"
PIPELINE = "emseg.models.sample.Pipeline"


def test_classes_are_constructed_with_what_code_supplies() -> None:
    node = {"_target_": NET, "init_from": "x.ckpt", "widths": [1, 2], "dropout": 1}
    net = build(node, kind="model", in_channels=1, out_channels=12)
    assert net.channels == (1, 12) and net.widths == (1, 2)
    assert net.dropout == 1.0 and type(net.dropout) is float


def test_functions_wait_for_their_data() -> None:
    node = {"_target_": "emseg.models.sample.decode", "aff_threshold": [0, 1]}
    facts: dict[str, Any] = {"offsets": [(0, 0, 1)], "edge_side": "source", "voxel_size": None}
    decoder = build(node, kind="decoding", **facts)
    assert isinstance(decoder, partial)
    # `edge_side` and `voxel_size` are not asked for
    assert decoder("prediction") == ("prediction", 0.5, (0.0, 1.0), [(0, 0, 1)])


def test_optimizer_waits_for_params_or_takes_them() -> None:
    import torch

    node = {"_target_": "torch.optim.AdamW", "lr": 0.5}
    waiting = build(node, kind="optimization.optimizer")
    params = [torch.nn.Parameter(torch.zeros(1))]
    assert isinstance(waiting, partial) and waiting(params).defaults["lr"] == 0.5
    made = build(node, kind="optimization.optimizer", params=params)
    assert isinstance(made, torch.optim.AdamW)


def test_nested_leaves_are_built_first() -> None:
    transforms = {"flip": {"_target_": FLIP, "p": 1}, "none": None}
    node = {"_target_": PIPELINE, "transforms": transforms}
    pipeline = build(node, kind="augment")
    assert pipeline.transforms["flip"].p == 1.0 and pipeline.transforms["none"] is None


@pytest.mark.parametrize("earlier", ["geometry.Flip", "warp.Affine", "sections.Slip"])
def test_names_of_earlier_versions_are_led_to_todays(earlier: str) -> None:
    today = f"emseg.data.augment.{earlier.partition('.')[2]}"
    found = resolve(f"emseg.data.augment_{earlier}", key="augment")
    assert found is resolve(today, key="augment")


@pytest.mark.parametrize(
    ("kind", "node", "parts"),
    [
        ("model", {"_target_": NET, "nrom": "group"}, ["model.nrom", "did you mean 'norm'"]),
        ("model", {"_target_": NET, "norm": "grop"}, ["model.norm", "'grop'", "mean 'group'"]),
        ("model", {"_target_": NET, "widths": [1, "a"]}, ["model.widths", "[int, ...]"]),
        ("model", {"_target_": NET, "dropout": True}, ["model.dropout", "number", "True"]),
        ("model", {"_target_": NET, "dropout": -1}, ["model: dropout must be", "-1"]),
        ("model", {"_target_": NET, "in_channels": 2}, ["model.in_channels", "supplied"]),
        ("model", {"_target_": "emseg.models.sample.Nett"}, ["Nett", "did you mean 'Net'"]),
        ("model", {"_target_": "emseg.nowhere.Net"}, ["model._target_: 'emseg.nowhere.Net'"]),
        ("model", {}, ["model", "_target_"]),
        (
            "target",
            {"_target_": "emseg.models.sample.Offsets"},
            ["target.offsets", "no value"],
        ),
        (
            "augment",
            {
                "_target_": PIPELINE,
                "transforms": {"a": {"_target_": FLIP, "q": 1}},
            },
            ["augment.transforms.a.q"],
        ),
        (
            "augment",
            {"_target_": PIPELINE, "transforms": {"a": {"_target_": FLIP, "p": 7}}},
            ["augment.transforms.a.p=7 must be from 0 to 1"],
        ),
        (
            "augment",
            {"_target_": PIPELINE, "transforms": {"a": 3}},
            ["augment.transforms", "Flip"],
        ),
        ("optimization.optimizer", {"_target_": "torch.optim.AdamW", "lrr": 1}, ["mean 'lr'"]),
    ],
)
def test_wrong_arguments_are_named(kind: str, node: dict[str, Any], parts: list[str]) -> None:
    supplied = {"in_channels": 1, "out_channels": 1} if kind == "model" else {}
    with pytest.raises(UserError) as caught:
        build(node, kind=kind, **supplied)
    message = str(caught.value)
    assert [part for part in parts if part not in message] == [], message
    assert "\n" not in message


def test_the_user_may_allow_a_prefix() -> None:
    with pytest.raises(UserError, match="'fractions.Fraction' is no network, loss.*--allow PREFIX"):
        resolve("fractions.Fraction", key="model")
    assert resolve("fractions.Fraction", key="model", allow=["fractions"]).__name__ == "Fraction"


@pytest.mark.parametrize(
    ("value", "annotation", "expected"),
    [
        (1, float, 1.0),
        ([1, 2], tuple[int, int], (1, 2)),
        ([0, 1], tuple[int, int] | tuple[float, float], (0, 1)),
        ([0, 0.5], tuple[int, int] | tuple[float, float], (0.0, 0.5)),
        (None, int | None, None),
        ({"a": 1}, dict[str, float], {"a": 1.0}),
        ("all", Literal["all"] | list[int], "all"),
        ([1], Literal["all"] | list[int], [1]),
        ([[0, 1]], list[tuple[int, int]], [(0, 1)]),
        (None, Annotated[float, within(0, 1)] | None, None),
        ([0, 1], list[Annotated[float, within(0, 1)]], [0.0, 1.0]),
        (1, Literal[1, 2], 1),
    ],
)
def test_conform_accepts(value: Any, annotation: Any, expected: Any) -> None:
    fitted = conform("key", value, annotation)
    assert fitted == expected and type(fitted) is type(expected)


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (True, int),
        (1.0, int),
        ("1", int),
        (1, str),
        (1, bool),
        ([1], tuple[int, int]),
        ("ab", list[str]),
        (True, Literal[1, 2]),
        ("x", Literal["a"] | None),
        ({"a": "b"}, dict[str, int]),
        ({1: 1}, dict[str, int]),
        (None, dict[str, int]),
    ],
)
def test_conform_refuses(value: Any, annotation: Any) -> None:
    with pytest.raises(UserError, match=r"^some.key(\.a)?: expected "):
        conform("some.key", value, annotation)


@pytest.mark.parametrize(
    ("value", "annotation", "message"),
    [
        (2, Annotated[float, within(0, 1)], "some.key=2 must be from 0 to 1"),
        (-1, Annotated[int, within(0)] | None, "some.key=-1 must be 0 or more"),
        ([0, 2], list[Annotated[float, within(0, 1)]], "some.key=[0, 2] must be from 0 to 1"),
        ({"a": 2}, dict[str, Annotated[int, within(0, 1)]], "some.key.a=2 must be from 0 to 1"),
        ("x", Annotated[float, within(0, 1)], "some.key: expected number, got 'x'"),
    ],
)
def test_a_rule_is_checked_wherever_it_stands(value: Any, annotation: Any, message: str) -> None:
    with pytest.raises(UserError) as caught:
        conform("some.key", value, annotation)
    assert str(caught.value) == message


@pytest.mark.parametrize("mode", USES)
def test_the_sample_passes_in_every_mode(load_text: Load, mode: str) -> None:
    check_targets(load_text(mode=mode), mode)


@pytest.mark.parametrize(
    ("override", "fails_in"),
    [
        ("model.norm=grop", {"train", "test", "infer", "decode", "evaluate", "tune", "sweep"}),
        ("loss.max_weight=many", {"train"}),
        ("augment.transforms.flip.p=often", {"train"}),
        ("target.offsets=[1]", {"train", "test", "infer", "decode", "evaluate", "tune", "sweep"}),
        ("decoding.affinity_mask_path=3", {"test", "decode", "evaluate", "tune", "sweep"}),
        ("evaluation.metrics.rand.variant=sneim", {"test", "evaluate", "tune", "sweep"}),
        ("optimization.optimizer.lr=-1", {"train"}),
    ],
)
def test_only_what_the_mode_uses_is_checked(
    load_text: Load, override: str, fails_in: set[str]
) -> None:
    loaded, failed = load_text(override, mode="test"), set()
    for mode in USES:
        try:
            check_targets(loaded, mode)
        except UserError as error:
            assert override.rpartition(".")[0].split(".")[0] in str(error)
            failed.add(mode)
    assert failed == fails_in


def test_a_schedule_is_checked_on_the_steps_that_will_be_taken() -> None:
    plan = ["optimization.max_steps=1000", "optimization.n_steps_per_epoch=10"]
    warm_up = "optimization.scheduler.warmup_steps=50"
    demo = tutorials_folder() / "demo.yaml"
    check_targets(load(demo, mode="train", overrides=[*plan, warm_up]), "train")
    short = load(demo, mode="train", overrides=[*plan, warm_up, "optimization.max_epochs=2"])
    assert short.root.optimization.total_steps == 20
    with pytest.raises(UserError, match="warm-up of 50 steps.*training.s 20"):
        check_targets(short, "train")


def test_a_disabled_evaluation_is_not_checked(load_text: Load) -> None:
    overrides = ["evaluation.metrics.rand.variant=no", "evaluation.enabled=false"]
    check_targets(load_text(*overrides, mode="test"), "test")


@pytest.mark.parametrize("value", [None, 3, "a", [0]])
@pytest.mark.parametrize(
    ("kind", "key", "target"),
    [
        ("target", "heads", "emseg.data.heads.Heads"),
        ("loss", "losses", "emseg.losses.weighted_sum.WeightedSum"),
    ],
)
def test_parts_are_a_mapping(kind: str, key: str, target: str, value: Any) -> None:
    with pytest.raises(UserError, match=rf"^{kind}\.{key}: expected \{{name: ") as error:
        build({"_target_": target, key: value}, kind=kind)
    assert repr(value) in str(error.value)


def test_a_target_of_ones_own_has_what_the_base_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "own_lab.py").write_text(
        "from emseg.data.targets import Target\n"
        "class Bare:\n    names = ('a',)\n    out_channels = 1\n"
        "class Full(Target):\n    names = ('a',)\n"
    )
    for name in ("Bare", "Full"):
        (tmp_path / f"target/{name}.yaml").write_text(f"_target_: own_lab.{name}\n")
    monkeypatch.syspath_prepend(tmp_path)

    def check(name: str) -> None:
        config = tutorials_folder() / "demo.yaml"
        choice = [f"target={name}"]
        loaded = load(config, mode="infer", overrides=choice, conf=[tmp_path], allow=["own_lab"])
        check_targets(loaded, "infer")

    check("Full")
    with pytest.raises(UserError, match="Bare has no .*offsets.*emseg.data.targets.Target"):
        check("Bare")
