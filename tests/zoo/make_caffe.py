"""Store outputs of networks in the Fiji plugin's pattern: ``python make_caffe.py``.

The plugin's own Caffe is no package; OpenCV's reader of Caffe networks runs them. It is
given the same layers with a Crop layer, of offsets in plain numbers, before each
Concat: the plugin's Concat crops by itself, OpenCV's does not. OpenCV reads no 3-D
networks of Caffe; these are run by plain NumPy here, which in 2-D is compared with
OpenCV first.
"""

from __future__ import annotations

import itertools
import struct

import cv2
import numpy as np
import recipe
import torch
from caffe_files import LAYERS, LAYERS_SHAPES, Plan, description, numbers, write
from record import Case, record
from torch import nn


class Weighed(nn.Module):
    """Has weights under the names of the file."""

    def __init__(self, shapes: dict[str, list[int]]) -> None:
        super().__init__()
        for name, shape in shapes.items():
            layer, _, place = name.rpartition(".")
            if not hasattr(self, layer):
                self.add_module(layer, nn.Module())
            value = nn.Parameter(torch.zeros(shape))
            self.get_submodule(layer).register_parameter(place, value)

    def weights(self) -> dict[str, np.ndarray]:
        """Return the weights."""
        return {k: v.detach().numpy() for k, v in self.named_parameters()}


class OpenCV(Weighed):
    """Runs a text with OpenCV."""

    def __init__(
        self, text: str, shapes: dict[str, list[int]], shape: tuple[int, ...]
    ) -> None:
        super().__init__(shapes)
        dims = " ".join(f"dim: {n}" for n in shape)
        self.text = (
            "layer { name: 'in' type: 'Input' top: 'data3' "
            f"input_param {{ shape {{ {dims} }} }} }}\n{text}"
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return what OpenCV gives."""
        model = np.frombuffer(packed(self.weights()), np.uint8)
        text = np.frombuffer(self.text.encode(), np.uint8)
        net = cv2.dnn.readNetFromCaffe(text, model)
        net.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)
        net.enableWinograd(False)
        net.setInput(image.numpy())
        return torch.from_numpy(net.forward())


class Plain(Weighed):
    """Runs a plan with NumPy in double precision."""

    def __init__(self, plan: Plan, shape: tuple[int, ...]) -> None:
        super().__init__(write(plan)[1])
        self.plan, self.offsets = plan, offsets(plan, shape[2:])

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the scores."""
        plan, x = self.plan, image.numpy()[0].astype(np.float64)
        skips, deepest = [], len(plan.widths) - 1
        for n in range(deepest + 1):
            x = self.conv(f"conv_d{n}b-c", self.conv(f"conv_d{n}a-b", x))
            skips.append(x)
            x = largest(x, numbers(plan.strides[n], plan.ndim)) if n < deepest else x
        below = f"d{deepest}c"
        for n in range(deepest - 1, -1, -1):
            x = self.rise(f"upconv_{below}-u{n}a", x)
            places = zip(self.offsets[f"d{n}c"], x.shape[1:], strict=True)
            window = tuple(slice(at, at + size) for at, size in places)
            x = np.concatenate([x, skips[n][(slice(None), *window)]])
            x = self.conv(f"conv_u{n}c-d", self.conv(f"conv_u{n}b-c", x))
            below = f"u{n}d"
        return torch.from_numpy(self.conv("conv_u0d-score", x, ends=True)[None])

    def conv(self, name: str, x: np.ndarray, ends: bool = False) -> np.ndarray:
        """Sum over the kernel and the channels, no padding; ReLU unless it ends."""
        weight, bias = (self.weights()[f"{name}.{n}"] for n in ("weight", "bias"))
        views = np.lib.stride_tricks.sliding_window_view(
            x, weight.shape[2:], tuple(range(1, x.ndim))
        )
        letters = "xyz"[: x.ndim - 1]
        sums = f"c{letters.upper()}{letters},oc{letters}->o{letters.upper()}"
        y = np.einsum(sums, views, weight, optimize=True)
        return self.biased(y, bias, ends)

    def rise(self, name: str, x: np.ndarray) -> np.ndarray:
        """Paint the kernel for each pixel, side by side; ReLU."""
        weight, bias = (self.weights()[f"{name}.{n}"] for n in ("weight", "bias"))
        kernel = weight.shape[2:]
        sizes = [n * k for n, k in zip(x.shape[1:], kernel, strict=True)]
        y = np.zeros((weight.shape[1], *sizes))
        for place in itertools.product(*map(range, kernel)):
            slices = [slice(p, None, k) for p, k in zip(place, kernel, strict=True)]
            taps = weight[(slice(None), slice(None), *place)]
            y[(slice(None), *slices)] = np.tensordot(taps, x, (0, 0))
        return self.biased(y, bias, ends=False)

    def biased(self, y: np.ndarray, bias: np.ndarray, ends: bool) -> np.ndarray:
        """Add the bias."""
        y = y + bias.reshape(-1, *[1] * (y.ndim - 1))
        return y if ends else np.where(y > 0, y, self.plan.slope * y)


def largest(x: np.ndarray, kernel: list[int]) -> np.ndarray:
    """Return the largest value of each block of pixels."""
    blocks = [x.shape[0]]
    for size, k in zip(x.shape[1:], kernel, strict=True):
        blocks += [size // k, k]
    return x.reshape(blocks).max(axis=tuple(range(2, len(blocks), 2)))


def offsets(plan: Plan, size: tuple[int, ...]) -> dict[str, list[int]]:
    """Return where each skip begins to be read, by following sizes of one image."""
    steps = [numbers(s, plan.ndim) for s in plan.strides]
    lost = [
        [2 * (k - 1 - 2 * int(plan.pad)) for k in numbers(text, plan.ndim)]
        for text in plan.kernels
    ]
    now, skips = list(size), []
    for n, off in enumerate(lost):
        now = [a - b for a, b in zip(now, off, strict=True)]
        skips.append(now)
        if n < len(steps):
            assert not any(a % b for a, b in zip(now, steps[n], strict=True)), now
            now = [a // b for a, b in zip(now, steps[n], strict=True)]
    found = {}
    for n in range(len(steps) - 1, -1, -1):
        now = [a * b for a, b in zip(now, steps[n], strict=True)]
        pairs = zip(skips[n], now, strict=True)
        found[f"d{n}c"] = [(a - b) // 2 for a, b in pairs]
        now = [a - b for a, b in zip(now, lost[n], strict=True)]
    return found


def field(number: int, data: bytes) -> bytes:
    """Return a field of bytes as protocol buffers have it."""
    return varint(number << 3 | 2) + varint(len(data)) + data


def varint(value: int) -> bytes:
    """Return a number in groups of seven bits."""
    low = value & 127
    return bytes([low | 128]) + varint(value >> 7) if value > 127 else bytes([low])


def packed(weights: dict[str, np.ndarray]) -> bytes:
    """Return a binary NetParameter: names, types and weights of the layers."""
    layers: dict[str, list[bytes]] = {}
    for key, value in weights.items():
        shape = field(1, b"".join(map(varint, value.shape)))
        numbers = struct.pack(f"<{value.size}f", *value.ravel())
        blob = field(7, shape) + field(5, numbers)
        layers.setdefault(key.rpartition(".")[0], []).append(field(7, blob))
    return b"".join(
        field(100, field(1, name.encode()) + field(2, b"Convolution") + b"".join(blobs))
        for name, blobs in layers.items()
    )


def case(
    name: str, plan: Plan, size: tuple[int, ...], told: dict[str, object] | None = None
) -> Case:
    """Make a case; with `told` the weights are opened without the description."""
    shape = (1, plan.channels, *size)
    if plan.ndim == 3:
        net = Plain(plan, shape)
    else:
        text, shapes = write(plan, crops=offsets(plan, size))
        net = OpenCV(text, shapes, shape)
    if told is None:
        return Case(name, net, shape, "program", hints={"text": description(plan)})
    return Case(name, net, shape, "caffe_unet", settings=told)


def check_plain() -> float:
    """Return how far plain NumPy is from OpenCV on a 2-D network."""
    plan, shape = Plan(), (1, 1, 60, 76)
    image = torch.from_numpy(recipe.image(shape))
    text, shapes = write(plan, crops=offsets(plan, shape[2:]))
    nets = [OpenCV(text, shapes, shape), Plain(plan, shape)]
    values = recipe.fill([(k, s, "float32") for k, s in shapes.items()])
    for net in nets:
        net.load_state_dict({k: torch.from_numpy(v) for k, v in values.items()})
    return float((nets[0](image) - nets[1](image)).abs().max())


FLAT = Plan(kernels=("1 3 3", "3 3 3", "3 3 3"), strides=("1 2 2", "2 2 2"))
DEEP = Plan(
    widths=(4, 4, 6, 6, 8),
    kernels=("3",) * 5,
    strides=("2",) * 4,
    channels=3,
    classes=4,
)
OLD = Plan(old=True, top=6, slope=0.0)
SAME = Plan(pad="1", pool="AVE")
CASES = [
    case("described-2d", Plan(), (60, 76)),
    case("described-2d-five-levels", DEEP, (188, 204)),
    case("described-2d-2015", OLD, (60, 76)),
    case("described-2d-padded-average", SAME, (24, 40)),
    Case(
        *("described-2d-layers", OpenCV(LAYERS, LAYERS_SHAPES, (1, 4, 21, 26))),
        *((1, 4, 21, 26), "program"),
        hints={"text": LAYERS},
    ),
    case("described-3d-flat", FLAT, (20, 60, 60)),
    case("weights-2d", Plan(), (60, 76), {}),
    case("weights-2d-five-levels", DEEP, (188, 204), {}),
    case("weights-2d-2015", OLD, (60, 76), {"slope": 0.0}),
    case("weights-2d-padded", Plan(pad="1"), (24, 40), {"padding": "same"}),
    case("weights-3d-flat", FLAT, (20, 60, 60), {}),
]

if __name__ == "__main__":
    print("plain NumPy and OpenCV differ by", check_plain())
    record("caffe", "", CASES, f"OpenCV {cv2.__version__}, in 3-D NumPy")
