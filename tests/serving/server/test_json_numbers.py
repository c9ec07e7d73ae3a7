"""Long arrays of numbers in JSON: parsed in pieces, they are what `json.loads` gives, or refused where that refuses."""

import json

import numpy as np
import pytest

from serving.server.json_numbers import PIECE_BYTES, NumberArray, NumbersError, load_json

VALUES = np.random.default_rng(0).standard_normal((3, 20_000)).astype(np.float32)


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("flat", [True, False])
def test_numbers_are_those_of_json_wherever_the_array_stands(flat, indent):
    data = VALUES.ravel().tolist() if flat else VALUES.tolist()
    for content in ({"a": 1, "data": data, "b": "[1,2]"}, {"data": data}):
        parsed, arrays = load_json(json.dumps(content, indent=indent).encode())
        (name,) = arrays
        assert parsed == content | {"data": name}
        np.testing.assert_array_equal(arrays[name].parse(3, 20_000), VALUES)


def test_short_arrays_and_other_values_are_left_to_json():
    content = {"shape": [1, 2], "x": [True, None, "[" * 100], "numbers": [0.5] * 99}
    assert load_json(json.dumps(content).encode()) == (content, {})


@pytest.mark.parametrize(
    "text",
    [
        b"1," * 40_000 + b"1,",
        b"1," * (PIECE_BYTES // 2) + b"1,",  # a comma at the end of a piece, and nothing after it
        b"1,," + b"1," * 40_000 + b"1",
        b"," + b"1," * 40_000 + b"1",
        b"1 1," + b"1," * 40_000 + b"1",
        b"01," + b"1," * 40_000 + b"1",
        b"+1," + b"1," * 40_000 + b"1",
        b"1e," + b"1," * 40_000 + b"1",
        b"[1]," * 40_000 + b"[1]",
        b"[[1]]," + b"1," * 40_000 + b"1",
        b"1," * 40_000 + b"[1]",
        b"[" * 40_000 + b"]" * 40_000,
        b"",
    ],
)
@pytest.mark.parametrize("rows", [1, 2])
def test_what_is_no_array_of_as_many_numbers_is_refused(text, rows):
    n = text.count(b"1") or 1
    with pytest.raises(NumbersError):
        NumberArray(b"[" + text + b"]").parse(rows, n)


def test_rows_of_another_length_are_refused():
    for text in (
        b"[[1,2],[3]]",
        b"[[1],[2,3]]",
        b"[[1,2]]",
        b"[[1,2],[3,4],[5,6]]",
        b"[[1,2][3,4]]",
        b"[[1,2],[3,4],]",
    ):
        with pytest.raises(NumbersError):
            NumberArray(text).parse(2, 2)
    np.testing.assert_array_equal(NumberArray(b"[ [1,2] , [3,4] ]").parse(2, 2), [[1, 2], [3, 4]])
