"""The matrix of families in docs/checkpoint-matrix.md.

``python -m zoo.matrix`` (with ``tests`` on the path) opens every stored case and writes
the page; a test tells when it is out of date.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from napari_unet.checkpoints.families import FAMILIES
from zoo.opened import opened
from zoo.stored_cases import Stored, cases

PAGE = Path(__file__).parents[2] / "docs" / "checkpoint-matrix.md"
HEAD = """# Which U-Nets open, and how exactly

Each line is a network of another library with random weights and random statistics of
all norms. The library ran it in an environment of its own (`tests/zoo`); here its state
dict alone is opened as from a file (Keras' files as they are, with the weights made
anew), and the outputs are compared: the largest absolute difference of at most 1,024
pixels spread over the output, divided by the largest output where that is above 1. Ours
is computed in float64 on a CPU. The libraries' stored outputs are in float32, whose
rounding is what the figures show, except that of segmentation_models_pytorch, which ran
in float64 too. Each file is claimed by its own family and by no other. *Told* are
settings that no file of this kind holds; they are listed as assumed, and were set as a
user would.

This page is made by `PYTHONPATH=tests python -m zoo.matrix`.
"""


def lines(found: list[tuple[Stored, float]]) -> list[str]:
    """Return the table of one family."""
    rows = ["| network | input | told | difference |", "| --- | --- | --- | --- |"]
    for case, difference in found:
        shape = " x ".join(map(str, case.facts["shape"]))
        told = ", ".join(f"{k} {v}" for k, v in case.facts["settings"].items())
        rows.append(f"| {case.name} | {shape} | {told} | {difference:.1e} |")
    return rows


def page() -> str:
    """Open all stored cases and return the page."""
    found = defaultdict(list)
    for case in cases():
        network, difference = opened(case)
        key = (network.spec.family, f"{case.library} {case.version}")
        found[key].append((case, difference))
    titles = {f.name: f.title for f in FAMILIES}
    parts = [HEAD]
    for (family, source), rows in sorted(found.items()):
        parts += [f"## {titles[family]}", f"Source: {source}", "\n".join(lines(rows))]
    return "\n\n".join(part.strip() for part in parts) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
