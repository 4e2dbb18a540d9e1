"""A network description of Caffe and its weights as a program."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from napari_unet.checkpoints.formats.caffe_layers import (
    Step,
    Tensors,
    Use,
    is_known,
    translate,
)
from napari_unet.checkpoints.formats.caffe_messages import Layer, last, whole
from napari_unet.checkpoints.formats.refusal import Refused

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import torch

    from napari_unet.checkpoints.prototxt import Message

_MOST_LAYERS = 5_000
_ASIDE = {
    *("Input", "HDF5Data", "Data", "MemoryData", "ImageData", "DummyData"),
    *("SoftmaxWithLoss", "SigmoidCrossEntropyLoss", "EuclideanLoss", "InfogainLoss"),
    *("Accuracy", "IoU", "F1", "CreateDeformation"),
}
"""Layers that bring images and labels or measure the output; the output needs none."""
_SINK = "Silence"
_DISTORTIONS = ("ApplyDeformation", "ValueAugmentation")
_ORDER = {"weight": "0", "bias": "1"}
_FINAL = ("softmax", "sigmoid")

Length = tuple[Fraction, Fraction]
"""Length along an axis: the first number times that of the image, plus the second."""


@dataclass(frozen=True)
class Blob:
    """What a layer makes.

    Attributes
    ----------
    step : int
        Number of the step that makes it, -1 for the image.
    channels : int
        How many it has.
    lengths : tuple of Length
        One for each spatial axis.
    """

    step: int
    channels: int
    lengths: tuple[Length, ...]


@dataclass(frozen=True)
class Translated:
    """A network as a program.

    Attributes
    ----------
    program : dict
        As ``hints["program"]``, see `napari_unet.checkpoints.families.program`.
    tensors : dict of str to torch.Tensor
        Named by the steps.
    lost : tuple of Fraction
        Pixels that the output is shorter along each axis.
    unused : list of str
        Layers with weights that no step needs.
    """

    program: dict[str, Any]
    tensors: Tensors
    lost: tuple[Fraction, ...]
    unused: list[str]


def translated(net: Message, weights: Tensors, image: str) -> Translated:
    """Translate a network in phase TEST.

    Parameters
    ----------
    net : dict
        The message, see `napari_unet.checkpoints.prototxt.parse`.
    weights : dict of str to torch.Tensor
        Named by layer and place, such as ``"conv_d0a-b.weight"``.
    image : str
        Name of the blob that is the image.

    Raises
    ------
    Refused
        If a layer is none of those that are carried out, or does not fit its weights.
    """
    if "layers" in net or len(net.get("layer", ())) > _MOST_LAYERS:
        raise Refused("layers as Caffe described them before 2014, or over 5,000")
    layers = [Layer.of(f) for f in net.get("layer", ()) if isinstance(f, dict)]
    layers = [layer for layer in layers if layer.in_test]
    by_layer = _by_layer(weights)
    builder = _Builder(by_layer, image, _image(layers, by_layer))
    for layer in layers:
        builder.add(layer)
    return builder.result()


def _image(layers: Iterable[Layer], weights: Mapping[str, list[torch.Tensor]]) -> Blob:
    """Learn axes and channels of the image from the first convolution."""
    for layer in layers:
        if layer.kind == "Convolution" and layer.name in weights:
            shape = weights[layer.name][0].shape
            groups = whole(layer.settings("convolution_param"), "group", 1)
            length = (Fraction(1), Fraction(0))
            return Blob(-1, shape[1] * groups, (length,) * (len(shape) - 2))
    raise Refused("no convolution that has weights")


def _by_layer(weights: Tensors) -> dict[str, list[torch.Tensor]]:
    """Return the weights of each layer in their order."""
    found: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in weights.items():
        layer, _, place = key.rpartition(".")
        found.setdefault(layer, {})[_ORDER.get(place, place)] = tensor
    return {k: [v[place] for place in sorted(v, key=int)] for k, v in found.items()}


class _Builder:
    """Adds one layer after another."""

    def __init__(
        self, weights: dict[str, list[torch.Tensor]], name: str, image: Blob
    ) -> None:
        self.weights, self.channels = weights, image.channels
        self.ndim = len(image.lengths)
        self.blobs = {name: image}
        self.read: set[str] = set()
        self.used: set[str] = set()
        self.steps: list[dict[str, Any]] = []
        self.tensors: Tensors = {}

    def add(self, layer: Layer) -> None:
        """Add the steps of a layer; those that the output does not need are passed."""
        if layer.kind in _ASIDE:
            return
        if layer.kind == _SINK:
            self.read.update(layer.bottoms)
            return
        if layer.kind not in (*_DISTORTIONS, "Concat") and not is_known(layer.kind):
            raise Refused(f"the layer {layer.name} of type {layer.kind}")
        inputs = [self.blobs[b] for b in layer.bottoms if b in self.blobs]
        if not inputs and layer.kind in _DISTORTIONS:
            return
        if len(inputs) != len(layer.bottoms) or len(layer.tops) != 1 or not inputs:
            raise Refused(f"the layer {layer.name} with {len(layer.bottoms)} inputs")
        self.read.update(layer.bottoms)
        self.read.discard(layer.tops[0])
        made = self._concat(layer, inputs) if layer.kind == "Concat" else None
        self.blobs[layer.tops[0]] = made or self._chain(layer, inputs)

    def _chain(self, layer: Layer, inputs: list[Blob]) -> Blob:
        if len(inputs) != 1:
            raise Refused(f"the layer {layer.name} with {len(inputs)} inputs")
        weights = self.weights.get(layer.name, [])
        self.used.add(layer.name)
        blob = inputs[0]
        for step in translate(Use(layer, weights, blob.channels, self.ndim)):
            blob = self._append(step, blob)
        return blob

    def _append(self, step: Step, blob: Blob) -> Blob:
        kind, settings, tensors = step
        number = len(self.steps)
        self.steps.append({"kind": kind, "inputs": [blob.step], "settings": settings})
        self.tensors |= {f"n{number}.{name}": t for name, t in tensors.items()}
        return Blob(
            number,
            settings.get("out_channels", blob.channels),
            _lengths(kind, settings, blob.lengths),
        )

    def _concat(self, layer: Layer, inputs: list[Blob]) -> Blob:
        """Join blobs, each cropped centrally to the smallest, as caffe_unet does."""
        param = layer.settings("concat_param")
        if last(param, "axis", last(param, "concat_dim", 1)) != 1:
            raise Refused(f"the layer {layer.name} over another axis than channels")
        least = _smallest(layer, inputs)
        cropped = [self._cropped(blob, least) for blob in inputs]
        self.steps.append(
            {"kind": "concat", "inputs": [b.step for b in cropped], "settings": {}}
        )
        channels = sum(b.channels for b in inputs)
        return Blob(len(self.steps) - 1, channels, least)

    def _cropped(self, blob: Blob, wanted: tuple[Length, ...]) -> Blob:
        """Take the pixels off that a blob has too many; always as many."""
        off = [int(a[1] - b[1]) for a, b in zip(blob.lengths, wanted, strict=True)]
        if not any(off):
            return blob
        settings = {
            "before": [-(n // 2) for n in off],
            "after": [-(n - n // 2) for n in off],
        }
        return replace(self._append(("pad", settings, {}), blob), lengths=wanted)

    def result(self) -> Translated:
        """Return the program that gives the one blob nothing reads."""
        outputs = [n for n in self.blobs if n not in self.read]
        if len(outputs) != 1 or self.blobs[outputs[0]].step < 0:
            raise Refused(f"{len(outputs)} outputs: {', '.join(outputs[:4])}")
        output = self.blobs[outputs[0]]
        if any(scale != 1 for scale, _ in output.lengths):
            raise Refused("an output of another resolution than the image")
        final = self._final(output.step)
        kept = output.step + (0 if final else 1)
        program = {
            "ndim": self.ndim,
            "in_channels": self.channels,
            "out_channels": output.channels,
            "steps": self.steps[:kept],
            "activation": final or "softmax",
        }
        names = {f"n{n}" for n in range(kept)}
        tensors = {k: t for k, t in self.tensors.items() if k.split(".")[0] in names}
        lost = tuple(-shift for _, shift in output.lengths)
        unused = [name for name in self.weights if name not in self.used]
        return Translated(program, tensors, lost, unused)

    def _final(self, number: int) -> str:
        """Return the activation that ends the network and is done after it here."""
        step = self.steps[number]
        name = str(step["settings"].get("name", ""))
        return name if name in _FINAL and step["inputs"] == [number - 1] else ""


def _smallest(layer: Layer, inputs: Iterable[Blob]) -> tuple[Length, ...]:
    """Return the least length along each axis, where lengths differ by whole pixels."""
    least = []
    for lengths in zip(*(b.lengths for b in inputs), strict=True):
        scale, shift = min(lengths, key=lambda length: length[1])
        gaps = [s - shift for _, s in lengths]
        if any(s != scale for s, _ in lengths) or any(g.denominator > 1 for g in gaps):
            raise Refused(f"the layer {layer.name} of inputs that do not meet")
        least.append((scale, shift))
    return tuple(least)


def _lengths(
    kind: str, settings: Mapping[str, Any], lengths: tuple[Length, ...]
) -> tuple[Length, ...]:
    """Return the lengths after a step, for images of which no pixel is left over."""
    if "kernel_size" not in settings:
        return lengths
    ones = [1] * len(lengths)
    found = []
    for (scale, shift), kernel, stride, pad, dilation in zip(
        lengths,
        settings["kernel_size"],
        settings["stride"],
        settings["padding"],
        settings.get("dilation", ones),
        strict=True,
    ):
        lost = dilation * (kernel - 1) - 2 * pad
        if kind == "transposed":
            found.append((scale * stride, (shift - 1) * stride + lost + 1))
        else:
            found.append((scale / stride, (shift - lost - 1) / stride + 1))
    return tuple(found)
