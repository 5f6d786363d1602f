"""YAML files as plain containers, and the value of a word in one or on the command line.

A word means the same in both. It is a number, true, false or null if written as one, else text:
`off`, `010`, `0x1F`, `1:30` and `.nan` are text. Keys are always text.
"""

import math
import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode

from emseg.errors import UserError

# No real config is larger; an endless file is not read to its end.
MOST_BYTES = 4 * 2**20
MOST_LEVELS = 40
MOST_NODES = 100_000
MOST_DIGITS = 40

_INT = r"(?:0|[1-9](?:_?[0-9])*)"
_DIGITS = r"[0-9](?:_?[0-9])*"
_POINT = rf"(?:{_INT}\.|{_INT}?\.{_DIGITS})"
_WHOLE = re.compile(rf"[+-]?{_INT}", re.ASCII)
_REAL = re.compile(rf"[+-]?(?:{_POINT}|(?:{_INT}|{_POINT})[eE][+-]?{_DIGITS})", re.ASCII)
# As in YAML; nobody means a value that is not a number (.nan).
_INFINITE = re.compile(r"[+-]?\.inf", re.IGNORECASE)
_WORDS: dict[str, bool | None] = {"true": True, "false": False, "null": None, "~": None, "": None}
_WORD, _MERGE = "!word", "tag:yaml.org,2002:merge"


def read_word(text: str) -> str | int | float | bool | None:
    """The value of a word without quotes."""
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if _WHOLE.fullmatch(text) and len(text) <= MOST_DIGITS:
        return int(text)
    if _INFINITE.fullmatch(text):
        return float(text.replace(".", ""))
    if _REAL.fullmatch(text) and math.isfinite(float(text)):
        return float(text)
    return text


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file, interpolations unresolved.

    Raises:
        UserError: the file is not text, not YAML, repeats a key, has tags, or is larger or deeper
            than any config.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise UserError(f"{path}: is no config, it has more than {MOST_BYTES} bytes")
        plain = yaml.load(path.read_text(encoding="utf-8-sig"), Loader=_Loader)
    except yaml.YAMLError as error:
        raise yaml_error(path, error) from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {str(error).splitlines()[0]}") from error
    if plain is None:
        return {}
    if not isinstance(plain, dict):
        kind = "list" if isinstance(plain, list) else "word"
        raise UserError(f"{path}: a config is a mapping of keys, this is a {kind}")
    return plain


def yaml_error(path: Path | str, error: yaml.YAMLError) -> UserError:
    """The error for broken YAML: file, line and the parser's complaint."""
    mark = getattr(error, "problem_mark", None)
    place = f"{path}:{mark.line + 1}" if mark else str(path)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    return UserError(f"{place}: broken YAML: {problem}")


class _Loader(yaml.SafeLoader):
    """Plain containers of text, numbers, true, false and null."""

    yaml_constructors: dict[Any, Any] = {}

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        # For every finished node: the number of its values and of its levels.
        self._measures: dict[Node, tuple[int, int]] = {}

    def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
        if kind is ScalarNode:
            if implicit[0]:
                return _MERGE if value == "<<" else _WORD
            implicit = (False, True)
        return super().resolve(kind, value, implicit)

    def compose_node(self, parent: Any, index: Any) -> Any:
        """The node, unless it is too deep, contains itself, or grows endlessly by aliases."""
        mark, alias = self.peek_event().start_mark, self.check_event(yaml.AliasEvent)
        self._depth += 1
        if self._depth > MOST_LEVELS:
            raise _Refusal(f"more than {MOST_LEVELS} levels", mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if not alias:
            self._measures[node] = self._measured(node)
        elif node not in self._measures:
            raise _Refusal("an alias of what it stands in", mark)
        size, levels = self._measures[node]
        if size > MOST_NODES or levels > MOST_LEVELS:
            most = f"{MOST_NODES} values" if size > MOST_NODES else f"{MOST_LEVELS} levels"
            raise _Refusal(f"more than {most}", mark)
        return node

    def _measured(self, node: Node) -> tuple[int, int]:
        inside = [] if isinstance(node, ScalarNode) else node.value
        if isinstance(node, MappingNode):
            inside = [part for pair in inside for part in pair]
        measures = [self._measures[one] for one in inside]
        return 1 + sum(size for size, _ in measures), 1 + max((d for _, d in measures), default=0)

    def mapping(self, node: MappingNode) -> dict[str, Any]:
        """The mapping, with keys as they are written, each only once."""
        written = set()
        for key, _ in node.value:
            if not isinstance(key, ScalarNode):
                raise _Refusal("a key is a word, not a list or mapping", key.start_mark)
            if key.value in written:
                raise _Refusal(f"found duplicate key {key.value}", key.start_mark)
            written.add(key.value)
        self.flatten_mapping(node)
        return {key.value: self.construct_object(value, deep=True) for key, value in node.value}


class _Refusal(yaml.MarkedYAMLError):
    def __init__(self, problem: str, mark: Any) -> None:
        super().__init__(problem=problem, problem_mark=mark)


def _refused(loader: _Loader, node: Node) -> Hashable:
    raise _Refusal(f"the tag {node.tag} has no meaning in a config", node.start_mark)


_TAG = "tag:yaml.org,2002"
for _tag in (_WORD, f"{_TAG}:int", f"{_TAG}:float", f"{_TAG}:bool", f"{_TAG}:null"):
    _Loader.add_constructor(_tag, lambda loader, node: read_word(loader.construct_scalar(node)))
for _tag in (f"{_TAG}:str", _MERGE):
    _Loader.add_constructor(_tag, lambda loader, node: loader.construct_scalar(node))
_Loader.add_constructor(
    f"{_TAG}:seq",
    lambda loader, node: [loader.construct_object(one, deep=True) for one in node.value],
)
_Loader.add_constructor(f"{_TAG}:map", _Loader.mapping)
_Loader.add_constructor(None, _refused)
