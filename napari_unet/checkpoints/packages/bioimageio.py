"""bioimage.io model descriptions, versions 0.4 and 0.5: data, never code.

The architecture they name is Python source in the package and is not run; the weights
are matched to a known family, and the test tensors of the package are the proof.
Processing steps follow the specification (bioimage-io/spec-bioimage-io 0.5.4).
"""

from __future__ import annotations

import hashlib
import io
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.checkpoints.draft import Draft, Tests, settings
from napari_unet.checkpoints.packages.base import Package
from napari_unet.checkpoints.packages.bioimageio_steps import (
    activation,
    normalizations,
)
from napari_unet.checkpoints.source import check_name
from napari_unet.checkpoints.weights import MOST_WEIGHTS, read_weights
from napari_unet.checkpoints.yaml_text import read_yaml
from napari_unet.errors import ModelError
from napari_unet.files import digest
from napari_unet.networks.spec import Assumption

if TYPE_CHECKING:
    from napari_unet.checkpoints.source import Source
    from napari_unet.images.intensity import Normalization

_MOST_TEXT = 1 << 20
_MOST_ALIASES = 1000
_DEEPEST = 64
_MOST_TENSOR = 1 << 30


_OWN = {"family", "architecture"}
"""Arguments of `napari_unet.checkpoints.rebuild`."""
_READ = ("pytorch_state_dict", "torchscript", "onnx", "keras_v3", "keras_hdf5")
_ENDINGS = (
    *(".pt", ".pth", ".torch", ".safetensors", ".onnx", ".keras", ".h5", ".hdf5"),
)
_NAMES = re.compile(r"^(rdf\.yaml|bioimageio\.yaml|[^/]+\.bioimageio\.yaml)$")


class BioimageIO(Package):
    """A bioimage.io package, versions 0.4 and 0.5."""

    title = "bioimage.io package"

    def claims(self, source: Source) -> bool:
        """Whether there is a description."""
        return _description(source) is not None

    def holds(self, source: Source, name: str) -> bool:
        """Whether the description names these weights."""
        try:
            return describe(source).weights == name
        except ModelError:
            return False

    def draft(self, source: Source, weights: str | None = None) -> Draft:
        """Read the description and the weights it names."""
        del weights  # there is one set
        package = describe(source)
        verify(source, package.weights, package.sha256)
        with source.file(package.weights, MOST_WEIGHTS) as path:
            words, found = read_weights(path)
        found.notes += package.notes
        found.hints = _evident(found.hints, package.hints)
        described = source.read(_description(source) or "", _MOST_TEXT)
        draft = Draft(
            source.path,
            f"bioimage.io package, {words}",
            found,
            [sha256(source, package.weights), hashlib.sha256(described).hexdigest()],
            {**settings(found), **package.hints},
            {"name": package.name, "normalization": package.normalization},
        )
        _add_activation(draft, package)
        if package.class_names:
            draft.fields["class_names"] = package.class_names
        if package.test_inputs and package.test_outputs:
            draft.tests = Tests(
                arrays(source, package.test_inputs),
                arrays(source, package.test_outputs),
                package.activation,
                package.tolerance,
            )
        return draft


def _evident(hints: dict[str, Any], arguments: dict[str, Any]) -> dict[str, Any]:
    """Add the architecture to the hints where it was written here."""
    written = arguments.get("architecture")
    if set(arguments) != _OWN or not isinstance(written, dict):
        return hints
    if arguments["family"] == "program":
        return {**hints, "program": written}
    return {**hints, "evidence": {**hints.get("evidence", {}), **written}}


def _add_activation(draft: Draft, package: Described) -> None:
    if package.activation != "none":
        draft.fields["activation"] = package.activation
    elif not package.hints.get("final_activation"):
        draft.assumed.append(_UNDECLARED)


_UNDECLARED = Assumption(
    field="activation",
    value="none",
    alternatives=("sigmoid", "softmax"),
    reason="the description names no activation after the network",
)


def _description(source: Source) -> str | None:
    return next((n for n in source.names() if _NAMES.match(n)), None)


Test = tuple[str, str, int]


@dataclass(frozen=True)
class Described:
    """What a description says, in our words.

    Attributes
    ----------
    weights : str
        Name of their file in the package.
    normalization : tuple of Normalization
        One for all channels, or one per channel of the stacked inputs.
    activation : str
        Declared after the network: sigmoid, softmax or none.
    hints : dict
        Arguments of the source's own network class.
    test_inputs, test_outputs : tuple of (name, sha256, axis)
        Arrays with what the network must give, and where their channels are; sha256
        may be empty.
    tolerance : tuple of float
        Relative and absolute difference that is allowed.
    notes : tuple of str
        Steps that are not carried out.
    """

    name: str
    weights: str
    sha256: str
    normalization: tuple[Normalization, ...]
    activation: str
    hints: dict[str, Any] = field(default_factory=dict)
    class_names: tuple[str, ...] = ()
    test_inputs: tuple[Test, ...] = ()
    test_outputs: tuple[Test, ...] = ()
    tolerance: tuple[float, float] = (1e-3, 1e-3)
    notes: tuple[str, ...] = ()


def describe(source: Source) -> Described:
    """Read the description of a package.

    Raises
    ------
    ModelError
        If it is no model description, or its weights are not in the package.
    """
    name = _description(source)
    if name is None:
        raise _wrong(source, "no rdf.yaml or bioimageio.yaml")
    try:
        return _package(_parse(source, source.read(name, _MOST_TEXT)), source)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise _wrong(source, f"{type(error).__name__}: {error}") from error


def verify(source: Source, name: str, expected: str) -> None:
    """Check the SHA-256 of a member where one is given."""
    if expected and sha256(source, name) != expected:
        raise ModelError(
            f"{name} in {source.path.name} is not the file it was described as",
            found="another SHA-256",
            hint="Download the package again.",
        )


def sha256(source: Source, name: str) -> str:
    """Return the SHA-256 of a member."""
    with source.file(name, MOST_WEIGHTS) as path:
        return digest(path)


def arrays(source: Source, tests: tuple[Test, ...]) -> list[np.ndarray[Any, Any]]:
    """Read test tensors, (1, C, *spatial) each."""
    found = []
    for name, expected, axis in tests:
        verify(source, name, expected)
        data = source.read(name, _MOST_TENSOR)
        values = np.load(io.BytesIO(data), allow_pickle=False)
        found.append(np.moveaxis(values, axis, 1))
    return found


def _parse(source: Source, text: bytes) -> dict[str, Any]:
    try:
        facts = read_yaml(text, _MOST_ALIASES, _DEEPEST)
    except ValueError as error:
        raise _wrong(source, str(error)) from error
    if not isinstance(facts, dict) or facts.get("type", "model") != "model":
        raise _wrong(source, "no model")
    return facts


def _package(facts: dict[str, Any], source: Source) -> Described:
    weights = _weights(facts, source)
    notes: list[str] = []
    names = _channel_names(facts["outputs"])
    return Described(
        name=str(facts.get("name", source.path.stem)),
        weights=str(weights["source"]),
        sha256=str(weights.get("sha256") or ""),
        normalization=normalizations(facts["inputs"], notes),
        activation=activation(facts["outputs"], notes),
        hints=_hints(facts["weights"]),
        class_names=names if len(set(names)) == len(names) else (),
        test_inputs=_tests(facts, "inputs"),
        test_outputs=_tests(facts, "outputs"),
        tolerance=_tolerance(facts),
        notes=tuple(notes),
    )


def _weights(facts: dict[str, Any], source: Source) -> dict[str, Any]:
    """Return the first entry of a format that is read, its file in the package."""
    entries = facts["weights"]
    known = [dict(entries[kind]) for kind in _READ if kind in entries]
    for entry in known:
        name = _member(source, entry)
        if name is not None:
            return {**entry, "source": name}
    if known:
        raise ModelError(
            f"The weights of {source.path.name} are not in the package",
            found=", ".join(str(entry["source"]) for entry in known),
            hint="Download that file and open it.",
        )
    raise ModelError(
        f"{source.path.name} has no weights that can be opened",
        found=", ".join(entries),
        expected=" or ".join(_READ),
        hint="Ask its authors for the state dict.",
    )


def _member(source: Source, entry: dict[str, Any]) -> str | None:
    """Return the file of an entry, by its name or, where it was renamed, its hash."""
    name, names = str(entry["source"]), source.names()
    if "://" not in name and check_name(name, source.path) in names:
        return name
    expected = str(entry.get("sha256") or "")
    is_weights = (n for n in names if n.endswith(_ENDINGS))
    return next((n for n in is_weights if sha256(source, n) == expected), None)


def _hints(weights: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of the source's class: 0.5 nests them, 0.4 does not."""
    entry = weights.get("pytorch_state_dict") or {}
    architecture = entry.get("architecture")
    nested = architecture.get("kwargs") if isinstance(architecture, dict) else None
    return dict(nested or entry.get("kwargs") or {})


def _channel_names(outputs: list[dict[str, Any]]) -> tuple[str, ...]:
    names: list[str] = []
    for entry in outputs:
        for axis in entry["axes"] if isinstance(entry["axes"], list) else ():
            if isinstance(axis, dict) and axis.get("type") == "channel":
                names += [str(n) for n in axis.get("channel_names") or ()]
    return tuple(names)


def _tests(facts: dict[str, Any], side: str) -> tuple[Test, ...]:
    """Return names, hashes and channel axes of the test tensors."""
    axes = [_channel_axis(entry["axes"]) for entry in facts[side]]
    plain = facts.get(f"test_{side}")
    if plain:
        return tuple((str(n), "", a) for n, a in zip(plain, axes, strict=True))
    tensors = [entry.get("test_tensor") for entry in facts[side]]
    if not all(isinstance(t, dict) for t in tensors):
        return ()
    return tuple(
        (str(t["source"]), str(t.get("sha256") or ""), axis)
        for t, axis in zip(tensors, axes, strict=True)
    )


def _channel_axis(axes: Any) -> int:
    """Return where the channels are; TensorFlow's models have them last."""
    kinds = [a.get("type") if isinstance(a, dict) else a for a in axes]
    return next((n for n, kind in enumerate(kinds) if kind in ("c", "channel")), 1)


def _tolerance(facts: dict[str, Any]) -> tuple[float, float]:
    """Return the declared tolerance; the defaults are those of the specification."""
    extra = (facts.get("config") or {}).get("bioimageio") or {}
    declared = (extra.get("reproducibility_tolerance") or [{}])[0]
    relative = float(declared.get("relative_tolerance", 1e-3))
    return relative, float(declared.get("absolute_tolerance", 1e-3))


def _wrong(source: Source, found: str) -> ModelError:
    return ModelError(
        f"{source.path.name} is not a bioimage.io package that can be read",
        found=found,
        expected="a model description of version 0.4 or 0.5",
    )
