"""ONNX files against the specification's own reference implementation in NumPy."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from napari_unet import checkpoints
from napari_unet.errors import ModelError
from napari_unet.networks.program import Program, ProgramSpec

pytestmark = pytest.mark.usefixtures("in_process")
DRAW = np.random.default_rng(5)


def array(*shape):
    return DRAW.normal(0, 0.4, shape).astype(np.float32)


def model(nodes, constants, ndim=2, domain=""):
    shape = [1, 2, *[None] * ndim]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(v, k) for k, v in constants.items()],
    )
    opsets = [helper.make_opsetid("", 20)]
    if domain:
        opsets.append(helper.make_opsetid(domain, 1))
    return helper.make_model(graph, opset_imports=opsets)


def unet(ndim=2, up="transposed", align="half_pixel", end="Sigmoid"):
    """A U-Net of one level with most operators; returns nodes and constants."""
    k, two = [3] * ndim, [2] * ndim
    constants = {
        "enc.weight": array(4, 2, *k),
        "enc.bias": array(4),
        **{"bn.weight": array(4), "bn.bias": array(4), "mean": array(4)},
        "var": np.abs(array(4)) + np.float32(0.5),
        "onnx::Conv_12": array(4, 2, *k),
        "up.weight": array(4, 3, *two),
        "scales": np.array([1, 1, *two], np.float32),
        "out.weight": array(2, 7 if up == "transposed" else 8, *[1] * ndim),
    }
    node = helper.make_node
    joined = {
        "transposed": node("ConvTranspose", ["g", "up.weight"], ["u"], strides=two),
        "linear": node(
            *("Resize", ["g", "", "scales"], ["u"]),
            mode="linear",
            coordinate_transformation_mode=align,
        ),
        "nearest": node(
            *("Resize", ["g", "", "scales"], ["u"]),
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        ),
    }[up]
    nodes = [
        node("Conv", ["x", "enc.weight", "enc.bias"], ["a"], pads=[1] * 2 * ndim),
        node(
            *("BatchNormalization", ["a", "bn.weight", "bn.bias", "mean", "var"]),
            ["b"],
            epsilon=1e-3,
        ),
        node("LeakyRelu", ["b"], ["c"], alpha=0.2),
        node("MaxPool", ["c"], ["d"], kernel_shape=two, strides=two),
        node(
            *("Conv", ["d", "onnx::Conv_12"], ["e"]),
            pads=[0] * ndim + [2] * ndim,
            group=2,
        ),
        node("Elu", ["e"], ["f"], alpha=0.7),
        node("Add", ["f", "d"], ["g"]),
        joined,
        node("Concat", ["c", "u"], ["h"], axis=1),
        node("Conv", ["h", "out.weight"], ["i"]),
        node(end, ["i"], ["y"], **({"axis": 1} if end == "Softmax" else {})),
    ]
    return nodes, constants


@pytest.mark.parametrize(
    ("ndim", "up", "align", "end"),
    [
        (2, "transposed", "half_pixel", "Sigmoid"),
        (2, "linear", "half_pixel", "Softmax"),
        (2, "linear", "align_corners", "Tanh"),
        (2, "nearest", "half_pixel", "Identity"),
        (3, "transposed", "half_pixel", "Softmax"),
    ],
)
def test_output_is_the_specifications(tmp_path, ndim, up, align, end):
    made = model(*unet(ndim, up, align, end), ndim)
    onnx.save(made, tmp_path / "net.onnx")
    network = checkpoints.load(tmp_path / "net.onnx")
    image = array(1, 2, *(6, 8, 12)[-ndim:])
    expected = ReferenceEvaluator(made).run(None, {"x": image})[0]
    found = network(image)
    if end in ("Sigmoid", "Softmax"):  # the end of the graph becomes the activation
        assert network.spec.activation == end.lower()
        found = found.sigmoid() if end == "Sigmoid" else found.softmax(1)
    assert np.abs(found.numpy() - expected).max() <= 1e-5
    assert network.spec.family == "program"
    assert network.geometry.exact is (align != "align_corners")


def test_uneven_padding_is_in_the_receptive_field(tmp_path):
    """A pixel outside the reach derived from the program changes nothing."""
    onnx.save(model(*unet()), tmp_path / "net.onnx")
    network = checkpoints.load(tmp_path / "net.onnx")
    geometry, image = network.geometry, torch.from_numpy(array(1, 2, 32, 32))
    before = network(image)
    image[:, :, :, 16] += 5.0
    moved = (network(image) - before).abs().amax((0, 1, 2)).nonzero().ravel()
    assert moved.min() >= 16 - geometry.after[1]
    assert moved.max() <= 16 + geometry.before[1]
    assert len(moved) > 4


def assert_refused(tmp_path, made, words):
    (tmp_path / "net.onnx").write_bytes(made.SerializeToString())
    with pytest.raises(ModelError, match=words):
        checkpoints.load(tmp_path / "net.onnx")


def test_operators_outside_the_list_are_named(tmp_path):
    nodes, constants = unet()
    nodes[-1] = helper.make_node("Sin", ["i"], ["y"])
    assert_refused(tmp_path, model(nodes, constants), "the operator Sin")


def test_custom_domains_are_refused(tmp_path):
    nodes, constants = unet()
    nodes[-1] = helper.make_node("Sigmoid", ["i"], ["y"], domain="evil.ops")
    assert_refused(
        tmp_path,
        model(nodes, constants, domain="evil.ops"),
        "Sigmoid of another domain",
    )


def test_data_outside_the_file_is_refused(tmp_path):
    made = model(*unet())
    tensor = made.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret")
    tensor.ClearField("raw_data")
    assert_refused(tmp_path, made, "weights in another file")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "exec"}, "unknown operation"),
        ({"inputs": [0]}, "not there yet"),
        ({"inputs": []}, "not there yet"),
    ],
)
def test_programs_are_checked(change, words):
    step = {"kind": "activation", "inputs": [-1], "settings": {"name": "relu"}}
    facts = {"ndim": 2, "in_channels": 1, "out_channels": 1}
    Program(ProgramSpec(**facts, steps=[step]))
    with pytest.raises(ValueError, match=words):
        ProgramSpec(**facts, steps=[{**step, **change}])


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("operator", ["Add", "Sub", "Mul", "Div"])
def test_arithmetic_with_numbers(tmp_path, operator, first):
    nodes, constants = unet()
    constants["number"] = np.array([[[[1.5]], [[0.5]]]], np.float32)
    pair = ["number", "i"] if first else ["i", "number"]
    nodes[-1] = helper.make_node(operator, pair, ["y"])
    made = model(nodes, constants)
    onnx.save(made, tmp_path / "net.onnx")
    image = array(1, 2, 8, 12)
    expected = ReferenceEvaluator(made).run(None, {"x": image})[0]
    found = checkpoints.load(tmp_path / "net.onnx")(image).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
