"""Protobuf text, and what is no such text or grows without measure."""

from __future__ import annotations

import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto

from napari_unet.checkpoints.prototxt import parse

LAYER = """
name: 'net'  # a comment { with: "marks" }
layer {
  name: "a\\"b" type: 'C:\\\\x'; bottom: "data", top: "d"
  include: { phase: TRAIN }
  convolution_param < kernel_size: [3, 1] kernel_size: 5 bias_term: false
    std: -1.5e-3f at: .5 >
}
"""


def test_fields_are_lists_in_the_order_of_the_text():
    assert parse(LAYER) == {
        "name": ["net"],
        "layer": [
            {
                "name": ['a"b'],
                "type": ["C:\\x"],
                "bottom": ["data"],
                "top": ["d"],
                "include": [{"phase": ["TRAIN"]}],
                "convolution_param": [
                    {
                        "kernel_size": [3, 1, 5],
                        "bias_term": [False],
                        "std": [-0.0015],
                        "at": [0.5],
                    }
                ],
            }
        ],
    }
    assert parse(" \n# nothing") == {}


@given(
    st.lists(st.integers(-(2**60), 2**60), max_size=4),
    st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=4),
    st.text("ab'\"\\#{}: ", max_size=12),
)
def test_what_protobuf_prints_is_read(dims, numbers, name):
    message = TensorProto(name=name, dims=dims, float_data=numbers)
    message.segment.begin = 1
    for one_line in (False, True):
        text = text_format.MessageToString(message, as_one_line=one_line)
        found = parse(text)
        assert found.get("name", [""]) == [name]
        assert found.get("dims", []) == dims
        assert [float(n) for n in found.get("float_data", [])] == pytest.approx(numbers)
        assert found["segment"] == [{"begin": [1]}]


WRONG = {
    "a {" * 40: "nested over 16 levels",
    "a: 1 " * 250_000: "1250000 characters",
    "a:1 " * 210_000: "line 1",
    "a: " + "9" * 10_000: "a number of 10000 digits",
    "a: 1e999": "the number 1e999",
    "a: 3x": "no readable text",
    "b: 1\na: \x00": "line 2",
    'a: "open': "no readable text",
    "a 3": "'3' instead of : or {",
    "a:": "the end",
    "a {": "the end",
    "}": "'}' instead of a word",
    "a: [1 2]": "'2' instead of , or ]",
    "a: [[1]]": "instead of a value",
    '"a": 1': "instead of a word",
}


@pytest.mark.parametrize("text", WRONG, ids=lambda text: text[:12])
def test_anything_else_is_refused_with_its_place(text):
    with pytest.raises(ValueError, match=WRONG[text].replace("[", r"\[")):
        parse(text)
