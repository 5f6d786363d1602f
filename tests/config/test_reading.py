"""Words mean the same in a file and on the command line; what no one wrote is refused, not read."""

import string
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from config.sample import TUTORIAL, Load
from emseg.config.loaded import dump
from emseg.config.merging import read_overrides
from emseg.config.reading import read_word, read_yaml
from emseg.errors import UserError

TEXTS = "off on yes no Off y n 010 007 08 0777 0x1F 0o17 0b11 1:30 1:30:00 nan NaN .nan inf -inf "
TEXTS += "2024-01-01 1,000 1__0 1e400 v1 a:b 1.2.3 12h ٣ 1j 0x Infinity 1e"
NUMBERS = {
    "0": 0,
    "-0": 0,
    "+3": 3,
    "1_000": 1000,
    "1e3": 1000.0,
    "1E-3": 0.001,
    ".5": 0.5,
    "-.5": -0.5,
    "5.": 5.0,
    "12e03": 12000.0,
    "1_0.2_5": 10.25,
    "18446744073709551615": 2**64 - 1,
    ".inf": float("inf"),
    "-.INF": float("-inf"),
}
OTHERS = {"true": True, "False": False, "TRUE": True, "null": None, "NULL": None, "~": None}


def in_file(path: Path, text: str) -> Any:
    path.write_text(f"key: {text}\n", encoding="utf-8")
    return read_yaml(path)["key"]


def on_command_line(text: str) -> Any:
    (override,) = read_overrides([f"key={text}"], ())[1]
    return override.value


@pytest.mark.parametrize(
    ("text", "value"), [*((one, one) for one in TEXTS.split()), *NUMBERS.items(), *OTHERS.items()]
)
def test_a_word_is_the_same_in_a_file_and_on_the_command_line(
    tmp_path: Path, text: str, value: Any
) -> None:
    for found in (in_file(tmp_path / "a.yaml", text), on_command_line(text)):
        assert found == value and type(found) is type(value)
    assert in_file(tmp_path / "a.yaml", f"[{text.replace(',', '')}]")[0] == read_word(
        text.replace(",", "")
    )
    for quoted in (f"'{text}'", f'"{text}"'):
        assert in_file(tmp_path / "a.yaml", quoted) == on_command_line(quoted) == text


@settings(max_examples=400, deadline=None)
@given(st.text(string.digits + "eExXoOnaifNt_.:+-~yY", min_size=1, max_size=6))
def test_words_that_look_like_numbers_are_read_alike(tmp_path_factory: Any, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "words.yaml"
    try:
        found = in_file(path, text)
    except UserError:  # a list's '-', a mapping's ':'
        return
    if isinstance(found, dict | list) or text in ("---", "..."):
        return
    other = on_command_line(text)
    assert found == other and type(found) is type(other)


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(
        st.text(max_size=5)
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.booleans()
        | st.none(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.text(string.ascii_letters + string.digits, min_size=1, max_size=3),
                inner,
                max_size=3,
            )
        ),
        max_leaves=6,
    )
)
def test_what_is_dumped_is_read_again(tmp_path_factory: Any, value: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "dumped.yaml"
    path.write_text(dump({"key": value}), encoding="utf-8")
    assert read_yaml(path) == {"key": value}


def test_infinity_in_a_list_is_the_same_in_both(tmp_path: Path) -> None:
    for text in ("[1, .inf]", "{a: [-.inf]}", "[inf, nan]"):
        assert in_file(tmp_path / "a.yaml", text) == on_command_line(text)


def test_keys_are_the_words_that_were_written(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("010: 1\non: 2\n1: 3\nnull: 4\n1.50: 5\n0x1F: 6\n")
    assert read_yaml(path) == {"010": 1, "on": 2, "1": 3, "null": 4, "1.50": 5, "0x1F": 6}


def test_what_yaml_has_for_people_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    text = "a: &a {x: 1, y: [2, off]}\nb: {<<: *a, y: 3}\nc: *a\nd: |\n  two\n  lines\n"
    path.write_text(f"{text}e: !!str 010\nf:\n", encoding="utf-8-sig")
    whole, merged = {"x": 1, "y": [2, "off"]}, {"x": 1, "y": 3}
    expected = {"a": whole, "b": merged, "c": whole, "d": "two\nlines\n", "e": "010", "f": None}
    assert read_yaml(path) == expected
    path.write_text("")
    assert read_yaml(path) == {}


def laughs(times: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, times)]
    return "\n".join(lines)


def chain(times: int) -> str:
    return "\n".join(["a0: &a0 [x]", *(f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, times))])


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("a: " + "[" * 5000, "more than 40 levels"),
        ("a: " + "{b: " * 5000, "more than 40 levels"),
        ("\n".join(" " * n + "a:" for n in range(2000)), "more than 40 levels"),
        ("- " * 3000, "more than 40 levels"),
        (laughs(10), "more than 100000 values"),
        (chain(100), "more than 40 levels"),
        ("a: &a [1, *a]", "an alias of what it stands in"),
        ("a: &a {b: {c: *a}}", "an alias of what it stands in"),
        ("a: *b", "undefined alias"),
        ("a: 1\nb: {c: 1, d: 2, c: 3}", ":2: broken YAML: found duplicate key c"),
        ("on: 1\non: 2", ":2: broken YAML: found duplicate key on"),
        ("[a, b]: 1", "a key is a word"),
        ("? {a: 1}\n: 2", "a key is a word"),
        ("a: !!python/name:os.name x", "has no meaning in a config"),
        ("a: !!binary aGVsbG8=", "has no meaning in a config"),
        ("a: !!set {b, c}", "has no meaning in a config"),
        ("a: !mine 3", "has no meaning in a config"),
        ("<<: 3", "broken YAML"),
        ("a: 1\n--- \nb: 2", "broken YAML"),
        ("a:\n\t- 1", "broken YAML"),
        ("a: \x00", "broken YAML"),
        ("word", "this is a word"),
        ("- a", "this is a list"),
    ],
)
def test_what_is_no_config_is_refused_in_a_line(tmp_path: Path, text: str, part: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read_yaml(path)
    message = str(caught.value)
    assert part in message and str(path) in message and "\n" not in message
    assert len(message) < len(str(path)) + 200


@pytest.mark.parametrize(
    ("data", "part"),
    [
        ("a: 1".encode("utf-16"), "cannot be read: 'utf-8' codec"),
        (bytes(range(256)), "cannot be read: 'utf-8' codec"),
        (b"a: 1\n" * 1_000_000, "has more than"),
    ],
)
def test_what_is_no_text_is_refused_in_a_line(tmp_path: Path, data: bytes, part: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(data)
    with pytest.raises(UserError, match=part):
        read_yaml(path)


@pytest.mark.parametrize("text", ["off", "010", "0x1F", "1:30", "nan", "2024-01-01", "'1e3'", "n"])
def test_a_name_is_what_was_typed(load_text: Load, text: str) -> None:
    written = TUTORIAL.replace("experiment_name: sample", f"experiment_name: {text}")
    assert written != TUTORIAL
    for loaded in (load_text(text=written), load_text(f"experiment_name={text}")):
        assert loaded.root.experiment_name == text.strip("'")
        assert yaml.safe_load(dump(loaded.saved))["experiment_name"] == text.strip("'")


@pytest.mark.parametrize("text", ["1e3", "2024", "true", "null", "~", "1_000", "[a]"])
def test_a_name_that_is_no_text_is_refused_alike(load_text: Load, text: str) -> None:
    written = TUTORIAL.replace("experiment_name: sample", f"experiment_name: {text}")
    told = []
    for kw in ({"text": written}, {"overrides": [f"experiment_name={text}"]}):
        with pytest.raises(UserError, match="experiment_name: expected text, got") as caught:
            load_text(*kw.pop("overrides", ()), **kw)
        told.append(str(caught.value))
    assert told[0] == told[1]
    assert ("in quotes it is text" in told[0]) == (text in ("1e3", "2024", "true", "1_000"))


@pytest.mark.parametrize("text", ["010", "0x1F", "1e1", "nan", ".inf", "1:30", "on", "1e400"])
def test_a_count_that_is_none_is_refused_alike(load_text: Load, text: str) -> None:
    told = []
    for kw in ({"text": f"{TUTORIAL}\nmonitor: {{checkpoint: {{save_top_k: {text}}}}}\n"}, {}):
        overrides = [] if kw else [f"monitor.checkpoint.save_top_k={text}"]
        with pytest.raises(UserError, match=r"save_top_k: expected int, got") as caught:
            load_text(*overrides, **kw)
        told.append(str(caught.value))
    assert told[0] == told[1]


@pytest.mark.parametrize(
    "text",
    [
        "experiment_name: ${system.seed_of}",
        "experiment_name: ${experiment_name}",
        "experiment_name: a${monitor}${",
        "experiment_name: " + "${" * 2000,
        "experiment_name: ${oc.env:NOT_THERE}",
        "experiment_name: a\ndata: {train: ${data.val}, val: ${data.train}}",
        "experiment_name: a\ndata: {train: ${data}}",
    ],
)
def test_references_that_lead_nowhere_are_refused(load_text: Load, text: str) -> None:
    with pytest.raises(UserError) as caught:
        load_text(text=text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "defaults",
    ["3", "[null]", "[{}]", "[[a]]", "[{override /model: null}]", "[{override /model: {a: 1}}]"]
    + ["[{override /model: [net]}, 3]", "{a: b}", "[{a: 1, b: 2}]", "['', _self_]"],
)
def test_odd_defaults_are_refused(load_text: Load, defaults: str) -> None:
    with pytest.raises(UserError) as caught:
        load_text(text=f"defaults: {defaults}\nexperiment_name: a\n")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "override",
    ["model={a: 1}", "model=[[net]]", "model=", "data=" + "[" * 3000, "a..b=1", "=", "a."],
)
def test_odd_overrides_are_refused(load_text: Load, override: str) -> None:
    with pytest.raises(UserError) as caught:
        load_text(override)
    assert "\n" not in str(caught.value)
