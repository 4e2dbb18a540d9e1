"""Layers run by OpenVINO on a CPU (the extra ``unet-napari[openvino]``)."""

from __future__ import annotations

import copy
import importlib.util
import sys
from functools import cache
from typing import TYPE_CHECKING, Any

import torch

from napari_unet.errors import UsageError
from napari_unet.files import commit
from napari_unet.networks.backends.folder import build_folder
from napari_unet.networks.backends.quiet import quiet
from napari_unet.networks.backends.stepwise import stepwise

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import nn

_ARITHMETIC = {torch.float32: "f32", torch.bfloat16: "bf16"}


def check() -> None:
    """Refuse where OpenVINO is not installed.

    Raises
    ------
    UsageError
        With the command that installs it.
    """
    if importlib.util.find_spec("openvino") is None:
        raise UsageError(
            "OpenVINO is not installed",
            hint='Install it with: pip install "unet-napari[openvino]"',
        )


def build(
    module: nn.Module, image: torch.Tensor, facts: str
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Convert the layers for inputs like `image`, or load what was converted before.

    Weights and inputs are handed over in float32; OpenVINO computes in the type of
    `image`.
    """
    ov = _openvino()
    folder = build_folder(module, image, facts, f"openvino {ov.__version__}")
    path = folder / "model" / "model.xml"
    if not path.exists():
        _convert(ov, module, image, path)
    core = ov.Core()
    settings = {
        "INFERENCE_PRECISION_HINT": _ARITHMETIC[image.dtype],
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
    }
    request = core.compile_model(str(path), "CPU", settings).create_infer_request()

    def forward(batch: torch.Tensor) -> torch.Tensor:
        pixels = batch.float().contiguous().numpy()
        (result,) = request.infer([pixels]).to_tuple()
        return torch.from_numpy(result)

    return forward


@cache
def _openvino() -> Any:
    """Import OpenVINO without the part that reports its use to its makers."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    with quiet():
        import openvino
    return openvino


def _convert(ov: Any, module: nn.Module, image: torch.Tensor, path: Path) -> None:
    """Write the layers as OpenVINO's own two files, in one step."""
    plain = copy.deepcopy(module).float()
    if image.ndim == 5 and image.dtype == torch.float32:  # where digits are lost
        stepwise(plain)
    example = image.float().contiguous()
    with torch.no_grad(), quiet():
        model = ov.convert_model(torch.export.export(plain, (example,)))
    model.reshape(list(example.shape))
    with commit(path.parent) as part:
        part.mkdir()
        ov.save_model(model, part / path.name, compress_to_fp16=False)
