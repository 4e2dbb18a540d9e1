"""What a checkpoint is, as a page for people, printed or in a window."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_STATISTICS = {
    "none": "not scaled",
    "zscore": "scaled to mean 0, standard deviation 1",
    "minmax": "scaled from its minimum and maximum to 0 ... 1",
}


def page(facts: Mapping[str, Any]) -> str:
    """Write what a checkpoint is, in short sections.

    Parameters
    ----------
    facts : mapping
        Of `napari_unet.api.iter_inspect`.
    """
    if "ndim" not in facts:  # not of a checkpoint
        return "\n".join(f"{key}: {value}" for key, value in facts.items())
    sections = {
        facts["name"]: _model(facts),
        "Input and output": _ends(facts),
        "Tiles": _tiles(facts),
        "Not in the file, assumed": _assumed(facts),
        "Intensity scalings, by the statistics in the network": _fits(facts),
        "Told by you": (f"{k}: {_value(v)}" for k, v in facts["told"].items()),
        "Notes": iter(facts["notes"]),
        "Source": _source(facts),
    }
    written = []
    for title, lines in sections.items():
        if text := "\n".join(f"  {line}" for line in lines):
            written.append(f"{title}\n{text}")
    return "\n\n".join(written)


def _model(facts: Mapping[str, Any]) -> Iterator[str]:
    yield f"{facts['ndim']}D U-Net, {facts.get('title', facts['family'])}"
    yield f"{facts['parameters']:,} weights"
    proof = facts["test"]
    if proof:
        yield (
            "its own test tensors are reproduced, "
            f"largest difference {proof['difference']:.1g}"
        )


def _ends(facts: Mapping[str, Any]) -> Iterator[str]:
    axes = " ".join("ZYX"[-facts["ndim"] :])
    yield f"in: {_many(facts['in_channels'], 'channel')}, axes {axes}"
    norms = [_norm(norm) for norm in facts["normalization"]]
    yield f"intensity: {'; '.join(dict.fromkeys(norms))}"
    classes = ", ".join(facts["classes"])
    names = f": {classes}" if classes else ""
    yield f"out: {_many(facts['out_channels'], 'channel')}{names}"
    yield f"task: {facts['task']}, activation: {facts['activation']}"
    if facts["spacing"]:
        sizes = ", ".join(f"{a} {v:g}" for a, v in facts["spacing"].items())
        yield f"trained at a pixel size of {sizes} µm"


def _tiles(facts: Mapping[str, Any]) -> Iterator[str]:
    field = facts["receptive_field"]
    if facts["exact"]:
        yield "exact: tiles give the same output as the whole image"
    else:
        yield f"blended: exact tiles are not possible, {facts['reason']}"
    if any(field["before"]) or any(field["after"]):
        sizes = [
            a + b + 1 for a, b in zip(field["before"], field["after"], strict=True)
        ]
        yield f"receptive field: {_size(sizes)} pixels"
    yield f"sizes in steps of {_size(facts['stride'])} pixels"
    if any(facts["margin"]):
        yield f"the output lacks {_size(facts['margin'])} pixels at each side"
    memory = facts.get("memory")
    if memory:
        yield (
            f"memory: about {_bytes(memory['bytes'])} for a tile of "
            f"{_size(memory['tile'])} pixels (estimate)"
        )


def _assumed(facts: Mapping[str, Any]) -> Iterator[str]:
    for fact in facts["assumed"]:
        others = ", ".join(_value(other) for other in fact["alternatives"])
        yield f"{fact['field']}: {_value(fact['value'])}"
        yield f"  because {fact['reason']}" if fact["reason"] else "  no evidence"
        if others:
            yield f"  or: {others}"
    if facts["assumed"]:
        field = facts["assumed"][0]
        example = (field["alternatives"] or (field["value"],))[0]
        yield f"change with: --set {field['field']}={_value(example)}"


def _fits(facts: Mapping[str, Any]) -> Iterator[str]:
    fits = facts.get("normalization_fits", ())
    for fit in fits:
        yield f"{fit['kind']}: distance {fit['distance']:.3g}"
    if fits:
        yield f"take the nearest with: --set normalization={fits[0]['kind']}"


def _source(facts: Mapping[str, Any]) -> Iterator[str]:
    yield f"file: {facts['container']}"
    for name in ("wrapper", "prefix"):
        if facts[name]:
            yield f"{name}: {facts[name]}"
    yield f"SHA-256: {facts['sha256']}"
    if "device" in facts:
        yield f"would run on: {facts['device']}"


def _norm(norm: Mapping[str, Any]) -> str:
    kind = norm["kind"]
    if kind == "linear":
        return f"pixel value x {norm['gain']:.4g} + {norm['offset']:.4g}"
    if kind == "percentile":
        low, high = norm["low"], norm["high"]
        return f"scaled from its {low:g} and {high:g} percentiles to 0 ... 1"
    return _STATISTICS[kind]


def _value(value: Any) -> str:
    """Write a value as ``--set`` reads it; a scaling by its kind."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], dict):
        return _norm({"gain": 1.0, "offset": 0.0, "low": 1.0, "high": 99.8, **value[0]})
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(_value(item) for item in value) + "]"
    return str(value)


def _size(lengths: Any) -> str:
    return " x ".join(map(str, lengths))


def _many(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _bytes(number: float) -> str:
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.0f} MB"
