"""Models of the Fiji plugin: two files, what they tell, what is refused."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import torch
from zoo import recipe
from zoo.caffe_files import Plan, description, write, write_caffemodel, write_modeldef

import napari_unet
from napari_unet import checkpoints
from napari_unet.checkpoints.formats.caffe_layers import Use, translate
from napari_unet.checkpoints.formats.caffe_messages import Layer, axes
from napari_unet.checkpoints.formats.refusal import Refused
from napari_unet.checkpoints.prototxt import parse
from napari_unet.errors import ModelError
from napari_unet.networks.program import Program, ProgramSpec

pytestmark = pytest.mark.usefixtures("in_process")

WEIGHTS, MODEL = "net.caffemodel.h5", "net.modeldef.h5"
PLAIN = Plan()
FLAT = Plan(kernels=("1 3 3", "3 3 3", "3 3 3"), strides=("1 2 2", "2 2 2"))


def values(plan=PLAIN):
    shapes = write(plan)[1]
    return recipe.fill([(name, shape, "float32") for name, shape in shapes.items()])


def model(folder, plan=PLAIN, text="", weights=None, **settings):
    """Write both files; returns the weights' path."""
    write_modeldef(folder / MODEL, text or description(plan), **settings)
    write_caffemodel(folder / WEIGHTS, weights or values(plan))
    return folder / WEIGHTS


def test_both_files_and_their_folder_open_the_same(tmp_path):
    path = model(tmp_path)
    found = [checkpoints.load(p) for p in (path, tmp_path / MODEL, tmp_path)]
    assert len({network.digest for network in found}) == 1
    assert {n.spec.family for n in found} == {"program"}
    assert found[0].spec.assumed == ()


def test_what_is_known_about_images_travels_with_the_model(tmp_path):
    classes = ["Background", "cell"]
    path = model(tmp_path, classNames=classes, padInput=[60], padOutput=[20])
    network = checkpoints.load(path)
    spec, norm = network.spec, network.spec.normalization[0]
    assert spec.name == "Small net"
    assert spec.spacing == {"Y": 0.5, "X": 0.5}
    assert spec.class_names == ("Background", "cell")
    assert spec.activation == "softmax"
    assert (norm.kind, norm.joint, norm.eps) == ("minmax", True, 0.0)
    assert network.geometry.margin == (20, 20)
    assert network.geometry.exact
    assert spec.provenance["notes"] == []


def test_axes_of_a_volume_come_slowest_first(tmp_path):
    path = model(tmp_path, FLAT, element_size_um=[2.0, 0.5, 0.25], normalization_type=2)
    network = checkpoints.load(path)
    assert network.spec.spacing == {"Z": 2.0, "Y": 0.5, "X": 0.25}
    assert network.spec.normalization[0].kind == "zscore"
    assert network.geometry.margin == (8, 20, 20)
    assert network.geometry.stride == (2, 4, 4)


@pytest.mark.parametrize(("kind", "word"), [(3, "largest value"), ("?", "declared")])
def test_a_scaling_that_is_not_done_is_listed_as_assumed(tmp_path, kind, word):
    path = model(tmp_path, normalization_type=kind)
    (assumed,) = checkpoints.load(path).spec.assumed
    assert assumed.field == "normalization"
    assert word in assumed.reason


def test_what_does_not_agree_is_noted(tmp_path):
    extra = {**values(), "old.weight": np.zeros((1, 1, 3, 3), np.float32)}
    sizes = {"padInput": [60, 60], "padOutput": [40, 20]}
    path = model(tmp_path, weights=extra, padding="zero", classNames=["a"], **sizes)
    spec = checkpoints.load(path).spec
    notes = " ".join(spec.provenance["notes"])
    assert "weights of old" in notes
    assert "take [40, 40] pixels off the image, the description says [20, 40]" in notes
    assert "mirrored" in notes
    assert spec.class_names == ()


def test_a_run_over_an_image_equals_the_mirrored_whole(tmp_path):
    path = model(tmp_path)
    image = np.random.default_rng(3).integers(0, 255, (61, 70)).astype(np.uint8)
    found = napari_unet.predict(
        image, path, kind="logits", device="cpu", tiling="exact", tile=(24, 28)
    )
    scaled = (image - image.min()) / (image.max() - image.min())
    whole = np.pad(scaled.astype(np.float32), [(20, 23), (20, 22)], mode="reflect")
    network = checkpoints.load(path)
    expected = network(whole[None, None])[0, :, :61, :70].numpy()
    np.testing.assert_allclose(np.asarray(found), expected, atol=1e-5)


def test_weights_alone_are_read_by_the_published_names(tmp_path):
    described = checkpoints.load(model(tmp_path, FLAT))
    (tmp_path / MODEL).unlink()
    bare = checkpoints.load(tmp_path / WEIGHTS)
    assert bare.spec.family == "caffe_unet"
    fields = [a.field for a in bare.spec.assumed]
    assert fields == ["normalization", "architecture.slope", "architecture.padding"]
    image = torch.from_numpy(recipe.image((1, 1, 20, 60, 60)))
    assert torch.equal(bare(image), described(image))
    assert bare.geometry == described.geometry


def test_other_weights_alone_are_refused_with_what_is_lacking(tmp_path):
    weights = {k: v for k, v in values().items() if not k.startswith("conv_u0c-d")}
    write_caffemodel(tmp_path / WEIGHTS, weights)
    with pytest.raises(ModelError, match="lacking conv_u0c-d"):
        checkpoints.load(tmp_path / WEIGHTS)


def test_weights_of_other_names_ask_for_their_description(tmp_path):
    write_caffemodel(tmp_path / WEIGHTS, {"ip.weight": np.ones((2, 3), np.float32)})
    with pytest.raises(ModelError, match=r"not its layers: found .* ip\.weight"):
        checkpoints.load(tmp_path / WEIGHTS)


def test_a_description_alone_asks_for_its_weights(tmp_path):
    model(tmp_path).unlink()
    with pytest.raises(ModelError, match="holds no weights"):
        checkpoints.load(tmp_path / MODEL)


def test_files_of_one_name_belong_together(tmp_path):
    path = model(tmp_path)
    other = Plan(slope=0.0)
    write_modeldef(tmp_path / "other.modeldef.h5", description(other))
    write_caffemodel(tmp_path / "tuned.caffemodel.h5", values())
    assert checkpoints.load(path).spec.architecture["steps"][1]["settings"]["slope"]
    for name in ("other.modeldef.h5", "tuned.caffemodel.h5", ""):
        with pytest.raises(ModelError, match="not clear which files"):
            checkpoints.load(tmp_path / name)


def test_files_that_are_not_what_their_names_say_are_refused(tmp_path):
    write_caffemodel(tmp_path / WEIGHTS, values())
    write_caffemodel(tmp_path / MODEL, values())
    with pytest.raises(ModelError, match=r"net.modeldef.h5 is not what its name says"):
        checkpoints.load(tmp_path / WEIGHTS)


def test_other_files_beside_them_are_opened_by_themselves(tmp_path):
    model(tmp_path)
    torch.save({"weight": torch.zeros(3)}, tmp_path / "net.pth")
    with pytest.raises(ModelError, match="no network weights"):
        checkpoints.load(tmp_path / "net.pth")


END = "layer { name: 'end' type: 'Softmax' bottom: 'score' top: 'p' }"
RULES = (
    "layer {{ name: 'x' type: 'Python' bottom: 'score' top: 'x' {} "
    "python_param {{ module: 'os' }} }}"
)


@pytest.mark.parametrize(
    "rule",
    [
        "include: { phase: TRAIN }",
        "exclude { phase: TEST }",
        "exclude { }",
        "include { stage: 'measure' }",
        "include { min_level: 1 }",
    ],
)
def test_layers_of_training_are_passed_over(tmp_path, rule):
    text = description(PLAIN) + END + RULES.format(rule)
    path = model(tmp_path, text=text)
    spec = checkpoints.load(path).spec
    assert spec.activation == "softmax"
    assert spec.architecture["steps"][-1]["kind"] == "conv"


def test_what_is_silenced_is_no_output(tmp_path):
    aside = layer("Sigmoid", bottoms="bottom: 'd0c'", top="seen")
    silence = "layer { type: 'Silence' bottom: 'seen' }"
    path = model(tmp_path, text=description(PLAIN) + aside + silence)
    network = checkpoints.load(path)
    assert network.spec.architecture["steps"][-1]["kind"] == "conv"


def layer(kind, more="", bottoms="bottom: 'score'", top="p"):
    return f"layer {{ name: 'x' type: '{kind}' {bottoms} top: '{top}' {more} }}"


REFUSED = {
    "the layer x of type Python": RULES.format(""),
    "the layer x of type Crop": layer("Crop", bottoms="bottom: 'score' bottom: 'd0c'"),
    "ValueAugmentation": layer("ValueAugmentation"),
    "another kind than MAX": layer("Pooling", "pooling_param { pool: STOCHASTIC }"),
    "over half its kernel": layer(
        "Pooling", "pooling_param { kernel_size: 3 stride: 3 pad: 2 }"
    ),
    "over another axis": layer("Softmax", "softmax_param { axis: 2 }"),
    "with 2 inputs": layer("ReLU", bottoms="bottom: 'score' bottom: 'd0c'"),
    "with 1 inputs": layer("ReLU", bottoms="bottom: 'nothing'"),
    "2 outputs": layer("ReLU", bottoms="bottom: 'd0c'"),
    "do not meet": layer("Concat", bottoms="bottom: 'score' bottom: 'd1c'"),
    "0 weights for the layer x": layer(
        "Convolution", "convolution_param { num_output: 2 kernel_size: 1 }"
    ),
    "another resolution": layer("Pooling", "pooling_param { kernel_size: 2 stride: 2}"),
    "num_output 99999999": layer(
        "Convolution", "convolution_param { num_output: 99999999 kernel_size: 1 }"
    ),
    "3 numbers kernel_size for 2 axes": layer(
        "Pooling", "pooling_param { kernel_size: [1, 2, 2] }"
    ),
    "kernel_size None": layer("Pooling"),
    "values that do not fit": layer("ReLU", "relu_param { negative_slope: 'much' }"),
    "over 5,000": "layers { }",
}


@pytest.mark.parametrize("words", REFUSED)
def test_layers_that_are_not_carried_out_are_named(tmp_path, words):
    path = model(tmp_path, text=description(PLAIN) + REFUSED[words])
    with pytest.raises(ModelError, match=words):
        checkpoints.load(path)


def test_weights_of_other_shapes_are_named(tmp_path):
    odd = {"conv_u0d-score.weight": np.zeros((2, 4, 3, 3), np.float32)}
    weights = {**values(), **odd}
    with pytest.raises(ModelError, match=r"shape \(2, 4, 3, 3\) for the layer conv_u0"):
        checkpoints.load(model(tmp_path, weights=weights))


@pytest.mark.parametrize("text", ["layer {" * 50, "layer: 1 x", "a: " + "9" * 999])
def test_text_that_cannot_be_read_is_refused(tmp_path, text):
    with pytest.raises(ModelError, match="no readable network description"):
        checkpoints.load(model(tmp_path, text=text))


@pytest.mark.parametrize("name", ["model_prototxt", "unet_param/name", "data/x/0"])
def test_links_to_other_files_are_refused(tmp_path, name):
    path = model(tmp_path)
    changed = path if name.startswith("data") else tmp_path / MODEL
    with h5py.File(changed, "a") as file:
        file.pop(name, None)
        file[name] = h5py.ExternalLink("secret.h5", "text")
    with pytest.raises(ModelError, match="a link that is not followed"):
        checkpoints.load(path)


def carried(text, weights, channels):
    """Return what the steps of one layer make of an image, and the image."""
    layer = Layer.of(parse(text)["layer"][0])
    steps = translate(Use(layer, weights, channels, 2))
    listed, tensors = [], {}
    for n, (kind, settings, named) in enumerate(steps):
        listed.append({"kind": kind, "inputs": [n - 1], "settings": settings})
        tensors |= {f"n{n}.{name}": tensor for name, tensor in named.items()}
    ends = {"in_channels": channels, "out_channels": channels}
    module = Program(ProgramSpec(ndim=2, steps=listed, **ends)).eval()
    module.load_state_dict(tensors, strict=False)
    image = torch.from_numpy(recipe.image((1, channels, 4, 5)))
    return module(image), image


def test_batch_norm_divides_its_sums_and_scale_follows():
    mean, var = torch.tensor([2.0, 4.0]), torch.tensor([8.0, 2.0])
    text = "layer { type: 'BatchNorm' batch_norm_param { eps: 0.5 } }"
    found, image = carried(text, [mean, var, torch.tensor([2.0])], 2)
    mean, var = (v.view(1, 2, 1, 1) / 2 for v in (mean, var))
    torch.testing.assert_close(found, (image - mean) / (var + 0.5).sqrt())

    text = "layer { type: 'Scale' scale_param { bias_term: true } }"
    pair = [torch.tensor([2.0, 3.0]), torch.tensor([1.0, -1.0])]
    found, image = carried(text, pair, 2)
    gain, offset = (v.view(1, 2, 1, 1) for v in pair)
    torch.testing.assert_close(found, image * gain + offset)


def test_values_are_shifted_then_scaled():
    text = (
        "layer { type: 'ValueTransformation' value_transformation_param "
        "{ offset { v: -0.5 } scale { v: 2 v: 4 } } }"
    )
    found, image = carried(text, [], 2)
    gain = torch.tensor([2.0, 4.0]).view(1, 2, 1, 1)
    torch.testing.assert_close(found, (image - 0.5) * gain)


def test_batch_norm_of_the_image_itself_is_refused():
    text = "layer { type: 'BatchNorm' batch_norm_param { use_global_stats: false } }"
    with pytest.raises(Refused, match="statistics of the image"):
        carried(text, [torch.ones(2)] * 3, 2)


def test_numbers_of_two_axes_may_come_one_by_one():
    assert axes({"pad_h": [2]}, "pad", 2, 0, least=0) == (2, 0)
    assert axes({"kernel_h": [3], "kernel_w": [1]}, "kernel_size", 2) == (3, 1)
    with pytest.raises(Refused, match="kernel_size None"):
        axes({"kernel_h": [3]}, "kernel_size", 2)
    with pytest.raises(Refused, match="stride 0"):
        axes({"stride": [0]}, "stride", 3, 1)
