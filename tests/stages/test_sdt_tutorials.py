"""The SNEMI3D tutorials with several heads, cut down: from training to a score."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

import emseg
from emseg.config.choices import tutorials_folder
from emseg.data.target_facts import TargetFacts
from emseg.data.targets import Affinity
from emseg.training.checkpoints import read_checkpoint
from emseg.volumes import open_volume, write_volume
from stages.tiny_tutorial import SmallTutorial, cells

SHAPE = (12, 24, 24)
OFFSETS = [[length * (axis == at) for axis in range(3)] for length in (1, 5, 9) for at in (2, 1, 0)]
HEADS = {
    "neuron_snemi_sdt": {"aff": [0, 9], "sdt": [9, 10]},
    "neuron_snemi_sdt_multitask": {
        "aff_r1": [0, 3],
        "aff_r5": [3, 6],
        "aff_r9": [6, 9],
        "sdt": [9, 10],
    },
}
SMALL = (
    "system=cpu",
    "system.num_workers=0",
    "augment=none",
    "model.width=[4,6]",
    "model.down_factors=[[1,2,2]]",
    "data.dataloader.patch_size=[10,16,16]",
    "data.dataloader.batch_size=1",
    "optimization.max_steps=2",
    "optimization.n_steps_per_epoch=2",
    "optimization.precision=32-true",
    "optimization.scheduler.warmup_epochs=0.5",
    "optimization.optimizer.lr=0.01",
    "inference.window.window_size=[10,16,16]",
    "inference.window.overlap=0",
    "inference.pad=[1,9,2]",
    "inference.crop_pad=[0,1,0,9,2,2]",
    "decoding.dust_remove_size=0",
    "monitor.logging.images.n_images=1",
)


@pytest.fixture(scope="module")
def patch():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module", params=HEADS)
def trained(request, tmp_path_factory, patch) -> SmallTutorial:
    folder = tmp_path_factory.mktemp(request.param)
    _write_volumes(folder / "datasets" / "SNEMI")
    patch.chdir(folder)
    tutorial = SmallTutorial(tutorials_folder() / "neuron_snemi" / f"{request.param}.yaml", SMALL)
    assert tutorial.emseg("train") == 0
    return tutorial


def _write_volumes(data: Path) -> None:
    data.mkdir(parents=True)
    for seed, split in enumerate(("train", "test")):
        raw, labels = cells(SHAPE, seed=seed)
        tifffile.imwrite(data / f"{split}-input.tif", raw)
        if split == "train":
            tifffile.imwrite(data / "train-labels.tif", labels.astype(np.uint16))
        else:
            place = {"axes": "zyx", "voxel_size": (30, 6, 6), "attributes": {}}
            write_volume(data / "test-labels.h5", labels, **place)


def test_training_stores_its_heads_and_learns_their_weights(trained):
    stored = read_checkpoint(trained.checkpoint)
    assert stored["emseg"]["heads"] == HEADS[trained.name]
    assert stored["emseg"]["activations"] == ["sigmoid"] * 9 + ["tanh"]
    learned = {n: float(v) for n, v in stored["state_dict"].items() if n.startswith("loss.")}
    assert list(learned) == [f"loss.log_variance.{name}" for name in HEADS[trained.name]]
    assert all(learned.values())
    own = {name.split(".")[3] for name in stored["state_dict"] if name.startswith("net.heads.0")}
    assert own == (HEADS[trained.name].keys() if "multitask" in trained.name else {"0", "1"})


def test_a_test_goes_from_named_channels_to_scores(trained):
    assert trained.emseg("test") == 0
    results = trained.results
    predicted = open_volume(results / "test_im_prediction.h5")
    facts = predicted.attributes
    assert facts["offsets"] == [*OFFSETS, [0, 0, 0]] and facts["edge_side"] == "destination"
    assert facts["heads"] == HEADS[trained.name]
    assert facts["activation"] == ["probability"] * 9 + ["distance"]
    assert facts["channels"][9] == "skeleton-distance"
    values = predicted[...]
    assert values.shape == (10, *SHAPE)
    assert values[:9].min() >= 0 and values.max() <= 1 and -1 <= values[9].min() < 0
    segmentation = open_volume(results / "test_im_segmentation.h5")
    assert segmentation.shape == SHAPE
    nearest = [2, 1, 0] if trained.name == "neuron_snemi_sdt" else [0, 1, 2]
    assert segmentation.attributes["select_channel"] == nearest
    assert "adapted_rand" in json.dumps(json.loads((results / "metrics.json").read_text()))
    assert (results / "overview.png").is_file()


def test_a_notebook_has_the_heads_too(trained):
    raw = open_volume("datasets/SNEMI/test-input.tif")
    prediction = emseg.load_run(trained.checkpoint).predict(raw)
    name, (first, stop) = next(iter(HEADS[trained.name].items()))
    head = prediction.head(name)
    np.testing.assert_array_equal(head.values, prediction.values[first:stop])
    assert [list(offset) for offset in head.offsets] == OFFSETS[first:stop]
    distance = prediction.head("sdt")
    assert (distance.offsets, distance.edge_side) == (None, None)
    assert distance.channels == ("skeleton-distance",) and len(distance.values) == 1
    assert prediction.nearest().channels == ("1-0-0", "0-1-0", "0-0-1")


def test_a_resumed_run_goes_on_with_what_was_learned(trained, tmp_path, monkeypatch):
    _write_volumes(tmp_path / "datasets" / "SNEMI")
    monkeypatch.chdir(tmp_path)
    longer = "optimization.max_steps=4"
    assert trained.emseg("train", longer) == 0
    whole = trained.checkpoint
    (half,) = whole.parent.glob("step=2*.ckpt")
    states = [read_checkpoint(whole)["state_dict"]]
    assert trained.emseg("train", longer, "--checkpoint", str(half)) == 0
    states.append(read_checkpoint(whole)["state_dict"])
    torch.testing.assert_close(*states, rtol=0, atol=1e-6)


@pytest.mark.parametrize("trained", ["neuron_snemi_sdt_multitask"], indirect=True)
@pytest.mark.parametrize(
    ("mode", "words", "says"),
    [
        ("test", ["inference.model.head=atf"], "unknown head of the target 'atf'"),
        ("train", ["inference.model.head=atf"], "inference.model.head"),
        ("test", ["inference.model.head=sdt"], "no offsets, which the decoder needs"),
        ("test", ["inference.model.head=sdt", "inference.model.select_channel=[0,1,2]"], "null"),
        ("test", ["inference.output_dtype=uint8"], "channel 9 is a distance"),
        ("test", ["inference.crop_pad=[0,1,3,9,2,2]"], "inference.crop_pad"),
        ("test", ["target=aff9", "inference.model.head=null", "model.separate_heads=false"], "for"),
        (
            "test",
            ["target=aff9_sdt", "inference.model.head=null", "model.separate_heads=false"],
            "was trained for target heads",
        ),
        ("train", ["loss.weighting=sum"], "its loss learned log_variance"),
        ("train", ["loss.weights={sdt: 1}"], "loss.weights must be null"),
        ("train", ["target=aff9", "inference.model.head=null"], "two heads"),
        (
            "train",
            ["loss=per_channel_bce", "target=aff3", "inference.model.head=null"],
            "two heads or more",
        ),
        ("train", ["model.deep_supervision=true"], "does not go with"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(trained, mode, words, says, capsys):
    capsys.readouterr()
    assert trained.emseg(mode, *words, "--checkpoint", str(trained.checkpoint)) == 2
    lines = capsys.readouterr().err.splitlines()
    wrong = [line for line in lines if "are dropped" not in line]
    assert len(wrong) == 1 and says in wrong[0], lines


def test_affinities_alone_say_nothing_of_heads():
    # As the files say that were written before there were heads.
    target = Affinity(offsets=[(1, 0, 0), (0, 0, 3)])
    facts = {"channels": ["1-0-0", "0-0-3"], "offsets": [[1, 0, 0], [0, 0, 3]]}
    assert TargetFacts.of(target).stored() == facts | {"edge_side": "destination"}


def test_check_stops_after_the_checks(trained, capsys):
    for mode in ("train", "test"):
        assert trained.emseg(mode, "--check") == 0
        assert "the config is valid" in capsys.readouterr().out
