"""What exporters make of sizes, layouts and padding in ONNX.

Compared with the specification's own reference implementation in NumPy.
"""

from __future__ import annotations

import warnings

import numpy as np
import onnx
import pytest
import torch
from graph_networks import NETWORKS, network, whole
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from napari_unet import checkpoints
from napari_unet.errors import ModelError

pytestmark = pytest.mark.usefixtures("in_process")
DRAW = np.random.default_rng(6)
node = helper.make_node


def array(*shape):
    return DRAW.normal(0, 0.4, shape).astype(np.float32)


def whole_numbers(*values):
    return np.array(values, np.int64)


def model(nodes, constants, shape=(None, 2, None, None), opset=20):
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(v, k) for k, v in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


def gap(tmp_path, made, shape):
    """Open a model; return its largest difference from the reference."""
    onnx.save(made, tmp_path / "net.onnx")
    opened = checkpoints.load(tmp_path / "net.onnx")
    image = array(*shape)
    expected = ReferenceEvaluator(made).run(None, {"x": image})[0]
    channels_last = made.graph.input[0].type.tensor_type.shape.dim[-1].dim_value == 2
    if channels_last:
        image, expected = (np.moveaxis(a, -1, 1) for a in (image, expected))
    found = whole(opened, torch.from_numpy(image)).numpy()
    assert found.shape == expected.shape
    return np.abs(found - expected).max()


@pytest.mark.parametrize("size", [True, False])
@pytest.mark.parametrize("name", NETWORKS)
def test_exports_of_torch(tmp_path, name, size):
    """With sizes that the graph computes, and with the size of one image."""
    module, small, large = network(name)
    axes = {n: f"d{n}" for n in range(small.ndim) if n != 1}
    with warnings.catch_warnings(action="ignore"):
        torch.onnx.export(
            module, (small,), tmp_path / "net.onnx", dynamo=False, opset_version=17,
            input_names=["x"], dynamic_axes={"x": axes} if size else None,
        )  # fmt: skip
    opened = checkpoints.load(tmp_path / "net.onnx")
    for image in (small, large):
        assert (whole(opened, image) - module(image)).abs().max() <= 1e-5


def upsampled(*nodes, **constants):
    """A level of a U-Net whose up-sampling gets a size from these nodes."""
    weights = {"w": array(3, 2, 3, 3), "v": array(2, 5, 1, 1), **constants}
    first = [
        node("Conv", ["x", "w"], ["a"], pads=[1] * 4),
        node("MaxPool", ["a"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
    ]
    last = [
        node("Resize", ["p", "", "", "size"], ["u"], mode="nearest",
             coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
        node("Concat", ["u", "x"], ["c"], axis=1),
        node("Conv", ["c", "v"], ["y"]),
    ]  # fmt: skip
    return model([*first, *nodes, *last], weights)


def test_a_size_taken_from_another_image(tmp_path):
    made = upsampled(node("Shape", ["x"], ["s0"]),
                     node("Slice", ["s0", "two", "four"], ["space"]),
                     node("Shape", ["p"], ["s1"]),
                     node("Slice", ["s1", "zero", "two"], ["front"]),
                     node("Concat", ["front", "space"], ["size"], axis=0),
                     zero=whole_numbers(0), two=whole_numbers(2),
                     four=whole_numbers(4))  # fmt: skip
    assert gap(tmp_path, made, (2, 2, 12, 20)) <= 1e-6


def test_a_size_computed_in_floating_point(tmp_path):
    """Gathered, multiplied, rounded down and cast, as old exporters do."""
    made = upsampled(
        node("Shape", ["p"], ["s"]),
        node("Cast", ["s"], ["f"], to=TensorProto.FLOAT),
        node("Mul", ["f", "factors"], ["m"]),
        node("Floor", ["m"], ["r"]),
        node("Cast", ["r"], ["size"], to=TensorProto.INT64),
        factors=np.array([1, 1, 2, 2], np.float32),
    )
    assert gap(tmp_path, made, (1, 2, 12, 20)) <= 1e-6


def test_a_size_of_no_whole_factor_is_refused(tmp_path):
    made = upsampled(node("Shape", ["p"], ["s"]), node("Add", ["s", "more"], ["size"]),
                     more=whole_numbers(0, 0, 1, 1))  # fmt: skip
    onnx.save(made, tmp_path / "net.onnx")
    with pytest.raises(ModelError, match="no whole multiple"):
        checkpoints.load(tmp_path / "net.onnx")


@pytest.mark.parametrize("shape", [(None, None, None, 2), (1, 12, 20, 2)])
def test_channels_last(tmp_path, shape):
    """As tf2onnx writes a Keras model: transpositions around what needs them."""
    first, last = [0, 3, 1, 2], [0, 2, 3, 1]
    nodes = [
        node("Transpose", ["x"], ["a"], perm=first),
        node("Conv", ["a", "w"], ["b"], auto_pad="SAME_UPPER"),
        node("Transpose", ["b"], ["c"], perm=last),
        node("Add", ["c", "bias"], ["d"]),
        node("Relu", ["d"], ["e"]),
        node("Transpose", ["e"], ["f"], perm=first),
        node("MaxPool", ["f"], ["g"], kernel_shape=[2, 2], strides=[2, 2],
             auto_pad="SAME_UPPER"),
        node("ConvTranspose", ["g", "up"], ["h"], strides=[2, 2]),
        node("Transpose", ["h"], ["i"], perm=last),
        node("Concat", ["i", "e"], ["j"], axis=3),
        node("Transpose", ["j"], ["k"], perm=first),
        node("Conv", ["k", "v"], ["l"]),
        node("Transpose", ["l"], ["m"], perm=last),
        node("Softmax", ["m"], ["y"], axis=-1),
    ]  # fmt: skip
    weights = {"w": array(4, 2, 3, 3), "up": array(4, 2, 2, 2), "v": array(3, 6, 1, 1)}
    made = model(nodes, {**weights, "bias": array(4)}, shape)
    assert gap(tmp_path, made, (1, 12, 20, 2)) <= 1e-6


def between(operator, inputs=(), constants=None, **attributes):
    """A network of one operator between two convolutions."""
    nodes = [
        node("Conv", ["x", "w"], ["a"], pads=[1] * 4),
        node(operator, ["a", *inputs], ["b"], **attributes),
        node("Conv", ["b", "v"], ["y"]),
    ]
    weights = {"w": array(4, 2, 3, 3), "v": array(2, 4, 1, 1), **(constants or {})}
    return model(nodes, weights)


KERNEL = {"k": array(4, 4, 3, 3), "two": array(4, 4, 2, 2)}


@pytest.mark.parametrize(
    "made",
    [
        between("Conv", ["k"], KERNEL, auto_pad="SAME_UPPER"),
        between("Conv", ["two"], KERNEL, auto_pad="SAME_UPPER"),
        between("Conv", ["two"], KERNEL, auto_pad="SAME_LOWER"),
        between("Conv", ["k"], KERNEL, auto_pad="SAME_UPPER", strides=[2, 2]),
        between("Conv", ["k"], KERNEL, auto_pad="VALID"),
        between("ConvTranspose", ["k"], KERNEL, strides=[2, 2], pads=[0, 0, 1, 1]),
        between("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1]),
        between("MaxPool", kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER"),
        between("AveragePool", kernel_shape=[2, 2], pads=[0, 0, 1, 1],
                count_include_pad=1),
        between("Clip", ["low", "high"],
                {"low": np.float32(0), "high": np.float32(0.5)}),
        between("Clip", ["", "high"], {"high": np.float32(0.5)}),
        between("HardSigmoid", alpha=0.3, beta=0.4),
        between("Pad", ["pads"], {"pads": whole_numbers(0, 0, 1, 2, 0, 0, 1, 2)},
                mode="reflect"),
        between("Slice", ["first", "end", "axes"],
                {"first": whole_numbers(1, 1), "end": whole_numbers(-1, 1 << 62),
                 "axes": whole_numbers(2, 3)}),
        between("GroupNormalization", ["one", "one"], {"one": array(4)}, num_groups=2),
    ],
)  # fmt: skip
def test_operators(tmp_path, made):
    if made.graph.node[1].op_type == "GroupNormalization":
        made.opset_import[0].version = 21
    assert gap(tmp_path, made, (1, 2, 12, 20)) <= 1e-5


def test_means_over_space_weigh_channels(tmp_path):
    nodes = [
        node("Conv", ["x", "w"], ["a"], pads=[1] * 4),
        node("ReduceMean", ["a", "axes"], ["m"], keepdims=1),
        node("Mul", ["a", "m"], ["b"]),
        node("GlobalMaxPool", ["b"], ["n"]),
        node("Add", ["b", "n"], ["y"]),
    ]
    made = model(nodes, {"w": array(4, 2, 3, 3), "axes": whole_numbers(2, 3)})
    assert gap(tmp_path, made, (2, 2, 12, 20)) <= 1e-6


def test_group_norm_written_with_others(tmp_path):
    """Reshaped to groups and back, as torch exports it before opset 21."""
    nodes = [
        node("Conv", ["x", "w"], ["a"], pads=[1] * 4),
        node("Reshape", ["a", "groups"], ["b"]),
        node("InstanceNormalization", ["b", "scale", "shift"], ["c"]),
        node("Shape", ["a"], ["s"]),
        node("Reshape", ["c", "s"], ["y"]),
    ]
    constants = {
        "groups": whole_numbers(0, 2, -1),
        "scale": array(2),
        "shift": array(2),
    }
    made = model(nodes, {"w": array(4, 2, 3, 3), **constants})
    assert gap(tmp_path, made, (2, 2, 12, 20)) <= 1e-5


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (between("Transpose", perm=[0, 1, 3, 2]), "axes in the order"),
        (between("AveragePool", kernel_shape=[2, 2], pads=[0, 0, 1, 1]), "unevenly"),
        (between("ReduceMean", ["axes"], {"axes": whole_numbers(1)}), "all pixels"),
        (between("Add", ["row"], {"row": array(20)}), "an image in the file"),
        (between("Cast", to=TensorProto.FLOAT16), "another precision"),
        (between("Expand", ["s"], {"s": whole_numbers(*[1 << 40] * 4)}), "expansion"),
    ],
)
def test_what_is_not_exact_is_refused(tmp_path, made, words):
    onnx.save(made, tmp_path / "net.onnx")
    with pytest.raises(ModelError, match=words):
        checkpoints.load(tmp_path / "net.onnx")


@pytest.mark.parametrize(
    ("operator", "constants", "attributes"),
    [
        ("ConstantOfShape", {"n": whole_numbers(1 << 40)}, {}),
        ("Expand", {"n": array(1), "m": whole_numbers(1 << 40)}, {}),
        ("Range", {f"n{k}": np.int64(v) for k, v in enumerate((0, 1 << 50, 1))}, {}),
        ("Add", {"n": array(1 << 14, 1), "m": array(1, 1 << 14)}, {}),
    ],
)
def test_constants_without_measure_are_refused(
    tmp_path, operator, constants, attributes
):
    nodes = [
        node(operator, list(constants), ["big"], **attributes),
        node("Conv", ["x", "w"], ["a"]),
        node("Add", ["a", "big"], ["y"]),
    ]
    onnx.save(model(nodes, {"w": array(4, 2, 3, 3), **constants}), tmp_path / "n.onnx")
    with pytest.raises(ModelError, match="without measure"):
        checkpoints.load(tmp_path / "n.onnx")
