"""The house rules of docs/design.md, held against the code as it is parsed, nothing imported."""

import ast
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from house import (
    FLOORS,
    MOST_LINES_OF_FUNCTION,
    Graph,
    broken_floors,
    cycle,
    imports,
    libraries,
    loads,
    long_functions,
    only_children,
    part_of,
    swallowed,
    trees,
    undocumented,
)

REPOSITORY = Path(__file__).resolve().parents[1]
SOURCE = REPOSITORY / "src"

COMPOSING = {"cli", "config", "stages"}
CONFIG_LIBRARIES = {"hydra", "omegaconf", "yaml"}
TORCH_FREE = (
    *("kernels", "volumes", "blocks", "synthetic", "decoding", "evaluation", "datasets"),
    *("errors", "faults", "progress", "stopping"),
)

MOST_LINES_OF_FILE, MOST_LINES_OF_TEST = 300, 400
NO_NAMES = {"utils", "util", "helpers", "helper", "common", "misc"}
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:work|tmp|home|root|Users)/\w")
TEXTS = {".py", ".md", ".yaml", ".toml", ".txt", ".sh"}

MODULES = trees(SOURCE)
GRAPH: Graph = {name: imports(tree, MODULES) for name, tree in MODULES.items()}


def _ours(*parts: str) -> list[str]:
    return [name for name in MODULES if part_of(name) in parts]


def test_there_are_modules_on_every_floor() -> None:
    assert {part_of(name) for name in MODULES} - {""} == {*FLOORS, "config"}


def test_packages_import_from_lower_floors_alone() -> None:
    assert broken_floors(GRAPH) == []


def test_no_module_imports_itself_round_a_corner() -> None:
    assert cycle(GRAPH) == []


def test_the_door_and_errors_bring_nothing_with_them() -> None:
    assert loads(GRAPH, "emseg") == set()
    assert loads(GRAPH, "emseg.errors") == set()
    assert loads(GRAPH, "emseg.cli") == set()


def test_only_cli_config_and_stages_compose() -> None:
    hydra = {name for name, found in GRAPH.items() if libraries(found) & {"hydra", "omegaconf"}}
    assert {part_of(name) for name in hydra} <= COMPOSING


@pytest.mark.parametrize("module", _ours("config"))
def test_config_brings_no_more_than_it_composes_with(module: str) -> None:
    assert loads(GRAPH, module) <= CONFIG_LIBRARIES


@pytest.mark.parametrize("module", _ours(*TORCH_FREE))
def test_arrays_are_decoded_and_scored_without_torch(module: str) -> None:
    assert not loads(GRAPH, module) & {"torch", "pytorch_lightning", "monai"}


@pytest.mark.parametrize("module", MODULES)
def test_module_is_short_documented_and_hides_no_error(module: str) -> None:
    tree = MODULES[module]
    assert long_functions(tree) == []
    assert undocumented(tree) == []
    assert swallowed(tree) == []


def test_no_class_waits_for_its_only_child() -> None:
    assert only_children(MODULES, REPOSITORY / "conf") == []


def _texts() -> list[Path]:
    folders = ["src", "scripts", "tests", "conf", "tutorials", "docs", "benchmarks", ".ci"]
    files = [file for folder in folders for file in (REPOSITORY / folder).rglob("*")]
    files += REPOSITORY.iterdir()
    named = {"justfile", "run", "LICENSE"}
    kept = [file for file in files if file.suffix in TEXTS or file.name in named]
    return sorted(file for file in kept if file.is_file() and "__pycache__" not in file.parts)


def test_files_are_short_and_named_for_what_is_in_them() -> None:
    python = [file for file in _texts() if file.suffix == ".py"]
    for file in python:
        most = MOST_LINES_OF_FILE if "src" in file.parts else MOST_LINES_OF_TEST
        assert len(file.read_text().splitlines()) <= most, file
    names = {part for file in python for part in (file.stem, file.parent.name)}
    assert not names & NO_NAMES


def test_no_path_of_one_machine_is_written_down() -> None:
    found = [file.name for file in _texts() if MACHINE_PATH.search(file.read_text())]
    assert found == []


# The teeth: each rule bites on a small bad example, and lets a good one pass.


def _parsed(modules: Mapping[str, str]) -> Graph:
    return {name: imports(ast.parse(text), modules) for name, text in modules.items()}


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("emseg.kernels.a", "from emseg.volumes import x"),
        ("emseg.kernels.a", "from emseg.progress import track"),
        ("emseg.errors", "from emseg.kernels import affinity"),
        ("emseg.data.a", "import emseg.models.rsunet"),
        ("emseg.training.a", "def f():\n    from emseg.inference.predict import predict"),
        ("emseg.models.a", "from emseg import stages"),
        ("emseg.training.a", "from emseg.config import build"),
        ("emseg.data.a", "from emseg import agglomerate"),
        ("emseg", "from emseg.volumes import open_volume"),
        ("emseg.config.a", "from emseg.kernels import affinity"),
    ],
)
def test_an_import_upwards_is_found(module: str, text: str) -> None:
    assert len(broken_floors(_parsed({module: text, "emseg.stages": ""}))) == 1


def test_imports_downwards_pass() -> None:
    modules = {
        "emseg": "if TYPE_CHECKING:\n    from emseg.stages import run",
        "emseg.cli": "from emseg.config import load\nfrom emseg import stages",
        "emseg.stages": "import emseg.training.ema, emseg.config\nfrom emseg import __version__",
        "emseg.config.a": "from emseg.errors import UserError\nfrom emseg.config.b import c",
    }
    assert broken_floors(_parsed(modules)) == []


def test_a_circle_is_found() -> None:
    circle = {"emseg.a": "from emseg import b", "emseg.b": "def f():\n    import emseg.a"}
    assert cycle(_parsed(circle)) != []
    circle["emseg.b"] = "if TYPE_CHECKING:\n    import emseg.a"
    assert cycle(_parsed(circle)) == []


def test_what_an_import_brings_is_followed() -> None:
    modules = {
        "emseg": "",
        "emseg.a": "import heavy",
        "emseg.a.b": "import json",
        "emseg.c": "from emseg.a.b import d\ndef f():\n    import later",
    }
    assert loads(_parsed(modules), "emseg.c") == {"heavy"}


@pytest.mark.parametrize(
    "text",
    [
        "try:\n    f()\nexcept Exception:\n    pass",
        "try:\n    f()\nexcept (OSError, BaseException) as e:\n    'never mind'",
        "try:\n    f()\nexcept:\n    raise",
        "with contextlib.suppress(Exception):\n    f()",
    ],
)
def test_a_hidden_error_is_found(text: str) -> None:
    assert len(swallowed(ast.parse(text))) == 1


def test_a_handled_error_passes() -> None:
    text = "try:\n    f()\nexcept OSError:\n    pass\nexcept Exception as e:\n    raise E from e"
    assert swallowed(ast.parse(text)) == []


def test_a_long_function_is_found_a_kernel_too() -> None:
    body = "\n".join(["    x = 1"] * MOST_LINES_OF_FUNCTION)
    assert long_functions(ast.parse(f"def f():\n{body}")) == ["f has 61 lines"]
    assert long_functions(ast.parse(f"class A:\n def f():\n{body}")) == ["f has 61 lines"]
    assert long_functions(ast.parse(f"@kernel\ndef f():\n{body}")) == ["f has 61 lines"]


def test_a_missing_docstring_is_found() -> None:
    text = '"""M."""\ndef f(): ...\nclass A: ...\ndef _g(): ...\ndef h():\n    "X."'
    assert undocumented(ast.parse(text)) == ["f", "A"]
    assert undocumented(ast.parse("x = 1")) == ["the module"]


def test_a_lonely_base_class_is_found() -> None:
    text = (
        "class Base: ...\nclass A(Base): ...\nclass Two: ...\nclass B(Two): ...\nclass C(Two): ..."
    )
    assert only_children({"a": ast.parse(text)}, REPOSITORY / "docs") == ["Base"]


def test_a_path_of_one_machine_is_found() -> None:
    for path in ("/" + "home/someone/data", "open('/" + "tmp/x')"):
        assert MACHINE_PATH.search(path)
    for path in ("src/tmp/x", "https://a.org/home/b", "tmp/x", "a/work/b"):
        assert not MACHINE_PATH.search(path)


def test_files_of_tests_have_names_of_their_own() -> None:
    # Without packages two of one name cannot be imported side by side.
    names = [path.name for path in Path(__file__).parent.rglob("test_*.py")]
    assert len(names) == len({*names}), [name for name in names if names.count(name) > 1]
