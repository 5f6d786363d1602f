"""The SSNS-Net page: every command of docs/ssns.md in its order, on small synthetic volumes."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch

from emseg.config import load
from emseg.config.choices import tutorials_folder
from emseg.config.schema import Root
from emseg.inference.settings import Settings
from emseg.inference.windows import window_grid
from emseg.synthetic import layouts
from emseg.training.checkpoints import net_weights, read_checkpoint
from stages.page import Command, Page, Session

FOLDER = tutorials_folder() / "ssns"
PRETRAINED, SHARED, TEACHER = "pretraining_snemi3d", "seg_ac3_d5_u200_ws", "seg_ac3_d5_u200_ema"
FROM = f"model.init_from=outputs/ssns_{PRETRAINED}/<timestamp>/checkpoints/last.ckpt"
TAKEN = ("tensors are those of",)
# What is tested was not seen in training.
UNSEEN = {"worked": ["decode", "evaluate"], "never": ("was seen in training", "was trained on")}
PAGE = Page(
    "ssns",
    "ssns_ac3_d5_u200_ws",
    {
        "synth": Command("synth ac3ac4 datasets/ssns"),
        "pretrain": Command(f"train {PRETRAINED}"),
        "shared": Command(f"train {SHARED} {FROM}", says=TAKEN),
        "teacher": Command(f"train {TEACHER} {FROM}", says=TAKEN),
        "infer": Command(f"infer {SHARED}", worked=["infer"]),
        "tune": Command(f"tune {SHARED}"),
        "waterz": Command(f"test {SHARED} decoding=waterz", **UNSEEN),
        "multicut": Command(f"test {SHARED} decoding=multicut", **UNSEEN),
    },
    small={
        "": "model.width=[4,4,6,6,8] data.dataloader.patch_size=[4,32,32] "
        "data.dataloader.batch_size=1 system=cpu system.num_workers=0 optimization.max_steps=2 "
        "optimization.n_steps_per_epoch=2 monitor.checkpoint.every_n_steps=null "
        "monitor.logging.images.n_images=1 inference.pad=[1,4,4] tune.n_trials=2",
        f"^train {PRETRAINED}": "data.train.ac3.range=[12,18]",
        "seg_ac3": "data.unlabelled.ac3.range=[12,18] data.train.range=[0,3] "
        "test.data.test.range=[18,24] tune.data.test.range=[0,6]",
    },
)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Session:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(layouts.SHAPES, "ac3ac4", (24, 80, 80))
        for volume in layouts.AC3AC4_SECTIONS:
            patch.setitem(layouts.AC3AC4_SECTIONS, volume, 12)
        return Session(PAGE, tmp_path_factory.mktemp("page")).follow(patch)


def test_the_commands_do_what_the_page_says(page: Session) -> None:
    page.check_commands()
    begun = read_checkpoint(page.checkpoint(f"ssns_{PRETRAINED}"))
    assert begun["emseg"]["objective"]["_target_"].endswith("Reconstruction")
    for name in ("waterz", "multicut"):
        records = page.done[name].records
        assert {"voi_sum", "adapted_rand"} <= {*records[-1]["volumes"]["ac3"]}
    assert len(records) == 2


def test_the_teacher_is_what_is_saved(page: Session) -> None:
    stored = read_checkpoint(page.checkpoint("ssns_ac3_d5_u200_ema"))
    state, kept = stored["state_dict"], net_weights(stored)
    assert all(torch.equal(value, state[f"teacher.{name}"]) for name, value in kept.items())
    assert any(not torch.equal(value, state[f"net.{name}"]) for name, value in kept.items())
    shared = read_checkpoint(page.checkpoint())["state_dict"]
    assert not any(name.startswith("teacher.") for name in shared)


def regions(root: Root, split: str) -> set[tuple[str, int]]:
    """Sections of each file, as the config says."""
    return {
        (volume.image, section)
        for volume in getattr(root.data, split).values()
        for section in range(*map(int, volume.range or (0, 100)))
    }


@pytest.mark.parametrize("path", sorted(FOLDER.glob("seg_*.yaml")), ids=lambda path: path.stem)
def test_rows_have_the_sections_that_their_names_say(path: Path) -> None:
    train, test, tuned = (load(path, mode=mode, overrides=()).root for mode in MODES)
    labelled, unlabelled = regions(train, "train"), regions(train, "unlabelled")
    counts = {word[0]: int(word[1:]) for word in path.stem.split("_") if word[1:].isdigit()}
    assert (len(labelled), len(unlabelled)) == (counts["d"], counts.get("u", 0))
    tested = regions(test, "test")
    assert len(tested) == 50 and not tested & labelled
    assert bool(tested & unlabelled) == ("compat" in path.stem)
    assert not regions(tuned, "test") & (tested | labelled)


MODES = ("train", "test", "tune")


def test_windows_step_as_published() -> None:
    root = load(FOLDER / "seg_ac3_d5.yaml", mode="test", overrides=()).root
    inference, patch = root.inference, root.data.dataloader.patch_size
    window = inference.window
    settings = Settings(
        window_size=patch,
        overlap=window.overlap,
        pad=inference.pad,
        offsets=((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    )
    grid = window_grid((50, 1024, 1024), settings)
    steps = [{b - a for a, b in pairwise(starts)} for starts in grid.starts]
    assert steps == [{10}, {80}, {80}] and [starts[0] for starts in grid.starts] == [-14, -48, -48]
    assert window.blending == "gaussian" and window.padding_mode == "reflect"
