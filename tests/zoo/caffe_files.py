"""Files of the U-Net plugin for Fiji: descriptions of networks, and both HDF5 files.

The layers, their names and what is stored where follow the plugin's own reader and
writer (lmb-freiburg/Unet-Segmentation, ModelDefinition.java and caffe/caffe.proto).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import h5py

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np

TRAINING = """
layer {{ name: 'loaddata' type: 'HDF5Data' top: 'data' top: 'labels' top: 'weights'
        include: {{ phase: TRAIN }}
        hdf5_data_param {{ source: 'C:\\\\data.txt' batch_size: 1 shuffle: true }} }}
layer {{ name: 'create_deformation' type: 'CreateDeformation' top: 'def'
        include: {{ phase: TRAIN }} }}
layer {{ name: 'augment' type: 'ValueAugmentation' bottom: 'data' top: '{image}'
        include: {{ phase: TRAIN }} }}
layer {{ name: 'odd' type: 'Python' bottom: 'labels' top: 'odd'
        include {{ phase: TRAIN }} python_param {{ module: "os" }} }}
"""
LOSS = """
layer {{ name: 'loss' type: 'SoftmaxWithLoss' bottom: '{score}' bottom: 'labels'
        bottom: 'weights' top: 'loss' include: {{ phase: TRAIN }} }}
"""
LAYERS = """
layer { bottom: 'data3' top: 'a' name: 'a' type: 'Convolution'
  convolution_param { num_output: 8 group: 2 kernel_h: 3 kernel_w: 5 pad_h: 1 pad_w: 2
    stride_h: 1 stride_w: 1 } }
layer { bottom: 'a' top: 'b' name: 'b' type: 'Pooling'
  pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 } }
layer { bottom: 'a' top: 'c' name: 'c' type: 'Pooling'
  pooling_param { pool: MAX kernel_size: 3 stride: 2 pad: 1 } }
layer { bottom: 'b' bottom: 'c' top: 'd' name: 'd' type: 'Concat' }
layer { bottom: 'd' top: 'e' name: 'e' type: 'Convolution'
  convolution_param { num_output: 8 kernel_size: 3 dilation: 2 pad: 2
    bias_term: false } }
layer { bottom: 'e' top: 'f' name: 'f' type: 'Sigmoid' }
layer { bottom: 'f' top: 'g' name: 'g' type: 'Deconvolution'
  convolution_param { num_output: 4 group: 2 kernel_size: 4 stride: 2 pad: 1 } }
"""
"""What no published network has: groups, dilation, poolings that overlap."""

LAYERS_SHAPES = {
    **{"a.weight": [8, 2, 3, 5], "a.bias": [8], "e.weight": [8, 16, 3, 3]},
    **{"g.weight": [8, 2, 4, 4], "g.bias": [4]},
}

PLACES = {"weight": "0", "bias": "1"}
IMAGE = "data3"
"""Name of the image, behind the layers that change it in training."""


@dataclass(frozen=True)
class Plan:
    """A network in the pattern of the published ones.

    Attributes
    ----------
    widths : tuple of int
        Channels of each level from the top.
    channels, classes : int
        In and out.
    kernels : tuple of str
        Of the convolutions of each level, as the text has it.
    strides : tuple of str
        Between the levels.
    pad : str
        Of all 3 x 3 convolutions.
    slope : float
        Of ReLU below 0.
    top : int
        Channels of the last up-sampling; as many as its level when 0.
    pool : str
        MAX or AVE.
    old : bool
        Names of up-sampling as in the release of 2015.
    """

    widths: tuple[int, ...] = (4, 6, 8)
    channels: int = 1
    classes: int = 2
    kernels: tuple[str, ...] = ("3", "3", "3")
    strides: tuple[str, ...] = ("2", "2")
    pad: str = "0"
    slope: float = 0.1
    top: int = 0
    pool: str = "MAX"
    old: bool = False

    @property
    def ndim(self) -> int:
        """Number of spatial axes: as many as a kernel has numbers, else 2."""
        return max(2, *(len(k.split()) for k in self.kernels))

    def risen(self, level: int) -> int:
        """Return the channels of a level going up."""
        return self.top if self.top and not level else self.widths[level]


def numbers(text: str, ndim: int) -> list[int]:
    """Return one number for each axis."""
    values = [int(n) for n in text.split()]
    return values * ndim if len(values) == 1 else values


def _repeat(field: str, text: str) -> str:
    return " ".join(f"{field}: {n}" for n in text.split())


class Writer:
    """Writes the layers of a plan one after another, and the shapes of their weights.

    Attributes
    ----------
    shapes : dict of str to list of int
        As ``"conv_d0a-b.weight"``.
    """

    def __init__(self, plan: Plan, crops: Mapping[str, Sequence[int]] | None) -> None:
        self.plan, self.crops = plan, crops
        self.text: list[str] = []
        self.shapes: dict[str, list[int]] = {}

    def layer(
        self, name: str, kind: str, bottoms: str, top: str, more: str = ""
    ) -> None:
        """Add a layer."""
        reads = " ".join(f"bottom: '{b}'" for b in bottoms.split())
        self.text.append(
            f"layer {{ {reads} top: '{top}' name: '{name}' type: '{kind}' {more} }}"
        )

    def down(self, n: int) -> None:
        """Add a level going down."""
        plan, width = self.plan, self.plan.widths[n]
        above, kernel = ((plan.channels, *plan.widths)[n], plan.kernels[n])
        if n:
            self.pool(n)
        bottom = f"d{n}a" if n else IMAGE
        self.conv(f"conv_d{n}a-b", bottom, f"d{n}b", (above, width), kernel)
        self.relu(f"d{n}b")
        self.conv(f"conv_d{n}b-c", f"d{n}b", f"d{n}c", (width, width), kernel)
        self.relu(f"d{n}c")
        if n >= len(plan.widths) - 2:
            self.layer(f"dropout_d{n}c", "Dropout", f"d{n}c", f"d{n}c")

    def pool(self, n: int) -> None:
        """Add the pooling that leads to a level."""
        step = self.plan.strides[n - 1]
        sizes = f"{_repeat('kernel_size', step)} {_repeat('stride', step)}"
        param = f"pooling_param {{ pool: {self.plan.pool} {sizes} }}"
        self.layer(f"pool_d{n - 1}c-{n}a", "Pooling", f"d{n - 1}c", f"d{n}a", param)

    def up(self, n: int) -> None:
        """Add a level going up."""
        plan, width = self.plan, self.plan.risen(n)
        is_first = n == len(plan.widths) - 2
        blob = f"d{n + 1}c" if is_first else f"u{n + 1}d"
        below = plan.widths[-1] if is_first else plan.risen(n + 1)
        name = f"upconv_{blob}{'_' if plan.old else '-'}u{n}a"
        self.rise(name, blob, f"u{n}a", (below, width), plan.strides[n])
        self.relu(f"u{n}a")
        self.join(n)
        joined = width + plan.widths[n]
        kernel = plan.kernels[n]
        self.conv(f"conv_u{n}b-c", f"u{n}b", f"u{n}c", (joined, width), kernel)
        self.relu(f"u{n}c")
        self.conv(f"conv_u{n}c-d", f"u{n}c", f"u{n}d", (width, width), kernel)
        self.relu(f"u{n}d")

    def relu(self, blob: str) -> None:
        """Add a ReLU in place."""
        slope = self.plan.slope
        param = f"relu_param {{ negative_slope: {slope} }}" if slope else ""
        self.layer(f"relu_{blob}", "ReLU", blob, blob, param)

    def conv(
        self, name: str, bottom: str, top: str, ends: tuple[int, int], kernel: str
    ) -> None:
        """Add a convolution from and to numbers of channels."""
        pad = self.plan.pad if kernel != "1" else "0"
        param = (
            f"param {{ lr_mult: 1 decay_mult: 1 }} param {{ lr_mult: 2 }} "
            f"convolution_param {{ num_output: {ends[1]} {_repeat('pad', pad)} "
            f"{_repeat('kernel_size', kernel)} engine: CAFFE "
            f"weight_filler {{ type: 'msra' }} }}"
        )
        self.layer(name, "Convolution", bottom, top, param)
        self._weigh(name, [ends[1], ends[0], *numbers(kernel, self.plan.ndim)], ends[1])

    def rise(self, name: str, bottom: str, top: str, ends: tuple[int, int], k: str):
        """Add an up-convolution."""
        sizes = f"{_repeat('kernel_size', k)} {_repeat('stride', k)}"
        param = f"convolution_param {{ num_output: {ends[1]} pad: 0 {sizes} }}"
        self.layer(name, "Deconvolution", bottom, top, param)
        self._weigh(name, [*ends, *numbers(k, self.plan.ndim)], ends[1])

    def join(self, level: int) -> None:
        """Add the concatenation of a level, behind a crop where one is asked for."""
        up, skip = f"u{level}a", f"d{level}c"
        if self.crops is not None:
            offset = " ".join(f"offset: {n}" for n in self.crops[skip])
            param = f"crop_param {{ axis: 2 {offset} }}"
            self.layer(f"crop_{skip}", "Crop", f"{skip} {up}", f"{skip}c", param)
            skip = f"{skip}c"
        self.layer(f"concat_{level}", "Concat", f"{up} {skip}", f"u{level}b")

    def _weigh(self, name: str, weight: list[int], outputs: int) -> None:
        self.shapes |= {f"{name}.weight": weight, f"{name}.bias": [outputs]}


def write(
    plan: Plan, crops: Mapping[str, Sequence[int]] | None = None
) -> tuple[str, dict[str, list[int]]]:
    """Return the text of the layers of a plan, and the shapes of its weights.

    Parameters
    ----------
    plan : Plan
        What is described.
    crops : mapping of str to sequence of int, optional
        Where each skip is cropped, for a Caffe whose Concat does not crop.
    """
    out = Writer(plan, crops)
    for level in range(len(plan.widths)):
        out.down(level)
    for level in range(len(plan.widths) - 2, -1, -1):
        out.up(level)
    ends = (plan.risen(0), plan.classes)
    out.conv("conv_u0d-score", "u0d", "score", ends, "1")
    return "\n".join(out.text), out.shapes


def description(plan: Plan) -> str:
    """Return the text of a description with what works in training only."""
    aside, loss = TRAINING.format(image=IMAGE), LOSS.format(score="score")
    return f"name: 'unet'\nforce_backward: true\n{aside}\n{write(plan)[0]}\n{loss}"


def write_modeldef(path: Path, text: str, **settings: object) -> None:
    """Write a description; `settings` go below ``/unet_param``."""
    known = {
        "name": "Small net",
        "description": "A test",
        "input_blob_name": IMAGE,
        "padding": "mirror",
        "normalization_type": 1,
        "element_size_um": [0.5, 0.5],
        **settings,
    }
    with h5py.File(path, "w") as file:
        file["__DATA_TYPES__/String_VariableLength"] = h5py.string_dtype()
        file[".unet-ident"] = "00000000-test"
        file["model_prototxt"] = text
        file["solver_prototxt"] = "base_lr: 1e-4"
        for name, value in known.items():
            file[f"unet_param/{name}"] = value


def write_caffemodel(path: Path, weights: Mapping[str, np.ndarray]) -> None:
    """Write weights, named as ``"conv_d0a-b.weight"``."""
    with h5py.File(path, "w") as file:
        for name, value in weights.items():
            layer, _, place = name.rpartition(".")
            file[f"data/{layer}/{PLACES.get(place, place)}"] = value
