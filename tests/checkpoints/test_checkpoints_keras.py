"""Keras' files and configurations, without Keras."""

from __future__ import annotations

import gzip
import json
import zipfile

import h5py
import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from zoo import keras_files, recipe
from zoo.opened import opened
from zoo.stored_cases import STORED, cases

from napari_unet import checkpoints
from napari_unet.checkpoints import sidecar
from napari_unet.errors import ModelError

pytestmark = pytest.mark.usefixtures("in_process")
DRAW = np.random.default_rng(3)
IMAGE = torch.randn(1, 1, 16, 24, generator=torch.Generator().manual_seed(0))
CASES = {f"{case.library}-{case.name}": case for case in cases()}


def array(*shape):
    return DRAW.normal(0, 0.4, shape).astype(np.float32)


def stored(name, folder):
    """Write a file as Keras wrote it, under a name that tells nothing."""
    path = folder / "model.any"
    path.write_bytes(gzip.decompress((STORED / f"{name}.gz").read_bytes()))
    return path


@pytest.mark.parametrize(
    "name", ["keras3_15.keras", "keras3_15_old.h5", "keras2_15.h5", "keras2_13.keras"]
)
def test_files_as_keras_wrote_them(tmp_path, name):
    network = checkpoints.load(stored(name, tmp_path))
    output = network(torch.from_numpy(recipe.image((1, 1, 16, 24)))).sigmoid()
    wanted = np.load((STORED / name).with_suffix(".npy"))
    assert network.spec.activation == "sigmoid"
    assert "activation" not in {a.field for a in network.spec.assumed}
    np.testing.assert_allclose(output, wanted, atol=1e-6)
    assert network.geometry.exact
    assert network.geometry.stride == (2, 2)


@pytest.mark.parametrize(
    "name",
    [
        *("keras3-unet-2d-strided-k3", "keras3-unet-2d-even-kernels"),
        *("keras3-transposed-2d", "keras2-separable", "keras2-unet-2d-valid"),
    ],
)
def test_tiles_with_the_derived_halo_give_the_whole_images_output(name):
    network, _ = opened(CASES[name])
    geometry, size = network.geometry, 128
    assert geometry.exact
    step, margin = geometry.stride[0], geometry.margin[0]
    image = torch.randn(1, network.spec.in_channels, size + 2 * margin, 64)
    whole = network(image)
    start, end = (size // 2 // step * step, size // 2 // step * step + 2 * step)
    before, after = (-(-n // step) * step for n in geometry.halo[0])
    tile = image[:, :, start - before : end + after + 2 * margin]
    part = network(tile)[:, :, before : before + end - start]
    torch.testing.assert_close(part, whole[:, :, start:end], atol=1e-5, rtol=1e-5)


# Configurations by hand: old dialects, and what is refused.


def call(kind, name, *reads, **config):
    """One layer of a graph in the words of Keras 1 and 2."""
    nodes = [[[read, 0, 0, {}] for read in reads]] if reads else []
    config = {"name": name, **config}
    return {
        **{"class_name": kind, "name": name, "config": config, "inbound_nodes": nodes}
    }


def model(*layers, kind="Model"):
    """A graph from its first layer to its last."""
    ends = [[layers[0]["name"], 0, 0]], [[layers[-1]["name"], 0, 0]]
    config = {"layers": layers, "input_layers": ends[0], "output_layers": ends[1]}
    return {"class_name": kind, "config": config}


def write(path, config, weights, **attributes):
    """Write a whole model in the old format; weights are {layer: [arrays]}."""
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(config)
        for key, value in attributes.items():
            file.attrs[key] = value
        put(file.create_group("model_weights"), weights)
    return path


def put(group, weights):
    group.attrs["layer_names"] = np.array([n.encode() for n in weights])
    for layer, arrays in weights.items():
        names = [f"{layer}_{n}" for n in range(len(arrays))]
        inside = group.create_group(layer)
        inside.attrs["weight_names"] = np.array([n.encode() for n in names])
        for name, values in zip(names, arrays, strict=True):
            inside[name] = values


def image_input(*shape):
    return call("InputLayer", "image", batch_input_shape=[None, *shape])


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


def convs(*more, **config):
    """A model of one convolution and what follows it, with its weights."""
    first = call("Conv2D", "conv", "image", **{"padding": "same", **config})
    weights = {"conv": [array(3, 3, 1, 2), array(2)]}
    return model(image_input(None, None, 1), first, *more), weights


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
    "kernel": (({**convs()[0]}, {"conv": [array(3, 3, 5, 2), array(2)]}), "a kernel"),
    "bias": (({**convs()[0]}, {"conv": [array(3, 3, 1, 2)]}), "1 weights instead of 2"),
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
REFUSED["random"][0][0]["config"]["layers"][2]["inbound_nodes"] = [
    [["conv", 0, 0, {"training": True}]]
]


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_carried_out_is_named(tmp_path, name):
    (config, weights), words = REFUSED[name]
    path = write(tmp_path / "model.h5", config, weights, keras_version="2.15.0")
    with pytest.raises(ModelError, match=words):
        checkpoints.load(path)


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


# Folders.


def test_weights_with_their_configuration(tmp_path):
    config, weights = convs()
    with h5py.File(tmp_path / "net.h5", "w") as file:
        put(file, weights)
    (tmp_path / "net.json").write_text(json.dumps({**config, "keras_version": "2.15"}))
    kernel, bias = weights["conv"]
    weight = torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy())
    wanted = F.conv2d(IMAGE, weight, torch.from_numpy(bias), padding=1)
    for path in (tmp_path, tmp_path / "net.h5"):
        network = checkpoints.load(path)
        torch.testing.assert_close(network(IMAGE), wanted, atol=1e-6, rtol=1e-5)
        assert "configuration" in network.spec.provenance["container"]
    digest = network.digest
    (tmp_path / "net.json").write_text(json.dumps({**config, "keras_version": "2.14"}))
    assert checkpoints.load(tmp_path).digest != digest


def test_weights_of_keras_3_with_their_configuration(tmp_path):
    file = CASES["keras3-nested"].facts["file"]
    whole = keras_files.put_together(file, tmp_path / "whole.keras")
    wanted = checkpoints.load(whole)
    (tmp_path / "net").mkdir()
    with zipfile.ZipFile(whole) as archive:
        data = archive.read("model.weights.h5")
        (tmp_path / "net/a.weights.h5").write_bytes(data)
        (tmp_path / "net/config.json").write_bytes(archive.read("config.json"))
    network = checkpoints.load(tmp_path / "net/a.weights.h5")
    image = torch.randn(1, 3, 16, 16)
    assert torch.equal(network(image), wanted(image))


def test_other_json_beside_weights_changes_nothing(tmp_path):
    config, weights = convs()
    path = write(tmp_path / "net.h5", config, weights)
    (tmp_path / "notes.json").write_text("[1, 2]")
    assert checkpoints.load(path).spec.provenance["container"] == "HDF5 file"
    with pytest.raises(
        ModelError, match=r"no configuration of Keras: found notes\.json"
    ):
        checkpoints.load(tmp_path)


def test_a_folder_of_napari_unet_1_is_scaled_as_there(tmp_path):
    stored("keras3_15.keras", tmp_path).rename(tmp_path / "best.keras")
    (tmp_path / "settings.json").write_text('{"unet_depth": 1, "initial_filters": 4}')
    for path in (tmp_path, tmp_path / "best.keras"):
        spec = checkpoints.load(path).spec
        assert [n.kind for n in spec.normalization] == ["minmax"]
        assert "normalization" not in {a.field for a in spec.assumed}
    (tmp_path / "settings.json").write_text("{}")
    spec = checkpoints.load(tmp_path / "best.keras").spec
    assert "normalization" in {a.field for a in spec.assumed}


@pytest.mark.parametrize("factor", [1.0, 1.5])
def test_a_bioimageio_package_proves_keras_weights(tmp_path, factor):
    stored("keras2_15.h5", tmp_path).rename(tmp_path / "net.h5")
    image = np.moveaxis(recipe.image((1, 1, 16, 24)), 1, -1)
    output = np.load(STORED / "keras2_15.npy")
    np.save(tmp_path / "in.npy", image)
    np.save(tmp_path / "out.npy", np.moveaxis(output, 1, -1) * np.float32(factor))
    tensor = {"name": "a", "axes": "byxc", "shape": [1, 16, 24, 1]}
    facts = {
        "type": "model",
        "format_version": "0.4.9",
        "name": "Little",
        "inputs": [tensor],
        "outputs": [{**tensor, "name": "b"}],
        "test_inputs": ["in.npy"],
        "test_outputs": ["out.npy"],
        "weights": {"keras_hdf5": {"source": "net.h5"}},
    }
    (tmp_path / "rdf.yaml").write_text(yaml.safe_dump(facts))
    if factor == 1.0:
        network = checkpoints.load(tmp_path)
        assert network.spec.activation == "sigmoid"
        assert network.spec.provenance["test"]["difference"] < 1e-6
    else:
        with pytest.raises(ModelError, match="does not give the outputs"):
            checkpoints.load(tmp_path)
