"""The SSNS-Net page: every command of docs/ssns.md in its order, on small synthetic volumes."""

from itertools import pairwise

import pytest
import torch

from emseg.config import load
from emseg.config.choices import tutorials_folder
from emseg.inference.windows import window_grid
from emseg.synthetic import layouts
from emseg.training.checkpoints import net_weights, read_checkpoint
from stages.page import Session, count_stages, mode_of
from test_docs import REPOSITORY, commands

PAGE = (REPOSITORY / "docs" / "ssns.md").read_text()
PRETRAINED, NAME = "ssns_pretraining_snemi3d", "ssns_ac3_d5_u200_ws"
SECTIONS = (
    "data.unlabelled.ac3.range=[12,18] data.train.range=[0,3] test.data.test.range=[18,24] "
    "tune.data.test.range=[0,6]"
)

SMALL = (
    "model.width=[4,4,6,6,8] data.dataloader.patch_size=[4,32,32] data.dataloader.batch_size=1 "
    "system=cpu system.num_workers=0 optimization.max_steps=2 optimization.n_steps_per_epoch=2 "
    "monitor.checkpoint.every_n_steps=null monitor.logging.images.n_images=1 "
    "inference.pad=[1,4,4] tune.n_trials=2"
)


def key_of(words: list[str]) -> str:
    """The mode and the tutorial, or the verb."""
    if words[0] != "--config":
        return words[0]
    last = words[-1] if words[-1].startswith("decoding=") else ""
    name = words[1].removeprefix("tutorials/ssns/").removesuffix(".yaml")
    return " ".join(filter(None, (mode_of(words), name, last)))


def small(words: list[str]) -> list[str]:
    """The words, and what makes them small."""
    if words[0] == "synth":
        return words
    more = SMALL.split()
    if "pretraining" in words[1]:
        return [*words, *more, "data.train.ac3.range=[12,18]"]
    return [*words, *more, *SECTIONS.split()]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Session:
    """Every command of the page, done in its order."""
    session = Session(tmp_path_factory.mktemp("page"), NAME, small)
    (session.folder / "tutorials").symlink_to(REPOSITORY / "tutorials")
    worked: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(session.folder)
        patch.setitem(layouts.SHAPES, "ac3ac4", (24, 80, 80))
        for volume in layouts.AC3AC4_SECTIONS:
            patch.setitem(layouts.AC3AC4_SECTIONS, volume, 12)
        count_stages(patch, worked, scorer="count_overlaps")
        for words in commands(PAGE):
            session.done[key_of(words)] = session.follow(words, worked)
    return session


def test_the_page_has_these_commands_and_no_other(page: Session) -> None:
    assert [*page.done] == [
        "synth",
        "train pretraining_snemi3d",
        "train seg_ac3_d5_u200_ws",
        "train seg_ac3_d5_u200_ema",
        "infer seg_ac3_d5_u200_ws",
        "tune seg_ac3_d5_u200_ws",
        "test seg_ac3_d5_u200_ws decoding=waterz",
        "test seg_ac3_d5_u200_ws decoding=multicut",
    ]


@pytest.mark.parametrize("kind", ["ws", "ema"])
def test_the_encoder_is_taken_from_the_pretraining(page: Session, kind: str) -> None:
    assert "tensors are those of" in page.done[f"train seg_ac3_d5_u200_{kind}"].err
    (begun,) = (page.folder / "outputs" / PRETRAINED).glob("*/checkpoints/last.ckpt")
    assert read_checkpoint(begun)["emseg"]["objective"]["_target_"].endswith("Reconstruction")


def test_the_teacher_is_what_is_kept(page: Session) -> None:
    (path,) = (page.folder / "outputs" / "ssns_ac3_d5_u200_ema").glob("*/checkpoints/last.ckpt")
    stored = read_checkpoint(path)
    state, kept = stored["state_dict"], net_weights(stored)
    assert all(torch.equal(value, state[f"teacher.{name}"]) for name, value in kept.items())
    assert any(not torch.equal(value, state[f"net.{name}"]) for name, value in kept.items())
    (shared,) = (page.folder / "outputs" / NAME).glob("*/checkpoints/last.ckpt")
    assert not any(name.startswith("teacher.") for name in read_checkpoint(shared)["state_dict"])


def test_one_prediction_is_decoded_by_both_on_tissue_that_was_not_seen(page: Session) -> None:
    assert page.done["infer seg_ac3_d5_u200_ws"].worked == ["infer"]
    for decoder in ("waterz", "multicut"):
        done = page.done[f"test seg_ac3_d5_u200_ws decoding={decoder}"]
        assert done.worked == ["decode", "evaluate"]
        assert "was seen in training" not in done.err and "was trained on" not in done.err
        assert {"voi_sum", "adapted_rand"} <= {*[*done.records.values()][-1]["volumes"]["ac3"]}
    assert len(done.records) == 2


def regions(root, split):
    """Sections of each file, as the config says."""
    return {
        (volume.image, section)
        for volume in getattr(root.data, split).values()
        for section in range(*map(int, volume.range or (0, 100)))
    }


@pytest.mark.parametrize("path", sorted((tutorials_folder() / "ssns").glob("seg_*.yaml")))
def test_rows_have_the_sections_that_their_names_say(path) -> None:
    train = load(path, mode="train", overrides=()).root
    test = load(path, mode="test", overrides=()).root
    labelled, unlabelled = regions(train, "train"), regions(train, "unlabelled")
    words = path.stem.split("_")
    assert len(labelled) == int(next(word for word in words if word[0] == "d")[1:])
    asked = next((word for word in words if word[0] == "u"), "u0")
    assert len(unlabelled) == int(asked[1:])
    assert len(regions(test, "test")) == 50
    transductive = bool(regions(test, "test") & unlabelled)
    assert transductive == ("compat" in words)
    assert not regions(test, "test") & labelled
    tuned = load(path, mode="tune", overrides=()).root
    assert not regions(tuned, "test") & (regions(test, "test") | labelled)


def test_windows_step_as_published() -> None:
    root = load(tutorials_folder() / "ssns" / "seg_ac3_d5.yaml", mode="test", overrides=()).root
    inference, patch = root.inference, root.data.dataloader.patch_size
    window = inference.window
    grid = window_grid(
        (50, 1024, 1024), window_size=patch, overlap=window.overlap, pad=inference.pad
    )
    steps = [{b - a for a, b in pairwise(starts)} for starts in grid.starts]
    assert steps == [{10}, {80}, {80}] and [starts[0] for starts in grid.starts] == [-14, -48, -48]
    assert window.blending == "gaussian" and window.padding_mode == "reflect"
