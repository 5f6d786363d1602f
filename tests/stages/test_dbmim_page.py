"""The dbMiM page: every command of docs/dbmim.md in its order, on small synthetic volumes."""

import csv
import importlib
import json
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from io import StringIO
from typing import Any

import pooch
import pytest

from emseg.cli import VERBS, main
from emseg.config import load
from emseg.synthetic import layouts
from emseg.training.checkpoints import read_checkpoint
from stages.page import Session, count_stages, key_of, mode_of
from test_docs import REPOSITORY, commands, fences

PAGE = (REPOSITORY / "docs" / "dbmim.md").read_text()
PRETRAINED, NAME = "dbmim_pretrain_r17", "dbmim_finetune_r17"
SHAPE = (20, 48, 48)

NETWORK = (
    "model.volume_size=[4,16,16] model.patch_size=[2,8,8] model.embed_dim=24 model.num_heads=2 "
    "data.dataloader.patch_size=[4,16,16] system.num_workers=0 optimization.precision=32-true"
)
TRAIN = (
    "optimization.max_steps=2 optimization.n_steps_per_epoch=2 optimization.val_steps_per_epoch=1 "
    "monitor.checkpoint.every_n_steps=null monitor.logging.images.n_images=1"
)


def small(words: list[str]) -> list[str]:
    """The words, and what makes them small."""
    if words[0] in VERBS:
        return words
    more = f"{NETWORK} {TRAIN} tune.n_trials=2 inference.window.overlap=0"
    head = "" if "pretrain" in words[1] else " model.feature_size=4"
    return [*words, *(more + head).split()]


@dataclass
class Page(Session):
    """The page, and the one line with which each command that needs the network ends."""

    refused: dict[str, str] = field(default_factory=dict)


class _Offline:
    def __init__(self, **settings: Any) -> None: ...

    def __call__(self, url: str, *rest: Any) -> None:
        raise ConnectionError(f"no route to {url}")


def _refusal(words: list[str]) -> str:
    with redirect_stderr(StringIO()) as err:
        assert main(words) == 2
    lines = err.getvalue().splitlines()
    assert all(line.startswith("emseg: ") for line in lines)
    return lines[-1]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    """Every command of the page in its order, without a network: done, or refused."""
    session = Page(tmp_path_factory.mktemp("page"), NAME, small)
    (session.folder / "tutorials").symlink_to(REPOSITORY / "tutorials")
    worked: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(session.folder)
        patch.setitem(layouts.SHAPES, "dbmim", SHAPE)
        count_stages(patch, worked, scorer="count_overlaps")
        patch.setattr(pooch, "HTTPDownloader", _Offline)
        for words in commands(PAGE):
            if words[0] in ("download", "convert"):
                session.refused[" ".join(words)] = _refusal(words)
                continue
            pretraining = mode_of(words) == "train" and "pretrain" in words[1]
            key = "pretrain" if pretraining else key_of(words).split("=")[0]
            session.done[key] = session.follow(words, worked)
    return session


def test_the_page_has_these_commands_and_no_other(page: Page) -> None:
    assert [*page.done] == [
        "synth dbmim datasets/dbmim",
        "inspect datasets/dbmim/CREMI/sample_A_20160501.hdf --json sample_A.json",
        "pretrain",
        "train model.init_from",
        "test",
        "tune",
        "test decoding",
        "sweep",
        "sweep decoding",
    ]


def test_what_is_out_of_reach_is_told_with_what_to_do(page: Page) -> None:
    told = {
        "download cremi-official datasets/dbmim/CREMI": "by hand: mkdir -p datasets/dbmim/CREMI",
        "download snemi": "by hand: mkdir -p datasets/SNEMI",
        "convert public-em datasets datasets/dbmim/public_em": "7 of 7 volumes are missing below",
        "download full-em": "--local-dir datasets/dbmim/full_em",
        "download dbmim-weights": "by hand: mkdir -p datasets/dbmim/weights/publicem_dbmim_r17",
    }
    assert [*page.refused] == [*told]
    for command, words in told.items():
        assert words in page.refused[command]


def test_an_inspection_tells_the_volume(page: Page) -> None:
    records = json.loads((page.folder / "sample_A.json").read_text())
    shapes = {record["key"]: record["shape"] for record in records}
    assert shapes == {"volumes/raw": [*SHAPE], "volumes/labels/neuron_ids": [*SHAPE]}


def test_the_synthetic_volumes_suit_the_recipe_as_it_is() -> None:
    folder = REPOSITORY / "tutorials" / "dbmim"
    data = load(folder / "finetune.yaml", mode="train", overrides=()).root.data
    depth, patch = layouts.SHAPES["dbmim"][0], data.dataloader.patch_size
    first, last = data.split_val_range
    assert round(last * depth) - round(first * depth) >= patch[0]
    assert min(layouts.SHAPES["dbmim"][1:]) >= patch[1]


def test_the_encoder_is_taken_from_the_pretraining(page: Page) -> None:
    assert "77 of the model's 214 tensors are those of" in page.done["train model.init_from"].err
    (begun,) = (page.folder / "outputs" / PRETRAINED).glob("*/checkpoints/last.ckpt")
    assert read_checkpoint(begun)["emseg"]["objective"]["strategy"] == "random"


def test_three_volumes_are_tested_on_what_was_held_back(page: Page) -> None:
    done = page.done["test"]
    assert done.worked == ["infer"] * 3 + ["decode"] * 3 + ["evaluate"] * 3
    assert "was trained on" not in done.err
    (record,) = done.records.values()
    assert [*record["volumes"]][3:] == ["mean"]
    assert {"voi_sum", "adapted_rand_skimage"} < {*record["volumes"]["mean"]}


def test_the_grid_is_told_whole(page: Page) -> None:
    folder = page.done["sweep"].results
    with (folder / "cremi_segmentation_metrics.csv").open() as file:
        table = list(csv.DictReader(file))
    summary = json.loads((folder / "cremi_segmentation_summary.json").read_text())
    groups = summary["per_backend_threshold"]
    assert len(table) == 3 * 3 * 5 and [mean["n"] for mean in groups] == [3] * 3 * 5
    assert len(summary["affinity_records"]) == 3 * 3 and len(summary["per_threshold"]) == 5
    least = min(mean["voi_sum"] for mean in groups)
    assert summary["best_by_voi_sum"]["voi_sum"] == least
    assert page.done["sweep"].worked == []  # predicted before, and scored by rows of its own


def test_what_was_tuned_is_told_apart_from_the_best(page: Page) -> None:
    summary = json.loads(
        (page.done["sweep decoding"].results / "cremi_segmentation_summary.json").read_text()
    )
    tuned = summary["configured"]
    assert tuned["threshold"] == summary["decoding"]["thresholds"]
    told = [tuned[f"calibration_bias_{axis}"] for axis in "zyx"]
    assert told == summary["decoding"]["biases"]
    assert tuned["voi_sum"] >= summary["best_by_voi_sum"]["voi_sum"]
    # The same choice, tested: the second command of the section.
    (mean,) = [
        record["volumes"]["mean"]
        for record in page.done["test decoding"].records.values()
        if all(s["decoding"]["biases"] == told for s in record["segmentations"].values())
        and all(
            s["decoding"]["thresholds"] == tuned["threshold"]
            for s in record["segmentations"].values()
        )
    ]
    assert tuned["voi_sum"] == pytest.approx(mean["voi_sum"])


def test_blocks_give_the_numbers_of_the_sweep(
    page: Session, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(page.folder)
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    lines = [line for block in fences(PAGE, "sh") for line in block.splitlines()]
    (command,) = [line for line in lines if "benchmarks/blockwise.py" in line]
    words = [page.filled(word) for word in command.split()[2:]]
    blockwise = importlib.import_module("blockwise")
    blockwise.main(small([*words, "--chunk", "4", "20", "48", "--seam", "1", "4", "4"]))
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["equal"] is True
    summary, swept = (
        json.loads((page.results / f"{name}_summary.json").read_text())
        for name in ("blockwise_scale", "cremi_segmentation")
    )
    assert len(summary["per_group"]) == 3 * 5 * 2 * 3  # combinations, ways and regions
    for name in ("voi_sum", "adapted_rand"):
        best, score = summary[f"best_full_by_{name}"], name.replace("rand", "rand_error")
        assert best[score] == swept[f"best_by_{name}"][score]
