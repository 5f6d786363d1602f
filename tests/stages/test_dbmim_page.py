"""The dbMiM page: every command of docs/dbmim.md in its order, on small synthetic volumes."""

import csv
import importlib
import json
from typing import Any

import pooch
import pytest

from emseg.config import load
from emseg.synthetic import layouts
from emseg.training.checkpoints import read_checkpoint
from stages.page import ALL, Command, Page, Session
from test_docs import REPOSITORY, fences

SHAPE = (20, 48, 48)
PRETRAINED = "dbmim_pretrain_r17"
EACH = [stage for stage in ALL for _ in range(3)]


def refused(text: str, says: str) -> Command:
    return Command(text, code=2, says=(says,))


PAGE = Page(
    "dbmim",
    "dbmim_finetune_r17",
    {
        "cremi": refused(
            "download cremi-official datasets/dbmim/CREMI", "by hand: mkdir -p datasets/dbmim/CREMI"
        ),
        "snemi": refused("download snemi", "by hand: mkdir -p datasets/SNEMI"),
        "public": refused(
            "convert public-em datasets datasets/dbmim/public_em",
            "7 of 7 volumes are missing below",
        ),
        "full": refused("download full-em", "--local-dir datasets/dbmim/full_em"),
        "weights": refused(
            "download dbmim-weights", "by hand: mkdir -p datasets/dbmim/weights/publicem_dbmim_r17"
        ),
        "synth": Command("synth dbmim datasets/dbmim"),
        "inspect": Command(
            "inspect datasets/dbmim/CREMI/sample_A_20160501.hdf --json sample_A.json"
        ),
        "pretrain": Command("train pretrain_r17"),
        "finetune": Command(
            f"train finetune_r17 model.init_from=outputs/{PRETRAINED}/<timestamp>/checkpoints/"
            "last.ckpt",
            says=("77 of the model's 214 tensors are those of",),
        ),
        "test": Command("test finetune_r17", worked=EACH, never=("was trained on",)),
        "tune": Command("tune finetune_r17"),
        "tuned": Command("test finetune_r17 decoding=dbmim_calibration"),
        # Predicted before, and scored by rows of its own.
        "sweep": Command("sweep finetune_r17", worked=[]),
        "sweep tuned": Command("sweep finetune_r17 decoding=dbmim_calibration"),
    },
    small={
        "": "model.volume_size=[4,16,16] model.patch_size=[2,8,8] model.embed_dim=24 "
        "model.num_heads=2 data.dataloader.patch_size=[4,16,16] system.num_workers=0 "
        "optimization.precision=32-true optimization.max_steps=2 optimization.n_steps_per_epoch=2 "
        "optimization.val_steps_per_epoch=1 monitor.checkpoint.every_n_steps=null "
        "monitor.logging.images.n_images=1 tune.n_trials=2 inference.window.overlap=0",
        "finetune": "model.feature_size=4",
    },
)


class _Offline:
    def __init__(self, **settings: Any) -> None: ...

    def __call__(self, url: str, *rest: Any) -> None:
        raise ConnectionError(f"no route to {url}")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Session:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(layouts.SHAPES, "dbmim", SHAPE)
        patch.setattr(pooch, "HTTPDownloader", _Offline)
        return Session(PAGE, tmp_path_factory.mktemp("page")).follow(patch)


def test_the_commands_do_what_the_page_says(page: Session) -> None:
    page.check_commands()
    failed = [page.done[name].err for name, command in PAGE.commands.items() if command.code]
    assert all(line.startswith("emseg: ") for err in failed for line in err.splitlines())
    records = json.loads((page.folder / "sample_A.json").read_text())
    shapes = {record["key"]: record["shape"] for record in records}
    assert shapes == {"volumes/raw": [*SHAPE], "volumes/labels/neuron_ids": [*SHAPE]}
    begun = read_checkpoint(page.checkpoint(PRETRAINED))
    assert begun["emseg"]["objective"]["strategy"] == "random"
    (record,) = page.done["test"].records
    assert [*record["volumes"]][3:] == ["mean"]
    assert {"voi_sum", "adapted_rand_skimage"} < {*record["volumes"]["mean"]}


def test_the_synthetic_volumes_suit_the_recipe_as_it_is() -> None:
    folder = REPOSITORY / "tutorials" / "dbmim"
    data = load(folder / "finetune.yaml", mode="train", overrides=()).root.data
    depth, patch = layouts.SHAPES["dbmim"][0], data.dataloader.patch_size
    first, last = data.split_val_range
    assert round(last * depth) - round(first * depth) >= patch[0]
    assert min(layouts.SHAPES["dbmim"][1:]) >= patch[1]


def test_every_row_of_the_grid_is_written(page: Session) -> None:
    folder = page.done["sweep"].results
    with (folder / "cremi_segmentation_metrics.csv").open() as file:
        table = list(csv.DictReader(file))
    summary = json.loads((folder / "cremi_segmentation_summary.json").read_text())
    groups = summary["per_backend_threshold"]
    assert len(table) == 3 * 3 * 5 and [mean["n"] for mean in groups] == [3] * 3 * 5
    assert len(summary["affinity_records"]) == 3 * 3 and len(summary["per_threshold"]) == 5
    least = min(mean["voi_sum"] for mean in groups)
    assert summary["best_by_voi_sum"]["voi_sum"] == least


def test_the_tuned_choice_is_reported_beside_the_best(page: Session) -> None:
    folder = page.done["sweep tuned"].results
    summary = json.loads((folder / "cremi_segmentation_summary.json").read_text())
    tuned, decoding = summary["configured"], summary["decoding"]
    assert tuned["threshold"] == decoding["thresholds"]
    biases = [tuned[f"calibration_bias_{axis}"] for axis in "zyx"]
    assert biases == decoding["biases"]
    assert tuned["voi_sum"] >= summary["best_by_voi_sum"]["voi_sum"]
    # The same choice, tested: the second command of the section.
    (mean,) = [
        record["volumes"]["mean"]
        for record in page.done["tuned"].records
        if all(
            (one["decoding"]["biases"], one["decoding"]["thresholds"])
            == (biases, tuned["threshold"])
            for one in record["segmentations"].values()
        )
    ]
    assert tuned["voi_sum"] == pytest.approx(mean["voi_sum"])


def test_blocks_give_the_numbers_of_the_sweep(
    page: Session, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(page.folder)
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    lines = [line for block in fences(PAGE.text, "sh") for line in block.splitlines()]
    (command,) = [line for line in lines if "benchmarks/blockwise.py" in line]
    words = [page.filled(word) for word in command.split()[2:]]
    blockwise = importlib.import_module("blockwise")
    blocks = ["--chunk", "4", "20", "48", "--seam", "1", "4", "4"]
    blockwise.main(PAGE.shortened([*words, *blocks]))
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["equal"] is True
    (results,) = page.runs()[-1].glob("results_step=*")
    summary, swept = (
        json.loads((results / f"{name}_summary.json").read_text())
        for name in ("blockwise_scale", "cremi_segmentation")
    )
    assert len(summary["per_group"]) == 3 * 5 * 2 * 3  # combinations, ways and regions
    for name in ("voi_sum", "adapted_rand"):
        best, score = summary[f"best_full_by_{name}"], name.replace("rand", "rand_error")
        assert best[score] == swept[f"best_by_{name}"][score]
