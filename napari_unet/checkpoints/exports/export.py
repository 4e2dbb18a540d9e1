"""Exports: chosen by target, written beside the final name, read again, then named."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_unet.checkpoints.exports import bioimageio, compiled, tensors
from napari_unet.checkpoints.exports.proof import TOLERANCE
from napari_unet.checkpoints.probe import probe
from napari_unet.errors import ModelError, UsageError
from napari_unet.files import commit, digest

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_unet.checkpoints.exports.proof import Written
    from napari_unet.config import ExportConfig
    from napari_unet.networks.network import Network

    Writer = Callable[[Network, Path, ExportConfig], Written]

SUFFIXES: dict[str, tuple[str, ...]] = {
    "native": (".safetensors",),
    "state-dict": (".pt", ".pth", ".safetensors"),
    "bioimageio": (".zip",),
    "onnx": (".onnx",),
    "pt2": (".pt2",),
}
"""Endings of a file's name by target; a target that is not named follows from them."""

_WRITERS: dict[str, Writer] = {
    "native": tensors.native,
    "state-dict": tensors.state_dict,
    "bioimageio": bioimageio.write,
    "onnx": compiled.onnx,
    "pt2": compiled.pt2,
}


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes
    ----------
    output : str
        The file.
    target : str
        Its form, one of `SUFFIXES`.
    sha256 : str
        Hash of the file.
    difference : float
        Largest absolute difference between the network's output on a test patch and
        that of the file read again.
    notes : tuple of str
        What a reader of the file should know.
    """

    output: str
    target: str
    sha256: str
    difference: float
    notes: tuple[str, ...] = ()


def export(
    network: Network,
    path: str | Path,
    config: ExportConfig,
    *,
    overwrite: bool = False,
) -> Exported:
    """Write a model for other programs; the file appears complete or not at all.

    Before it gets its name the file is read again and its output compared with the
    network's on a test patch.

    Parameters
    ----------
    network : Network
        As loaded or trained, not one prepared by `Network.place`; it stays as it is.
    path : path-like
        The new file.
    config : ExportConfig
        The target, and what the description says.
    overwrite : bool
        Whether a file already there may be replaced.

    Raises
    ------
    UsageError
        If the name does not fit the target, or a package is lacking.
    ModelError
        If the target cannot hold this network, or the file does not give its output.
    OutputError
        If the file is there already or cannot be written.
    """
    path = Path(path)
    target = chosen(path, config.to)
    with commit(path, overwrite=overwrite) as part:
        written = _WRITERS[target](network, part, config)
        if not written.difference <= TOLERANCE * max(1.0, probe(network).largest):
            raise ModelError(
                f"{path.name} was not written, because it would give other values",
                found=f"outputs that differ by {written.difference:.2g}",
                expected=f"at most {TOLERANCE:.0e} of the largest",
            )
    if target == "state-dict":
        written.notes.append(tensors.remember(network, path))
    return Exported(
        str(path), target, digest(path), written.difference, tuple(written.notes)
    )


def chosen(path: Path, target: str) -> str:
    """Return the target, by the name where it is auto.

    Raises
    ------
    UsageError
        If the name has another ending than files of that kind.
    """
    suffix = path.suffix.lower()
    if target == "auto":
        fitting = (name for name, known in SUFFIXES.items() if suffix in known)
        target = next(fitting, "")
    if suffix in SUFFIXES.get(target, ()):
        return target
    known = SUFFIXES.get(target) or [s for some in SUFFIXES.values() for s in some]
    raise UsageError(
        "The name of the export does not tell its kind"
        if not target
        else f"The name does not fit the target {target}",
        found=path.name,
        expected=f"a name ending in {', '.join(dict.fromkeys(known))}",
    )
