"""The stored cases, as the tests and the matrix use them."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from zoo import recipe

STORED = Path(__file__).parent / "stored"


@dataclass(frozen=True)
class Stored:
    """A network of another library: its options, its state dict and its output."""

    library: str
    version: str
    name: str
    facts: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.library}-{self.name}"

    @property
    def state(self) -> dict[str, torch.Tensor]:
        """Its state dict, with tensors shared as they were."""
        schema = self.facts["schema"]
        values = recipe.fill([tuple(row[:3]) for row in schema])
        tensors: dict[str, torch.Tensor] = {}
        for key, *_, name in ([*row, row[0]][:4] for row in schema):
            tensors[key] = tensors.get(name, torch.from_numpy(values[key]))
        return tensors

    @property
    def image(self) -> torch.Tensor:
        """The input (N, C, *spatial)."""
        return torch.from_numpy(recipe.image(self.facts["shape"]))

    def difference(self, output: torch.Tensor) -> float:
        """Largest difference from the library's own output.

        Absolute, but relative to the largest output where that is above 1: some
        networks of random weights give hundreds, which float32 rounds at 1e-5.
        """
        assert list(output.shape) == self.facts["output"]
        wanted = _outputs(self.library)[self.name]
        found = recipe.sample(output.detach().numpy())
        return float(np.abs(found - wanted).max() / max(1.0, np.abs(wanted).max()))


def cases(library: str | None = None) -> list[Stored]:
    """Return all stored cases, or those of one library."""
    found = []
    for path in sorted([*STORED.glob("*.json"), *STORED.glob("*.json.gz")]):
        facts = json.loads(_text(path))
        if library in (None, facts["library"]):
            found += [
                Stored(facts["library"], facts["version"], name, case)
                for name, case in facts["cases"].items()
            ]
    return found


def _text(path: Path) -> str:
    is_packed = path.suffix == ".gz"
    return (
        gzip.decompress(path.read_bytes()).decode() if is_packed else path.read_text()
    )


@cache
def _outputs(library: str) -> dict[str, np.ndarray]:
    with np.load(STORED / f"{library}.npz") as stored:
        return {name: stored[name] for name in stored.files}
