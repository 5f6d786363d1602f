"""The published weights, from a stand-in for the library of the Hugging Face hub."""

import sys
from pathlib import Path
from types import ModuleType

import pytest

from emseg.cli import main
from emseg.config import load
from emseg.config.choices import tutorials_folder
from emseg.datasets import weights

FOLDER = Path("datasets/dbmim/weights")
SERVED = {f"weights/{name}": name.encode() for name in weights.FILES}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def hub(monkeypatch):
    """A hub with these files, which breaks off after `most` of them with `error`."""
    module = ModuleType("huggingface_hub")
    module.files, module.most, module.error, module.asked = dict(SERVED), 99, None, []

    def snapshot_download(*, repo_id, local_dir, allow_patterns):
        module.asked.append((repo_id, allow_patterns))
        sent = 0
        for name, body in module.files.items():
            path = Path(local_dir) / name
            if path.exists():
                continue
            if sent == module.most:
                break
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(body)
            sent += 1
        if module.error is not None:
            raise module.error
        return local_dir

    module.snapshot_download = snapshot_download
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    return module


def there(folder=FOLDER):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def whole(*more):
    return {*weights.FILES, *(f"{name}.sha256" for name in weights.FILES), *more}


def last_line(capsys):
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("emseg: ")
    return lines[-1]


def test_the_weights_come_to_where_the_tutorials_look(hub, capsys):
    hub.files["weights/README.md"] = b"and a word on them"
    assert main(["download", "dbmim-weights"]) == 0
    assert hub.asked == [("cyd0806/dbmim-neuron-segmentation", ["weights/**"])]
    assert there() == whole("README.md")
    told = capsys.readouterr().err
    assert all(f"{FOLDER / name}: SHA-256 " in told for name in weights.FILES)
    for recipe, kind in (("r17", "publicem_dbmim_r17"), ("r33", "fullem_mixedmask_dbmim_r33")):
        path = tutorials_folder() / "dbmim" / f"finetune_{recipe}.yaml"
        source = Path(load(path, mode="train", overrides=()).root.model["init_from"])
        assert source == FOLDER / kind / "pretrained_latest.pt"
        assert source.read_bytes() == f"{kind}/pretrained_latest.pt".encode()
        assert recipe != "r17" or f"model.init_from={source}" in told


def test_what_is_there_is_compared_with_its_record_and_not_fetched_again(hub, capsys):
    assert main(["download", "dbmim-weights", "mine"]) == 0
    assert main(["download", "dbmim-weights", "mine"]) == 0
    assert len(hub.asked) == 1 and there(Path("mine")) == whole()
    (Path("mine") / weights.FILES[1]).write_bytes(b"other")
    assert main(["download", "dbmim-weights", "mine"]) == 2
    line = last_line(capsys)
    assert weights.FILES[1] in line and "an earlier one had" in line


def test_what_broke_off_is_none_of_the_weights_and_is_gone_on_with(hub, capsys):
    hub.most, hub.error = 1, ConnectionError("no route\nto host")
    assert main(["download", "dbmim-weights"]) == 2
    line = last_line(capsys)
    assert "ConnectionError: no route to host" in line and "goes on from what came" in line
    assert there() == {f"weights.partial/weights/{weights.FILES[0]}"}
    # Offline it hands back what is there, without an error.
    hub.most, hub.error = 0, None
    assert main(["download", "dbmim-weights"]) == 2
    line = last_line(capsys)
    assert f"gave no {', '.join(weights.FILES[1:])}, but {weights.FILES[0]}" in line
    hub.most = 99
    assert main(["download", "dbmim-weights"]) == 0
    assert there() == whole()


def test_a_weight_that_was_there_is_kept(hub):
    kept = FOLDER / weights.FILES[2]
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"mine")
    assert main(["download", "dbmim-weights"]) == 0
    assert kept.read_bytes() == b"mine" and there() == whole()


def test_without_the_extra_the_command_that_installs_it_is_told(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert main(["download", "dbmim-weights"]) == 2
    assert "extra 'hub': pip install huggingface-hub" in last_line(capsys)
    assert there() == set()


def test_a_hash_is_for_one_archive(hub, capsys):
    assert main(["download", "dbmim-weights", "--sha256", "0" * 64]) == 2
    assert "--sha256 is for one archive" in last_line(capsys) and not hub.asked


def test_the_gated_volumes_are_fetched_by_hand_with_the_command_told(capsys):
    assert main(["download", "full-em", "my data"]) == 2
    line = last_line(capsys)
    assert "https://huggingface.co/datasets/cyd0806/EM_pretrain_data" in line
    assert "hf download cyd0806/EM_pretrain_data --repo-type dataset" in line
    assert "fafb, fib25, kasthuri, mitoem or mb_moc" in line
    assert "--local-dir 'my data'" in line and not Path("my data").exists()
