"""What parsed code says of the house rules; `test_house.py` asks it."""

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

# A package imports from lower floors alone; packages on one floor do not know each other.
FLOORS = {
    "cli": 6,
    "verbs": 5,
    "stages": 5,
    "datasets": 4,
    "training": 3,
    "inference": 3,
    "runs": 3,
    "report": 3,
    "models": 2,
    "losses": 2,
    "data": 2,
    "synthetic": 2,
    "decoding": 2,
    "evaluation": 2,
    "volumes": 1,
    "blocks": 1,
    "kernels": 0,
    "bounds": 0,
    "errors": 0,
    "faults": 0,
    "progress": 0,
    "stopping": 0,
}
# The one step sideways: a kernel refuses what a user asked for in the words of `errors`.
SIDEWAYS = {("kernels", "errors"), ("faults", "errors"), ("bounds", "errors")}
# Beside the floors: who may see the config, and what the config may see.
CONFIG_SEEN_BY = {"cli", "stages"}
CONFIG_SEES = {"errors", "bounds"}

MOST_LINES_OF_FUNCTION = 60
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Import:
    """One imported module; `lazy` inside a function, `typing` for the type checker alone."""

    name: str
    lazy: bool
    typing: bool


Graph = Mapping[str, list[Import]]


def trees(folder: Path) -> dict[str, ast.Module]:
    """The parsed modules below `folder` by dotted name (a package by its own)."""
    found = {}
    for file in sorted(folder.rglob("*.py")):
        name = ".".join(file.relative_to(folder).with_suffix("").parts)
        found[name.removesuffix(".__init__")] = ast.parse(file.read_text(), str(file))
    return found


def imports(tree: ast.Module, known: Mapping[str, object]) -> list[Import]:
    """What a module imports; `from package import module` is the module where it is known."""
    return [*_imports(tree, known, lazy=False, typing=False)]


def part_of(module: str) -> str:
    """The package or file of the house that a module of ours is in; "" for its door, `emseg`."""
    return module.partition(".")[2].partition(".")[0]


def broken_floors(graph: Graph) -> list[str]:
    """Every import of ours that does not lead to a lower floor.

    The door may name every floor to the type checker; inside, nobody goes through the door but for
    `__version__`.
    """
    broken = []
    for module, found in graph.items():
        here = part_of(module)
        for item in (item for item in found if item.name.split(".")[0] == "emseg"):
            there = part_of(item.name)
            if there in ("", here):
                continue
            if not here:
                fine = item.typing
            elif "config" in (here, there):
                fine = there in CONFIG_SEES if here == "config" else here in CONFIG_SEEN_BY
            else:
                lower = FLOORS.get(there, 9) < FLOORS.get(here, -1)
                fine = lower or (here, there) in SIDEWAYS
            if not fine:
                broken.append(f"{module} imports {item.name}")
    return broken


def cycle(graph: Graph) -> list[str]:
    """The modules of a circle of imports, or none. Imports for the type checker do not count."""
    edges = {
        module: {item.name for item in found if item.name in graph and not item.typing}
        for module, found in graph.items()
    }
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def loads(graph: Graph, module: str) -> set[str]:
    """The top-level names of all libraries that importing a module of ours brings with it."""
    seen: set[str] = set()
    waiting, brought = [module], set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in graph:
            waiting += [item.name for item in graph[name] if not (item.lazy or item.typing)]
            waiting += [name.rpartition(".")[0]] if "." in name else []
        else:
            brought.add(name.split(".")[0])
    return brought - sys.stdlib_module_names


def libraries(found: list[Import]) -> set[str]:
    """The top-level names of the libraries among the imports, ours and Python's own left out."""
    return {item.name.split(".")[0] for item in found} - {"emseg"} - sys.stdlib_module_names


def long_functions(tree: ast.Module) -> list[str]:
    """Functions of more lines than are allowed."""
    return [
        f"{node.name} has {lines} lines"
        for node in ast.walk(tree)
        if isinstance(node, FUNCTIONS)
        and (lines := (node.end_lineno or node.lineno) - node.lineno + 1) > MOST_LINES_OF_FUNCTION
    ]


def swallowed(tree: ast.Module) -> list[str]:
    """Handlers that catch everything and do nothing, and those that name nothing at all."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler):
            names = ast.unparse(node.type) if node.type else ""
            everything = re.search(r"\b(Base)?Exception\b", names)
            silent = all(_does_nothing(line) for line in node.body)
            if not names or (everything and silent):
                found.append(f"line {node.lineno}: except {names}")
        elif isinstance(node, ast.Call) and re.search(
            r"\bsuppress\(.*\b(Base)?Exception\b", ast.unparse(node)
        ):
            found.append(f"line {node.lineno}: {ast.unparse(node)}")
    return found


def undocumented(tree: ast.Module) -> list[str]:
    """Public functions and classes of a module without a docstring, and the module itself."""
    public = [
        node
        for node in tree.body
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)) and not node.name.startswith("_")
    ]
    bare = [node.name for node in public if ast.get_docstring(node) is None]
    return bare + ([] if ast.get_docstring(tree) else ["the module"])


def only_children(modules: Mapping[str, ast.Module], choices: Path) -> list[str]:
    """Classes of ours that exist for one subclass, and are neither used nor named by choices."""
    classes = [
        node
        for tree in modules.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    ]
    bases = [ast.unparse(base).split(".")[-1] for node in classes for base in node.bases]
    used = {
        ast.unparse(one).split(".")[-1]
        for tree in modules.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        for one in (node.func, *node.args)
    }
    for path in choices.rglob("*.yaml"):
        used |= {*re.findall(r"_target_: [\w.]+\.(\w+)", path.read_text())}
    return [
        node.name
        for node in classes
        if bases.count(node.name) == 1
        and node.name not in used
        # What fits a protocol need not name it.
        and "Protocol" not in map(ast.unparse, node.bases)
    ]


def _imports(
    node: ast.AST, known: Mapping[str, object], *, lazy: bool, typing: bool
) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(alias.name, lazy, typing)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "imports name the whole path"
            for alias in child.names:
                inner = f"{child.module}.{alias.name}"
                door = child.module == "emseg" and alias.name != "__version__"
                yield Import(inner if inner in known or door else str(child.module), lazy, typing)
        else:
            within = lazy or isinstance(child, FUNCTIONS)
            checked = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
            yield from _imports(child, known, lazy=within, typing=typing or checked)


def _does_nothing(line: ast.stmt) -> bool:
    constant = isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant)
    return constant or isinstance(line, ast.Pass | ast.Continue)
