"""The description in a bioimage.io package, format 0.5 (bioimage-io/spec-bioimage-io).

Halo and smallest size are advice to programs that cut images into tiles.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from napari_unet import __version__
from napari_unet.checkpoints.probe import lengths
from napari_unet.errors import ModelError

if TYPE_CHECKING:
    from napari_unet.config import ExportConfig
    from napari_unet.images.intensity import Normalization
    from napari_unet.networks.network import Network
    from napari_unet.networks.spec import ModelSpec

_FORMAT = "0.5.5"
_MOST_HALO = {2: 192, 3: 32}
"""A wider reach is not asked for, so that the smallest input and with it the test
tensors stay of a size that can be handled."""
_SHORTEST_NAME = 5
_NO_NAME = re.compile(r"[^\w \-()+.]")
_TOLERANCE = 1e-4


def sizes(network: Network) -> tuple[int, ...]:
    """Return the least output lengths: more than the halo to both sides."""
    return tuple(
        2 * h + s for h, s in zip(_halo(network), _strides(network), strict=True)
    )


def describe(
    network: Network,
    config: ExportConfig,
    hashes: dict[str, str],
    weights: dict[str, Any],
) -> dict[str, Any]:
    """Return the description as plain values.

    Parameters
    ----------
    network : Network
        What the package holds.
    config : ExportConfig
        Name, authors, licence and description; what is not given is left open or said
        to be unknown, never made up.
    hashes : dict of str to str
        SHA-256 of each file of the package.
    weights : dict
        The entries for the weights.
    """
    spec = network.spec
    facts: dict[str, Any] = {
        "type": "model",
        "format_version": _FORMAT,
        "name": _name(config.title or spec.name),
        "description": config.description or _sentence(spec),
        "authors": [{"name": name} for name in config.authors],
        "documentation": _file("README.md", hashes),
        "inputs": [_input(network, hashes)],
        "outputs": [_output(network, hashes)],
        "weights": weights,
        "tags": ["unet", f"{spec.ndim}d", spec.task],
        "config": {
            "bioimageio": {
                "reproducibility_tolerance": [
                    {
                        "relative_tolerance": _TOLERANCE,
                        "absolute_tolerance": _TOLERANCE,
                    }
                ]
            },
            "napari_unet": _provenance(network),
        },
    }
    if config.license:
        facts["license"] = config.license
    return facts


def documentation(network: Network, config: ExportConfig) -> str:
    """Write the README of a package."""
    spec = network.spec
    open_facts = [f"- {a.field}: {a.value} ({a.reason})" for a in spec.assumed]
    lines = [
        f"# {_name(config.title or spec.name)}",
        "",
        config.description or _sentence(spec),
        "",
        "## Validation",
        "",
        "The test tensors are noise run through this network; they prove that a "
        "program computes the same, not how well it segments. Quantitative "
        "validation of the network on images is not part of this package.",
        "",
        "The PyTorch weights need the Python package unet-napari.",
        *limits(network),
    ]
    if open_facts:
        lines += ["", "## Assumed, not told by the source", "", *open_facts]
    return "\n".join(lines) + "\n"


def _input(network: Network, hashes: dict[str, str]) -> dict[str, Any]:
    spec = network.spec
    least = lengths(network, sizes(network))
    space = [
        {**_space(spec, axis), "size": {"min": length, "step": stride}}
        for axis, length, stride in zip(
            spec.spatial.lower(), least, _strides(network), strict=True
        )
    ]
    names = [f"channel{n}" for n in range(spec.in_channels)]
    return {
        "id": "input",
        "axes": [{"type": "batch"}, _channels(names), *space],
        "data": {"type": "float32"},
        "preprocessing": _preprocessing(spec),
        "test_tensor": _file("test_input.npy", hashes),
    }


def _output(network: Network, hashes: dict[str, str]) -> dict[str, Any]:
    spec = network.spec
    space = []
    axes = zip(
        spec.spatial.lower(), network.geometry.margin, _halo(network), strict=True
    )
    for axis, margin, halo in axes:
        size = {"tensor_id": "input", "axis_id": axis, "offset": -2 * margin}
        entry = {**_space(spec, axis), "size": size}
        space.append({**entry, "halo": halo} if halo else entry)
    names = list(spec.class_names) or [f"class{n}" for n in range(spec.out_channels)]
    after: dict[str, list[dict[str, Any]]] = {
        "sigmoid": [{"id": "sigmoid"}],
        "softmax": [{"id": "softmax", "kwargs": {"axis": "channel"}}],
    }
    return {
        "id": "output",
        "axes": [{"type": "batch"}, _channels(names), *space],
        "data": {"type": "float32"},
        "postprocessing": [*after.get(spec.activation, []), _FLOAT],
        "test_tensor": _file("test_output.npy", hashes),
    }


_FLOAT = {"id": "ensure_dtype", "kwargs": {"dtype": "float32"}}


def _channels(names: list[str]) -> dict[str, Any]:
    """Describe the channel axis; names there are plain identifiers."""
    plain = [re.sub(r"\W+", "_", name) for name in names]
    plain = [name if name.isidentifier() else f"class_{name}" for name in plain]
    return {"type": "channel", "channel_names": plain}


def _space(spec: ModelSpec, axis: str) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "space", "id": axis}
    spacing = spec.spacing.get(axis.upper())
    return {**entry, "unit": "micrometer", "scale": spacing} if spacing else entry


def _preprocessing(spec: ModelSpec) -> list[dict[str, Any]]:
    """Translate the scaling of the input.

    Raises
    ------
    ModelError
        If the channels are scaled in different ways, or in one that the format lacks.
    """
    kinds = set(map(repr, spec.normalization))
    first = spec.normalization[0]
    found = "channels that are scaled in different ways" if len(kinds) > 1 else ""
    if first.kind == "ct" or first.masked:
        found = "the scaling of CT images or of masked ones"
    if found:
        raise ModelError(
            f"A bioimage.io package cannot say how the input of {spec.name} is scaled",
            found=found,
            hint="Export to another target.",
        )
    return [_FLOAT, *_steps(spec.normalization[0], spec), _FLOAT]


def _steps(norm: Normalization, spec: ModelSpec) -> list[dict[str, Any]]:
    axes = ["channel"] * norm.joint + list(spec.spatial.lower())
    if norm.kind == "none":
        return []
    if norm.kind == "linear":
        kwargs: dict[str, Any] = {"gain": norm.gain, "offset": norm.offset}
        return [{"id": "scale_linear", "kwargs": kwargs}]
    kwargs = {"axes": axes, "eps": norm.eps}
    if norm.kind == "zscore":
        return [{"id": "zero_mean_unit_variance", "kwargs": kwargs}]
    low, high = (0.0, 100.0) if norm.kind == "minmax" else (norm.low, norm.high)
    kwargs |= {"min_percentile": low, "max_percentile": high}
    steps: list[dict[str, Any]] = [{"id": "scale_range", "kwargs": kwargs}]
    if norm.clip:
        steps.append({"id": "clip", "kwargs": {"min": 0.0, "max": 1.0}})
    return steps


def _halo(network: Network) -> tuple[int, ...]:
    """Return what a tile's result should lose at each side; valid padding does it."""
    lay, most = network.geometry, _MOST_HALO[network.spec.ndim]
    return tuple(
        0 if margin else min(max(reach), most)
        for reach, margin in zip(lay.halo, lay.margin, strict=True)
    )


def limits(network: Network) -> list[str]:
    """Say where other programs will not give what this one does."""
    return [*_steps_around(network), *_tiles(network)]


def _steps_around(network: Network) -> list[str]:
    """Say that a procedure around the network is left out."""
    if network.spec.recipe is None:
        return []
    return [
        "Resampling to the pixel size of the training, flips and patches are not part "
        "of the package; other programs run the network on the image as it is."
    ]


def _tiles(network: Network) -> list[str]:
    """Say where tiles will not give the whole image's output."""
    lay, most = network.geometry, _MOST_HALO[network.spec.ndim]
    if not lay.exact:
        return [f"Tiles give other values than the whole image: {lay.reason}."]
    reach = max(max(pair) for pair in lay.halo)
    if reach <= most or any(lay.margin):
        return []
    return [
        f"The halo is given as {most} pixels, but the network looks {reach} far; tiles "
        "of other programs differ a little at their borders."
    ]


def _strides(network: Network) -> tuple[int, ...]:
    return network.geometry.stride


def _file(name: str, hashes: dict[str, str]) -> dict[str, str]:
    return {"source": name, "sha256": hashes[name]}


def _name(name: str) -> str:
    """Leave out what a name may not hold there, and lengthen one that is too short."""
    name = _NO_NAME.sub(" ", name).strip()[:128]
    return name if len(name) >= _SHORTEST_NAME else f"{name} U-Net".strip()


def _sentence(spec: ModelSpec) -> str:
    return (
        f"A {spec.ndim}D U-Net ({spec.family}), {spec.in_channels} to "
        f"{spec.out_channels} channels, exported by napari-unet."
    )


def _provenance(network: Network) -> dict[str, Any]:
    spec = network.spec.model_dump(mode="json")
    return {
        "version": __version__,
        "parent": network.digest,
        "family": spec["family"],
        "task": spec["task"],
        "assumed": spec["assumed"],
        "provenance": spec["provenance"],
    }
