"""The pixels a network really looks at, found by changing them one after another."""

from __future__ import annotations

import copy

import torch
from torch import nn

IMAGE = 1.0
TOUCH = 1e9


def positive(module: nn.Module) -> nn.Module:
    """Return a copy in float64 in which every output grows with every input it reads.

    All weights are positive, so that no ReLU, pooling or norm can hide an input.
    """
    module = copy.deepcopy(module).double().eval()
    with torch.no_grad():
        for tensor in module.parameters():
            tensor.copy_(0.5 + torch.rand(tensor.shape, dtype=torch.float64))
            tensor /= max(1, tensor[0].numel())
        for name, tensor in module.named_buffers():
            if name.endswith("running_mean"):
                tensor.zero_()
    return module


@torch.inference_mode()
def touched(module: nn.Module, shape: tuple[int, ...], axis: int, pixel: int) -> set:
    """Return the output positions along `axis` that one line of input changes."""
    image = torch.full(shape, IMAGE, dtype=torch.float64)
    still = module(image)
    image.narrow(axis + 2, pixel, 1).fill_(TOUCH)
    moved = module(image)
    others = tuple(n for n in range(still.ndim) if n != axis + 2)
    changed = ((moved - still).abs() > 1e-6 * still.abs()).any(dim=others)
    return set(changed.nonzero().flatten().tolist())


def reach(
    module: nn.Module, shape: tuple[int, ...], axis: int, stride: int, margin: int
) -> tuple[int, int]:
    """Return how far outputs of one stride period in the middle look back and ahead."""
    module = positive(module)
    length = shape[axis + 2] - 2 * margin
    start = length // 2 // stride * stride
    wanted = set(range(start, start + stride))
    back = ahead = 0
    for pixel in range(shape[axis + 2]):
        for o in touched(module, shape, axis, pixel) & wanted:
            back = max(back, o + margin - pixel)
            ahead = max(ahead, pixel - o - margin)
    return back, ahead
