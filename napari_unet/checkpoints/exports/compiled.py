"""The network as a program: ONNX, and what torch.export writes (no TorchScript)."""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import logging
import warnings
from typing import TYPE_CHECKING, Any

import torch

from napari_unet import __version__
from napari_unet.checkpoints.exports.proof import Written
from napari_unet.checkpoints.probe import lengths, probe
from napari_unet.errors import ModelError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch.export import ExportedProgram

    from napari_unet.config import ExportConfig
    from napari_unet.networks.network import Network

_NEEDED = ("onnx", "onnxscript", "onnxruntime")
_LONGEST = 1 << 16
_LARGER = 2


def pt2(network: Network, part: Path, config: ExportConfig) -> Written:
    """Write a program for ``torch.export.load``."""
    del config
    program, notes = exported(network, copy.deepcopy(network.module))
    torch.export.save(program, part, extra_files=_provenance(network))
    again = torch.export.load(part).module()
    return Written(_difference(network, again, notes), notes)


def onnx(network: Network, part: Path, config: ExportConfig) -> Written:
    """Write an ONNX model with input ``input`` and output ``output``, raw values.

    Raises
    ------
    UsageError
        If the packages of ``unet-napari[export]`` are not installed.
    """
    del config
    lacking = lacking_packages()
    if lacking:
        raise UsageError(
            "ONNX needs packages that are not installed",
            found=f"no {' and no '.join(lacking)}",
            hint='Install them with: pip install "unet-napari[export]"',
        )
    program, notes = exported(network, _biased(network.module))
    with _quiet():
        converted = torch.onnx.export(
            program, dynamo=True, verbose=False, optimize=False,
            input_names=["input"], output_names=["output"],
        )  # fmt: skip
        assert converted is not None  # so it is with dynamo=True
        model = converted.model
        for name, text in _provenance(network).items():
            model.metadata_props[name] = text
        converted.save(part, external_data=False)
    try:
        return Written(_difference(network, _session(part), notes), notes)
    except ModelError:
        raise
    except Exception as error:  # onnxruntime has exceptions of its own
        raise ModelError(
            f"onnxruntime cannot run {network.spec.name} as ONNX",
            found=(str(error).splitlines() or [type(error).__name__])[0],
            hint="Export it as .pt2 or as a bioimage.io package instead.",
        ) from error


def lacking_packages() -> list[str]:
    """Return the packages that ONNX needs and that are not installed."""
    return [name for name in _NEEDED if importlib.util.find_spec(name) is None]


def _biased(module: torch.nn.Module) -> torch.nn.Module:
    """Return a copy whose 3D convolutions all have a bias, perhaps of zeros.

    For those without one, onnxscript 0.7.2 writes a bias of two axes, which onnxruntime
    refuses.
    """
    module = copy.deepcopy(module)
    for layer in module.modules():
        if isinstance(layer, torch.nn.Conv3d) and layer.bias is None:
            layer.bias = torch.nn.Parameter(torch.zeros(layer.out_channels))
    return module


def exported(
    network: Network, module: torch.nn.Module
) -> tuple[ExportedProgram, list[str]]:
    """Trace a network for all sizes that fit its stride, or else for one size.

    Parameters
    ----------
    network : Network
        Tells the sizes.
    module : torch.nn.Module
        A copy of its module, to be traced.

    Returns
    -------
    program : torch.export.ExportedProgram
        Takes (N, in_channels, *spatial) in float32; N is 1 where sizes are fixed.
    notes : list of str
        Which sizes it takes; the first says so.

    Raises
    ------
    ModelError
        If torch cannot trace it.
    """
    module = module.eval().requires_grad_(False)
    patch = probe(network).patch
    sizes = " x ".join(map(str, patch.shape[2:]))
    try:
        with _quiet():
            program = torch.export.export(
                module,
                (torch.cat([patch, patch]),),
                dynamic_shapes=(_dynamic(network),),
            )
        steps = " x ".join(map(str, network.geometry.stride))
        note = f"It takes inputs of {sizes} pixels and more in steps of {steps}."
        return program, [note]
    except Exception:  # torch raises what it meets; one fixed size may still do
        return _fixed(network, module, patch, sizes)


def _fixed(
    network: Network, module: torch.nn.Module, patch: torch.Tensor, sizes: str
) -> tuple[ExportedProgram, list[str]]:
    """Trace for the size of the patch only."""
    try:
        with _quiet():
            program = torch.export.export(module, (patch,))
    except Exception as error:
        raise ModelError(
            f"torch.export cannot follow {network.spec.name}",
            found=(str(error).splitlines() or [type(error).__name__])[0],
        ) from error
    return program, [f"It takes inputs of {sizes} pixels only."]


def _dynamic(network: Network) -> dict[int, Any]:
    """Describe the spatial sizes as multiples of the stride, where they are free."""
    dims: dict[int, Any] = {0: torch.export.Dim("batch", min=1, max=_LONGEST)}
    axes = zip(
        network.spec.spatial.lower(), network.geometry.stride, lengths(network),
        strict=True,
    )  # fmt: skip
    for axis, (name, stride, length) in enumerate(axes, start=2):
        least, rest = divmod(length, stride)
        steps = torch.export.Dim(f"{name}_steps", min=least, max=_LONGEST // stride)
        dims[axis] = stride * steps + rest if rest else stride * steps
    return dims


def _difference(network: Network, run: Any, notes: list[str]) -> float:
    """Compare on the traced size, and on a larger one where sizes are free."""
    gaps = [probe(network).difference(run)]
    if "and more" in notes[0]:
        larger = tuple(_LARGER * n for n in lengths(network))
        gaps.append(probe(network, larger).difference(run))
    return max(gaps)


def _session(part: Path) -> Any:
    """Open an ONNX model as a function of tensors."""
    import onnxruntime

    session = onnxruntime.InferenceSession(
        part.read_bytes(), providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name
    return lambda image: torch.from_numpy(session.run(None, {name: image.numpy()})[0])


def _provenance(network: Network) -> dict[str, str]:
    """Texts that say where a program comes from and how its input is scaled."""
    return {
        "unet": network.spec.model_dump_json(),
        "parent": network.digest,
        "version": __version__,
    }


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch's remarks about its own code from the user."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
