"""What the documents say is so: commands reach their stage, YAML composes, links and keys exist."""

import inspect
import re
import shlex
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

from emseg import cli, stages
from emseg.config import check_targets, dump, load
from emseg.config.choices import conf_folder, list_groups
from emseg.config.schema import Root, System
from emseg.config.schema_data import VolumeConfig as Volume

REPOSITORY = Path(__file__).resolve().parents[1]
TOP = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
DOCUMENTS = {
    file.stem: file.read_text()
    for file in [*(REPOSITORY / name for name in TOP), *sorted((REPOSITORY / "docs").glob("*.md"))]
}
OPENING = """# emseg

```sh
pip install -c constraints.txt -e . && python scripts/main.py demo
pip install -c constraints.txt -e ".[test]" && pytest
```
"""
# What "…" after --config stands for.
USUAL = "tutorials/demo.yaml"
# What is needed beside a lone section of a tutorial.
BESIDE: dict[str, Any] = {
    "experiment_name": "section",
    "data": {"train": {"image": "a.h5", "label": "b.h5"}, "test": {"image": "a.h5"}},
    "optimization": {"max_epochs": 1},
}
STOPS_BEFORE = {"plan", "--check", "--print-config"}
# tests/stages/test_*_page.py do every command of these.
FOLLOWED = ("snemi3d", "cremi_cleft", "nisb", "dbmim", "ssns")
GROUPS = list_groups([conf_folder()])
SPLITS = ("train", "val", "test")


def fences(text: str, language: str) -> list[str]:
    """The bodies of a document's fenced blocks in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def prose(text: str) -> str:
    """The document without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def inline(text: str) -> list[str]:
    """The pieces of code between single backticks."""
    return re.findall(r"`([^`\n]+)`", prose(text))


def commands(text: str) -> Iterator[list[str]]:
    """The words after the program's name, of each command in shell blocks and inline code."""
    lines = [line for block in fences(text, "sh") for line in block.splitlines()] + inline(text)
    for part in (part.strip() for line in lines for part in line.split("&&")):
        match = re.match(r"(?:python scripts/main\.py|emseg) (.+)", part)
        if match and match[1] != "…":
            yield shlex.split(match[1], comments=True)


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """(file, YAML) of each YAML block: the file named in its first line, or "" for a section."""
    for block in fences(text, "yaml"):
        match = re.match(r"# (\S+\.yaml)\n", block)
        yield (match[1] if match else ""), block


def links(text: str) -> list[str]:
    """The targets of links inside the repository."""
    return [link for link in re.findall(r"\]\(([^)\s]+)\)", prose(text)) if "://" not in link]


def anchors(text: str) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def files(text: str) -> list[str]:
    """What inline code names as a file or folder of the repository."""
    folders = {path.name for path in REPOSITORY.iterdir() if path.is_dir()}
    folders |= {path.name for path in (REPOSITORY / "src" / "emseg").iterdir()}
    folders -= {"outputs", "datasets"}  # the user's own
    named = [code for code in inline(text) if re.fullmatch(r"[\w.-]+(/[\w.-]*)+", code)]
    return [code for code in named if code.split("/")[0] in folders and code not in GROUPS]


def unknown_keys(text: str, known: set[str]) -> list[str]:
    """The dotted keys in inline code that no config has."""
    roots = {item.name for item in fields(Root)}
    keys = (re.match(r"(\w+(?:\.\w+)+)(?:=|$)", code) for code in inline(text))
    dotted = [re.sub(r"\.\d+$", "", match[1]) for match in keys if match]
    return [key for key in dotted if key.split(".")[0] in roots and key not in known]


def unknown_choices(text: str) -> list[str]:
    """Switches of a group in inline code to a choice that is not shipped."""
    switches = (re.fullmatch(r"([\w/]+)=(\w+)", code) for code in inline(text))
    found = [match for match in switches if match and match[1] in GROUPS]
    return [match[0] for match in found if match[2] not in GROUPS[match[1]]]


def _each(found: Callable[[str], Iterable[Any]], *, without: tuple[str, ...] = ()) -> list[Any]:
    return [
        pytest.param(item, id=f"{name}-{number}")
        for name, text in DOCUMENTS.items()
        for number, item in enumerate(found(text))
        if name not in without
    ]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to give commands in, with the tutorials and the files that the documents show."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tutorials").symlink_to(REPOSITORY / "tutorials")
    for name, block in (pair for text in DOCUMENTS.values() for pair in blocks(text)):
        if name:
            _write(tmp_path / name, block)
    return tmp_path


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The modes and verbs that were reached; nothing of them is run."""
    reached: list[str] = []
    monkeypatch.setattr(stages, "run", lambda loaded, mode, **rest: reached.append(mode))
    monkeypatch.setattr(stages, "check", lambda loaded, mode, **rest: [])  # there are no volumes
    for verb, (module, *_) in cli.VERBS.items():
        signature = inspect.signature(getattr(import_module(module), verb))

        def stand_in(
            *words: str, verb: str = verb, signature: Any = signature, **flags: str
        ) -> None:
            signature.bind(*words, **flags)
            reached.append(verb)

        monkeypatch.setattr(f"{module}.{verb}", stand_in)
    return reached


def prepare(words: list[str], desk: Path) -> list[str]:
    """The command with "…" filled in; the files of a run that it speaks of are there."""
    words = [USUAL if word == "…" else word for word in words]
    for flag, value in zip(words, words[1:], strict=False):
        path = desk / value
        if flag in ("--checkpoint", "--input"):
            _write(path, "")
        elif flag == "--config" and value.startswith("outputs/"):
            _write(path, dump(load(desk / USUAL, mode="train", overrides=[]).saved))
        elif flag == "--conf" and value.startswith("outputs/"):
            (choice,) = [word.partition("=")[2] for word in words if word.startswith("decoding=")]
            (path / "decoding").mkdir(parents=True)
            found = conf_folder() / "decoding" / "agglomerate.yaml"
            shutil.copy(found, path / "decoding" / f"{choice}.yaml")
    return words


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_the_readme_opens_with_the_two_commands() -> None:
    assert DOCUMENTS["README"].startswith(OPENING)


@pytest.mark.parametrize("words", _each(commands, without=FOLLOWED))
def test_a_command_reaches_its_stage(
    words: list[str], desk: Path, started: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    words = prepare(words, desk)
    assert cli.main(words) == 0, capsys.readouterr().err
    assert len(started) == (0 if STOPS_BEFORE & set(words) else 1)


@pytest.mark.parametrize("block", _each(blocks))
def test_a_yaml_block_composes(block: tuple[str, str], desk: Path) -> None:
    name, text = block
    if "/" in name:  # a choice: the command below it uses it
        return
    body = yaml.safe_load(text)
    config = desk / (name or "section.yaml")
    config.write_text(yaml.safe_dump(body if name else BESIDE | body))
    loaded = load(config, mode="train", overrides=[])
    if name:
        check_targets(loaded, "train")
        check_targets(loaded, "test")


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_files_keys_and_choices_exist(name: str, known_keys: set[str]) -> None:
    text = DOCUMENTS[name]
    folder = REPOSITORY if f"{name}.md" in TOP else REPOSITORY / "docs"
    for link in links(text):
        file, _, anchor = link.partition("#")
        assert (folder / file).is_file(), link
        assert not anchor or anchor in anchors(DOCUMENTS[Path(file).stem or name]), link
    roots = (REPOSITORY, REPOSITORY / "src" / "emseg")
    assert [file for file in files(text) if not any((at / file).exists() for at in roots)] == []
    assert unknown_keys(text, known_keys) == []
    assert unknown_choices(text) == []


@pytest.fixture(scope="module")
def known_keys(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Every dotted key of a config, with the arguments of each decoder."""
    config = tmp_path_factory.mktemp("keys") / "section.yaml"
    config.write_text(yaml.safe_dump(BESIDE))
    volumes = {"data": {split: dict.fromkeys(f.name for f in fields(Volume)) for split in SPLITS}}
    trees = [volumes, {"system": dict.fromkeys(f.name for f in fields(System))}]
    for choice in GROUPS["decoding"]:
        trees.append(load(config, mode="train", overrides=[f"decoding={choice}"]).saved)
    return {key for tree in trees for key in _dotted(tree, ())}


def _dotted(node: dict[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    for key, value in node.items():
        yield ".".join((*path, key))
        if isinstance(value, dict):
            yield from _dotted(value, (*path, key))


# The teeth: what is wrong in a small document is found.


@pytest.mark.parametrize(
    "command",
    [
        "emseg --config … modle=rsunet",
        "emseg --config … --mode test",
        "emseg --config nowhere.yaml",
        "python scripts/main.py demos",
    ],
)
def test_a_wrong_command_is_found(command: str, desk: Path, started: list[str]) -> None:
    for text in (f"```sh\n{command}\n```\n", f"Say `{command}` to it."):
        (words,) = commands(text)
        assert cli.main(prepare(words, desk)) == 2
    assert started == []


def test_a_wrong_mention_is_found(known_keys: set[str]) -> None:
    text = (
        "See [a](gone.md#x), `docs/gone.md`, `data.pad_smal`, `model=gone`, `decoding.threshold`."
    )
    assert links(text) == ["gone.md#x"]
    assert files(text) == ["docs/gone.md"]
    assert unknown_keys(text, known_keys) == ["data.pad_smal"]
    assert unknown_choices(text) == ["model=gone"]
    assert anchors("## 0, -1 and `what`\n") == {"0--1-and-what"}
