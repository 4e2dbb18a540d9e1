"""What a checkpoint is, as plain values for people and machines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_unet.checkpoints.families import by_name
from napari_unet.checkpoints.loading import load

if TYPE_CHECKING:
    from pathlib import Path

    from napari_unet.networks.network import Network


def inspect(path: str | Path | Network) -> dict[str, Any]:
    """Open a checkpoint and say everything that is known about it.

    Parameters
    ----------
    path : path-like or Network
        See `load`.

    Returns
    -------
    dict
        JSON-able. `receptive_field` counts the pixels to either side of an output
        pixel; `exact` says whether tiles can give the whole image's output, `reason`
        why not; `assumed` lists what the file does not tell, with alternatives, and
        `told` what a person told; `test` is the outcome of test tensors that came with
        it, None if there are none.

    Raises
    ------
    ModelError
        If it cannot be opened.
    """
    network = load(path)
    spec, lay, source = network.spec, network.geometry, network.spec.provenance
    return {
        "name": spec.name,
        "family": spec.family,
        "title": _title(spec.family),
        "container": source.get("container", "native"),
        "wrapper": source.get("wrapper", ""),
        "prefix": source.get("prefix", ""),
        "sha256": network.digest,
        "ndim": spec.ndim,
        "in_channels": spec.in_channels,
        "out_channels": spec.out_channels,
        "classes": list(spec.class_names),
        "parameters": network.parameters,
        "architecture": spec.model_dump(mode="json")["architecture"],
        "task": spec.task,
        "activation": spec.activation,
        "normalization": [n.model_dump(mode="json") for n in spec.normalization],
        "spacing": dict(spec.spacing),
        "receptive_field": {"before": list(lay.before), "after": list(lay.after)},
        "halo": [list(pair) for pair in lay.halo],
        "stride": list(lay.stride),
        "margin": list(lay.margin),
        "exact": lay.exact,
        "reason": lay.reason,
        "told": source.get("told", {}),
        "assumed": [a.model_dump(mode="json") for a in spec.assumed],
        "test": source.get("test"),
        "notes": list(source.get("notes", ())),
        "provenance": spec.model_dump(mode="json")["provenance"],
    }


def _title(name: str) -> str:
    """Name of a family for people."""
    family = by_name(name)
    return family.title if family else name
