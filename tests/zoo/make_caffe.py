"""Store outputs of networks in the Fiji plugin's pattern: ``python make_caffe.py``.

The plugin's own Caffe is no package; OpenCV's reader of Caffe networks runs them. It is
given the same layers with a Crop layer, of offsets in plain numbers, before each
Concat: the plugin's Concat crops by itself, OpenCV's does not.
"""

from __future__ import annotations

import struct
from dataclasses import asdict

import caffe_files
import cv2
import numpy as np
import torch
from record import Case, record
from torch import nn


class OpenCV(nn.Module):
    """Runs a plan; its weights are parameters under the names of the file."""

    def __init__(self, plan: caffe_files.Plan, size: tuple[int, ...]) -> None:
        super().__init__()
        crops = offsets(plan, size)
        text, self.shapes = caffe_files.write(plan, crops=crops)
        dims = " ".join(f"dim: {n}" for n in (1, plan.channels, *size))
        self.text = (
            "layer { name: 'in' type: 'Input' top: 'data3' "
            f"input_param {{ shape {{ {dims} }} }} }}\n{text}"
        )
        for name, shape in self.shapes.items():
            self.register_parameter(name, nn.Parameter(torch.zeros(shape)))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return what OpenCV gives."""
        weights = {k: v.detach().numpy() for k, v in self.named_parameters()}
        model = np.frombuffer(packed(self.text, weights), np.uint8)
        text = np.frombuffer(self.text.encode(), np.uint8)
        net = cv2.dnn.readNetFromCaffe(text, model)
        net.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)
        net.enableWinograd(False)
        net.setInput(image.numpy())
        return torch.from_numpy(net.forward())


def offsets(plan: caffe_files.Plan, size: tuple[int, ...]) -> dict[str, list[int]]:
    """Return where each skip begins to be read, by following sizes of one image."""
    steps = [caffe_files.numbers(s, plan.ndim) for s in plan.strides]
    lost = [
        [2 * (k - 1 - 2 * int(plan.pad)) for k in caffe_files.numbers(text, plan.ndim)]
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


def packed(text: str, weights: dict[str, np.ndarray]) -> bytes:
    """Return a binary NetParameter: names, types and weights of the layers."""
    layers: dict[str, list[bytes]] = {}
    for key, value in weights.items():
        shape = field(1, b"".join(map(varint, value.shape)))
        numbers = struct.pack(f"<{value.size}f", *value.ravel())
        blob = field(7, shape) + field(5, numbers)
        layers.setdefault(key.rpartition("/")[0], []).append(field(7, blob))
    return b"".join(
        field(100, field(1, name.encode()) + field(2, b"Convolution") + b"".join(blobs))
        for name, blobs in layers.items()
    )


if __name__ == "__main__":
    plan = caffe_files.Plan()
    print(offsets(plan, (60, 76)))
    m = OpenCV(plan, (60, 76))
    for p in m.parameters(): p.data = torch.randn(p.shape)*0.2
    print(m(torch.randn(1,1,60,76)).shape)
    plan = caffe_files.Plan(kernels=("1 3 3","3 3 3","3 3 3"), strides=("1 2 2", "2 2 2"))
    print(offsets(plan, (20, 60, 76)))
    m = OpenCV(plan, (20,60, 76))
    for p in m.parameters(): p.data = torch.randn(p.shape)*0.2
    print(m(torch.randn(1,1,20,60,76)).shape)
