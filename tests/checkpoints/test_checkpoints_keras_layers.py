"""Configurations of Keras by hand: old dialects, and what is refused."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from keras_models import array, call, convs, image_input, model, put, write

from napari_unet import checkpoints
from napari_unet.checkpoints import sidecar
from napari_unet.errors import ModelError

pytestmark = pytest.mark.usefixtures("in_process")
IMAGE = torch.randn(1, 1, 16, 24, generator=torch.Generator().manual_seed(0))


def keras1(order):
    """A U-Net of one level in the words of Keras 1, its softmax over a flat image."""
    last = order == "tf"
    conv = {"border_mode": "same", "dim_ordering": order, "activation": "relu"}
    conv |= {"bias": True, "subsample": [1, 1]}
    size = 16 * 24
    flat = [call("Reshape", "flat", "c", target_shape=[size, 2])]
    if not last:
        flat = [
            call("Reshape", "rows", "c", target_shape=[2, size]),
            call("Permute", "flat", "rows", dims=[2, 1]),
        ]
    return model(
        image_input(*((16, 24, 1) if last else (1, 16, 24))),
        call("Convolution2D", "a", "image", nb_filter=3, nb_row=3, nb_col=3, **conv),
        call("MaxPooling2D", "p", "a", pool_size=[2, 2], dim_ordering=order),
        call("Convolution2D", "b", "p", **conv),
        call("BatchNormalization", "n", "b", mode=0, axis=3 if last else 1),
        call("UpSampling2D", "u", "n", size=[2, 2], dim_ordering=order),
        call("Merge", "m", "u", "a", mode="concat", concat_axis=-1 if last else 1),
        call("Convolution2D", "c", "m", **conv),
        *flat,
        call("Activation", "end", "flat", activation="softmax"),
    )


def keras1_weights(order):
    norm = [array(4), array(4), array(4), np.abs(array(4)) + np.float32(0.5)]
    kernels = {"a": array(3, 1, 3, 3), "b": array(4, 3, 3, 3), "c": array(2, 7, 3, 3)}
    weights = {k: [w, array(len(w))] for k, w in kernels.items()}
    saved = {
        k: [w.transpose(2, 3, 1, 0) if order == "tf" else w, b]
        for k, (w, b) in weights.items()
    }
    return weights, norm, {**saved, "n": norm, "u": []}


def keras1_forward(weights, norm, turned):
    """Restate the network with torch's functions."""

    def conv(x, name):
        weight, bias = map(torch.from_numpy, weights[name])
        weight = weight.flip(2, 3) if turned else weight
        return F.relu(F.conv2d(x, weight, bias, padding=1))

    skip = conv(IMAGE, "a")
    scale, shift, mean, var = map(torch.from_numpy, norm)
    deep = conv(F.max_pool2d(skip, 2), "b")
    deep = F.batch_norm(deep, mean, var, scale, shift, eps=1e-3)
    up = F.interpolate(deep, scale_factor=2)
    return conv(torch.cat([up, skip], 1), "c")


@pytest.mark.parametrize(
    ("order", "told", "turned"),
    [
        *(("tf", "", False), ("tf", "theano", True)),
        *(("th", "", True), ("th", "tensorflow", False)),
    ],
)
def test_keras_1_in_both_orders_of_axes(tmp_path, order, told, turned):
    weights, norm, saved = keras1_weights(order)
    path = write(tmp_path / "old.h5", keras1(order), saved, keras_version="1.2.2")
    if told:
        sidecar.write(path, weights=told)
    network = checkpoints.load(path)
    assert network.spec.activation == "softmax"
    wanted = keras1_forward(weights, norm, turned)
    torch.testing.assert_close(network(IMAGE), wanted, atol=1e-5, rtol=1e-5)
    fact = next((a for a in network.spec.assumed if a.field == "weights"), None)
    assert told or fact.value == {"tf": "tensorflow", "th": "theano"}[order]


def test_keras_1_is_known_by_its_words(tmp_path):
    weights, norm, saved = keras1_weights("th")
    network = checkpoints.load(write(tmp_path / "a.h5", keras1("th"), saved))
    wanted = keras1_forward(weights, norm, True)
    torch.testing.assert_close(network(IMAGE), wanted, atol=1e-5, rtol=1e-5)


def test_the_backend_is_believed(tmp_path):
    weights, norm, saved = keras1_weights("th")
    about = {"keras_version": "1.2.2", "backend": "tensorflow"}
    path = write(tmp_path / "a.h5", keras1("th"), saved, **about)
    network = checkpoints.load(path)
    assert "weights" not in {a.field for a in network.spec.assumed}
    wanted = keras1_forward(weights, norm, False)
    torch.testing.assert_close(network(IMAGE), wanted, atol=1e-5, rtol=1e-5)


def test_weights_of_keras_1_beside_their_configuration(tmp_path):
    weights, norm, saved = keras1_weights("th")
    path = tmp_path / "net_weights.h5"
    with h5py.File(path, "w") as file:
        put(file, saved)
    (tmp_path / "net_architecture.json").write_text(json.dumps(keras1("th")))
    for told, turned in (("", True), ("tensorflow", False)):
        if told:
            sidecar.write(path, weights=told)
        wanted = keras1_forward(weights, norm, turned)
        found = checkpoints.load(path)(IMAGE)
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_an_old_sequential_is_a_bare_list(tmp_path):
    kernel, bias = array(3, 3, 1, 2), array(2)
    conv = {"name": "a", "border_mode": "same", "dim_ordering": "tf"}
    conv |= {"batch_input_shape": [None, None, None, 1], "activation": "tanh"}
    config = {
        "class_name": "Sequential",
        "config": [{"class_name": "Convolution2D", "config": conv}],
    }
    network = checkpoints.load(write(tmp_path / "a.h5", config, {"a": [kernel, bias]}))
    weight = torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy())
    wanted = F.conv2d(IMAGE, weight, torch.from_numpy(bias), padding=1).tanh()
    torch.testing.assert_close(network(IMAGE), wanted, atol=1e-6, rtol=1e-5)


def after(kind, *reads, **config):
    return convs(call(kind, "odd", *(reads or ("conv",)), **config))


def changed(**entry):
    config, weights = convs()
    config["config"]["layers"][1].update(entry)
    return config, weights


REFUSED = {
    "lambda": (after("Lambda", function=["4wEAAAA=", None, None]), "the layer Lambda"),
    "own layer": (after("MyBlock"), "the layer MyBlock"),
    "registered": (after("Mine>Conv2D"), "the layer Mine>Conv2D"),
    "own module": (
        changed(module="os", class_name="system"),
        r"system of os \(system\), a class of its own",
    ),
    "own registration": (
        changed(registered_name="Mine>Conv2D"),
        r"Conv2D of keras \(Mine>Conv2D\), a class of its own",
    ),
    "own model": (
        ({**convs()[0], "class_name": "MyNet"}, convs()[1]),
        "a model of the class MyNet",
    ),
    "own activation": (
        convs(activation={"class_name": "function", "config": "f", "module": "os"}),
        "the activation function",
    ),
    "unknown activation": (convs(activation="mine"), "the activation mine"),
    "layer norm": (after("LayerNormalization"), "the layer LayerNormalization"),
    "old instance norm": (
        after("InstanceNormalization"),
        "the layer InstanceNormalization",
    ),
    "time": (after("ConvLSTM2D"), "the layer ConvLSTM2D"),
    "operation": (
        convs(call("TFOpLambda", "odd", "conv", function="image.resize")),
        "the operation image.resize",
    ),
    "kernel": (
        ({**convs()[0]}, {"conv": [array(3, 3, 5, 2), array(2)]}),
        "weights for",
    ),
    "bias": (({**convs()[0]}, {"conv": [array(3, 3, 1, 2)]}), "1 weights instead of 2"),
    "sum": (
        convs(call("Dense", "three", "conv"), call("Add", "odd", "conv", "three")),
        "a add of .2, 3. channels",
    ),
    "twice": (
        convs(call("Conv2D", "conv", "conv", padding="same")),
        "whose weights are used twice",
    ),
    "reversed": (convs(padding="causal"), "padding causal"),
    "axis": (after("BatchNormalization", axis=1), "a layer along axis 1"),
    "order": (
        convs(
            call("MaxPooling2D", "odd", "conv", data_format="channels_first"),
            data_format="channels_last",
        ),
        "now first, now last",
    ),
    "resize": (after("UpSampling2D", interpolation="area"), "up-sampling of kind area"),
    "joined along space": (
        after("Concatenate", "conv", "conv", axis=1),
        "a layer along axis 1",
    ),
    "joined alone": (after("Merge", mode="sum"), "a Merge of 1 inputs"),
    "flat relu": (after("ReLU", max_value=0.0), "a ReLU with limits 0.0"),
    "great padding": (after("ZeroPadding2D", padding=10**9), "padding 1000000000"),
    "mean pool": (
        after("AveragePooling2D", pool_size=3, strides=2, padding="same"),
        "differs between the sides",
    ),
    "no space": (after("GlobalAveragePooling2D"), "an output without space"),
    "reshape": (after("Reshape", target_shape=[2, 99]), "a new shape"),
    "random": (
        after("Dropout", rate=0.5),
        "called with training=True",
    ),
    "circle": (
        convs(call("Add", "one", "conv", "two"), call("Add", "two", "conv", "one")),
        "layers that wait for each other",
    ),
    "no input": (
        ({"class_name": "Model", "config": {"layers": []}}, {"conv": []}),
        "0 inputs",
    ),
    "no table": (({"class_name": "Model", "config": {}}, {"conv": []}), "does not fit"),
}
REFUSED["sum"][0][1]["three"] = [array(2, 3), array(3)]
REFUSED["random"][0][0]["config"]["layers"][2]["inbound_nodes"] = [
    [["conv", 0, 0, {"training": True}]]
]


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_carried_out_is_named(tmp_path, name):
    (config, weights), words = REFUSED[name]
    path = write(tmp_path / "model.h5", config, weights, keras_version="2.15.0")
    with pytest.raises(ModelError, match=words):
        checkpoints.load(path)


def test_probabilities_that_are_cut_to_size_are_not_probabilities_again(tmp_path):
    config, weights = convs(
        call("ZeroPadding2D", "more", "conv", padding=[1, 1]),
        call("Cropping2D", "less", "more", cropping=[1, 1]),
        activation="sigmoid",
    )
    network = checkpoints.load(write(tmp_path / "a.h5", config, weights))
    assert network.spec.activation == "none"
    assert "activation" not in {a.field for a in network.spec.assumed}


def test_bilinear_of_keras_before_tensorflow_2_is_refused(tmp_path):
    config, weights = after("UpSampling2D", interpolation="bilinear")
    path = write(tmp_path / "a.h5", config, weights, keras_version="2.2.4")
    with pytest.raises(ModelError, match="which shifts the image"):
        checkpoints.load(path)
    checkpoints.load(write(path, config, weights, keras_version="2.2.4-tf"))


def test_weights_alone_say_what_is_missing(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        put(file, convs()[1])
    with pytest.raises(ModelError, match=r"without the model.*model\.to_json"):
        checkpoints.load(tmp_path / "a.h5")


def test_other_hdf5_files_are_said_to_be_so(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["raw"] = np.zeros(3)
    with pytest.raises(ModelError, match="no network that is known: found raw"):
        checkpoints.load(tmp_path / "a.h5")
