import json
import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import ndimage

from emseg.datasets.alignment import (
    Alignment,
    Placed,
    read_alignment,
    realign,
    restore,
    write_alignment,
)
from emseg.errors import UserError

SHAPE = (4, 9, 11)
STACK = np.random.default_rng(0).integers(1, 200, SHAPE).astype(np.uint8)


def shifted(section, dy, dx, size):
    """The slow, obvious way: out[y, x] is section[y + dy, x + dx], 0 outside."""
    out = np.zeros(size, section.dtype)
    for y in range(size[0]):
        for x in range(size[1]):
            if 0 <= y + dy < section.shape[0] and 0 <= x + dx < section.shape[1]:
                out[y, x] = section[y + dy, x + dx]
    return out


@st.composite
def shifts(draw):
    order = draw(st.permutations(range(SHAPE[0])))[: draw(st.integers(0, SHAPE[0]))]
    step = st.integers(-6, 6)
    placed = tuple(Placed(section, (draw(step), draw(step))) for section in order)
    return Alignment(SHAPE, placed), (draw(st.integers(1, 14)), draw(st.integers(1, 14)))


@given(shifts())
def test_shifts_are_exact_and_return_to_where_they_were(case):
    alignment, size = case
    aligned = realign(STACK, alignment, size=size)
    for section, placed in zip(aligned, alignment.sections, strict=True):
        np.testing.assert_array_equal(
            section, shifted(STACK[placed.section], *placed.shift, size=size)
        )
    back = restore(aligned, alignment, 0, SHAPE[0])
    expected = np.zeros_like(STACK)
    for section, placed in zip(aligned, alignment.sections, strict=True):
        dy, dx = placed.shift
        expected[placed.section] = shifted(section, -dy, -dx, SHAPE[1:])
    np.testing.assert_array_equal(back, expected)
    # No label but the original one, and that one wherever the aligned stack has it.
    assert ((back == STACK) | (back == 0)).all()
    kept = sum(np.count_nonzero(section) for section in aligned)
    assert np.count_nonzero(back) == kept


@given(shifts(), st.integers(0, 3), st.integers(1, 4))
def test_a_slab_is_the_part_of_the_whole(case, start, count):
    alignment, size = case
    stop = min(start + count, SHAPE[0])
    aligned = realign(STACK, alignment, size=size)
    whole = restore(aligned, alignment, 0, SHAPE[0], fill=7)
    np.testing.assert_array_equal(
        restore(aligned, alignment, start, stop, fill=7), whole[start:stop]
    )


def turned(angle, scale=1.0):
    cosine, sine = math.cos(angle) * scale, math.sin(angle) * scale
    return ((cosine, -sine), (sine, cosine))


@settings(deadline=None)
@given(st.floats(0, 2 * math.pi), st.floats(0.7, 1.4), st.tuples(*[st.floats(-9, 9)] * 2))
def test_turns_are_those_of_scipy_both_ways(angle, scale, shift):
    matrix, size = np.array(turned(angle, scale)), (31, 26)
    inverse = np.linalg.inv(matrix)
    for way, offset in ((matrix, shift), (inverse, -inverse @ shift)):
        places = np.einsum("ij,jyx->iyx", way, np.indices((40, 40))) + np.reshape(offset, (2, 1, 1))
        # Midway between two pixels, rounding decides.
        assume((np.abs(places % 1 - 0.5) > 1e-9).all())
    original = np.random.default_rng(1).integers(1, 99, (1, 28, 33)).astype(np.int32)
    alignment = Alignment(original.shape, (Placed(0, shift, turned(angle, scale)),))
    aligned = realign(original, alignment, size=size)
    scipys = {"order": 0, "mode": "grid-constant"}
    expected = ndimage.affine_transform(original[0], matrix, shift, size, **scipys)
    np.testing.assert_array_equal(aligned[0], expected)
    back = restore(aligned, alignment, 0, 1)
    expected = ndimage.affine_transform(
        aligned[0], inverse, -inverse @ shift, original.shape[1:], **scipys
    )
    np.testing.assert_array_equal(back[0], expected)


def test_a_quarter_turn_is_exact():
    turn = ((0.0, 1.0), (-1.0, 0.0))  # (y, x) was at (x, 10 - y)
    alignment = Alignment(SHAPE, tuple(Placed(at, (0, SHAPE[2] - 1), turn) for at in range(4)))
    aligned = realign(STACK, alignment, size=(11, 9))
    np.testing.assert_array_equal(aligned, np.rot90(STACK, axes=(1, 2)))
    np.testing.assert_array_equal(restore(aligned, alignment, 0, 4), STACK)


def test_what_grew_has_no_holes_when_it_shrinks_and_grows():
    # Pushed instead of pulled, three of four pixels of the original would stay empty.
    half = Alignment((1, 20, 20), (Placed(0, (0, 0), ((2, 0), (0, 2))),))
    assert (restore(np.ones((1, 10, 10), np.uint8), half, 0, 1)[0, :19, :19] == 1).all()


def test_half_a_pixel_goes_to_the_next():
    row = np.array([[[1, 2, 3, 4]]])
    for shift, stack in (((0, 0.5), row), ((0.5, 0), row.swapaxes(1, 2))):
        alignment = Alignment(stack.shape, (Placed(0, shift),))
        aligned = realign(stack, alignment, size=stack.shape[1:])
        assert aligned.ravel().tolist() == [2, 3, 4, 0]
        assert restore(stack, alignment, 0, 1).ravel().tolist() == [1, 2, 3, 4]


def test_sections_must_be_as_many_as_recorded():
    alignment = Alignment(SHAPE, (Placed(0, (0, 0)),))
    with pytest.raises(ValueError, match="2 sections are not the record's 1"):
        restore(STACK[:2], alignment, 0, 4)
    with pytest.raises(ValueError, match="not the record's"):
        realign(STACK[:2], alignment, size=(9, 11))


def test_a_record_is_read_as_it_was_written(tmp_path):
    (path := tmp_path / "a.json").write_text(
        '{"shape": [4, 9, 11], "sections": [{"section": 2, "shift": [1, -2.5]},'
        ' {"section": 0, "affine": [[0, 1, 3], [-1, 0, 0.25]]}]}'
    )
    alignment = read_alignment(path)
    assert alignment == Alignment(
        SHAPE, (Placed(2, (1, -2.5)), Placed(0, (3, 0.25), ((0, 1), (-1, 0))))
    )
    write_alignment(tmp_path / "b.json", alignment)
    assert read_alignment(tmp_path / "b.json") == alignment
    assert [entry.name for entry in sorted(tmp_path.iterdir())] == ["a.json", "b.json"]


ONE = {"section": 1, "shift": [0, 0]}


def of(*sections):
    return {"shape": SHAPE, "sections": [*sections]}


def affine(*rows):
    return {"section": 1, "affine": [*rows]}


@pytest.mark.parametrize(
    ("record", "told"),
    [
        ([], "the record must be an object with 'shape' and 'sections', not []"),
        ({"shape": [4, 9, 11]}, "the record lacks 'sections'"),
        ({"shpe": [4, 9, 11]}, "unknown key 'shpe' in the record; did you mean 'shape'"),
        (of() | {"shape": [9, 11]}, "'shape' must be 3 whole numbers, not [9, 11]"),
        (of() | {"shape": [4, 9.5, 11]}, "'shape' must be 3 whole numbers"),
        (of() | {"shape": [4, 0, 11]}, "three sizes of 1 or more"),
        (of() | {"sections": {}}, "'sections' is to be a list"),
        (of(3), "sections[0] must be an object"),
        (of(ONE, {"section": 2}), "sections[1] lacks 'shift'"),
        (of({"section": 1, "afine": []}), "key 'afine' in sections[0]; did you mean 'affine'"),
        (of(ONE | {"affine": []}), "unknown key 'shift'"),
        (of(ONE | {"section": 1.0}), "'section' of sections[0] must be"),
        (of(ONE | {"section": True}), "a whole number, not true"),
        (of(ONE | {"section": 4}), "sections[0] shows section 4"),
        (of(ONE | {"section": -1}), "has 4 (from 0)"),
        (of(ONE, ONE), "sections[0] and sections[1] both show section 1"),
        (of(ONE | {"shift": [1]}), "'shift' of sections[0] must be 2"),
        (of(ONE | {"shift": ["1", 2]}), "must be 2 numbers"),
        (of(ONE | {"shift": [math.nan, 2]}), "must be finite"),
        (of(affine([1, 0, 0])), "'affine' of sections[0] must be 2 x 3 numbers"),
        (of(affine([1, 0], [0, 1])), "'affine' of sections[0] must be 2 x 3 numbers"),
        (of(affine([1, 2, 0], [2, 4, 0])), "sections[0]: the matrix [[1, 2], [2, 4]] cannot be"),
    ],
)
def test_a_wrong_record_is_one_line_with_the_place(tmp_path, record, told):
    (path := tmp_path / "a.json").write_text(json.dumps(record))
    with pytest.raises(UserError) as error:
        read_alignment(path)
    line = str(error.value)
    assert line.startswith(f"the alignment {path}: ") and told in line and "\n" not in line


def test_no_record_and_no_json(tmp_path):
    with pytest.raises(UserError, match="cannot read the alignment .*does not exist"):
        read_alignment(tmp_path / "a.json")
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(UserError, match="is not JSON"):
        read_alignment(tmp_path / "a.json")
