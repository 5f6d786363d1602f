"""What travels: the wheel with its choices and tutorials, and the recipes of the justfile."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PROGRAMS = Path(sys.executable).parent
# What the wheel is made of; a copy is built, so that nothing is left in the checkout.
PACKAGED = ("pyproject.toml", "README.md", "LICENSE", "src", "conf", "tutorials")
# A value for each parameter of a recipe.
ARGUMENTS = {
    "name": "demo",
    "config": "tutorials/demo.yaml",
    "checkpoint": "outputs/demo/1/checkpoints/last.ckpt",
    "overrides": "system.seed=1",
    "arguments": "-q",
}


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's contents, built from a copy of the tracked folders."""
    copy, out = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("wheel")
    for name in PACKAGED:
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, copy)
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out / "dist")]
    run(build, cwd=copy)
    (wheel,) = (out / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(out / "site")
    return out / "site"


def run(command: list[str], *, cwd: Path, **environment: str) -> str:
    """What the command prints on standard output; the test fails with its errors if it does."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def just(*words: str, cwd: Path = REPOSITORY, first: Path = PROGRAMS) -> str:
    """What `just` prints, asked in the folder `cwd`; programs are looked for in `first`."""
    found = shutil.which("just", path=str(PROGRAMS)) or shutil.which("just")
    assert found, "just comes with the test extra"
    path = os.pathsep.join([str(first), str(PROGRAMS), os.environ["PATH"]])
    return run([found, "--justfile", str(REPOSITORY / "justfile"), *words], cwd=cwd, PATH=path)


@pytest.mark.parametrize("folder", ["conf", "tutorials"])
def test_the_wheel_holds_every_choice_and_tutorial(unpacked: Path, folder: str) -> None:
    def listed(root: Path) -> set[str]:
        return {file.relative_to(root).as_posix() for file in root.rglob("*.yaml")}

    assert listed(unpacked / "emseg" / folder) == listed(REPOSITORY / folder) != set()


def test_the_wheel_holds_every_module_and_nothing_beside(unpacked: Path) -> None:
    package = REPOSITORY / "src" / "emseg"
    modules = {file.relative_to(package) for file in package.rglob("*.py")}
    inside = {file.relative_to(unpacked / "emseg") for file in unpacked.rglob("emseg/**/*.py")}
    assert inside == modules
    top = {path.name.partition("-")[0] for path in unpacked.iterdir()}
    assert top == {"emseg"}


def test_the_wheel_finds_its_folders_and_composes_away_from_the_checkout(
    unpacked: Path, tmp_path: Path
) -> None:
    code = """
import emseg, json
from emseg.cli import main
from emseg.config.choices import conf_folder, tutorials_folder
demo = tutorials_folder() / "demo.yaml"
assert main(["--config", str(demo), "--print-config"]) == 0
print(json.dumps([emseg.__file__, str(conf_folder()), str(tutorials_folder())]))
"""
    printed = run([sys.executable, "-c", code], cwd=tmp_path, PYTHONPATH=str(unpacked))
    package = unpacked / "emseg"
    places = [package / "__init__.py", package / "conf", package / "tutorials"]
    assert json.loads(printed.splitlines()[-1]) == [str(place) for place in places]
    assert "experiment_name: demo" in printed


def test_the_metadata_says_what_to_install(unpacked: Path) -> None:
    (metadata,) = unpacked.glob("emseg-*.dist-info/METADATA")
    (entry,) = unpacked.glob("emseg-*.dist-info/entry_points.txt")
    assert "Requires-Python: >=3.11" in metadata.read_text()
    assert "Provides-Extra: test" in metadata.read_text()
    assert "emseg = emseg.cli:main" in entry.read_text()


def test_every_recipe_is_listed_with_a_word_on_it_and_runs_dry() -> None:
    recipes = json.loads(just("--dump", "--dump-format", "json"))["recipes"]
    assert {"setup", "demo", "test", "lint", "bench", "tensorboard", "train", "eval"} <= set(
        recipes
    )
    listed = just("--list")
    for name, recipe in recipes.items():
        words = [ARGUMENTS[parameter["name"]] for parameter in recipe["parameters"]]
        just("--dry-run", name, *words)
        assert recipe["doc"] and recipe["doc"] in listed


def test_the_tensorboard_recipe_finds_the_experiment_of_the_folder_it_is_called_in(
    tmp_path: Path,
) -> None:
    from tensorboard.summary import Writer

    run_folder = tmp_path / "outputs" / "my experiment" / "20260101_000000"
    writer = Writer(str(run_folder / "tensorboard"))
    writer.add_scalar("train_loss_total_epoch", 0.5, step=7)
    writer.close()
    printed = just("tensorboard", "my experiment", "--inspect", cwd=tmp_path)
    assert "outputs/my experiment/20260101_000000/tensorboard" in printed
    assert "train_loss_total_epoch" in printed


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["train", "a b.yaml", "x=[6, 9]"], ["--config", "a b.yaml", "x=[6, 9]"]),
        (
            ["eval", "a.yaml", "c d.ckpt", "x=[6, 9]"],
            ["--mode", "test", "--config", "a.yaml", "--checkpoint", "c d.ckpt", "x=[6, 9]"],
        ),
        (
            ["tune", "a.yaml", "c.ckpt"],
            ["--mode", "tune", "--config", "a.yaml", "--checkpoint", "c.ckpt"],
        ),
    ],
)
def test_recipes_hand_every_word_on_whole_in_the_callers_folder(
    tmp_path: Path, words: list[str], expected: list[str]
) -> None:
    stand_in = tmp_path / "programs" / "emseg"
    stand_in.parent.mkdir()
    stand_in.write_text('#!/bin/sh\npwd\nprintf "%s\\n" "$@"\n')
    stand_in.chmod(0o755)
    folder = tmp_path / "here"
    folder.mkdir()
    printed = just(*words, cwd=folder, first=stand_in.parent)
    assert printed.splitlines() == [str(folder), *expected]
