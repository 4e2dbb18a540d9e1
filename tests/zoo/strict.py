"""Load our exports in the libraries they are for: ``python strict.py monai``.

For every stored case: the library's own network is made anew, the state dict that we
would export is loaded with ``strict=True``, and its output is compared with the one
stored. ``github`` takes the folder of its sources. Run in the library's environment,
with the repository and ``tests`` on the path.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import torch

from napari_unet.checkpoints.families import by_name
from zoo.opened import opened
from zoo.stored_cases import cases


def difference(case, stored) -> float:
    """Return how far the library's output is with our weights."""
    network, _ = opened(stored)
    family, architecture = by_name(network.spec.family), network.spec.architecture
    state = family.emit(network.module.state_dict(), architecture)
    own = case.module.state_dict()
    kept = {k: v for k, v in own.items() if case.unused and k.startswith(case.unused)}
    with torch.no_grad():
        for tensor in own.values():
            tensor.zero_()
    case.module.load_state_dict({**state, **kept}, strict=True)
    image = stored.image
    with torch.inference_mode():
        output = case.module.eval()(case.prepare(image) if case.prepare else image)
    return stored.difference(case.pick(output) if case.pick else output)


def main() -> None:
    library = sys.argv[1]
    made = importlib.import_module(f"make_{library}")
    folder = [Path(argument) for argument in sys.argv[2:]]
    all_cases = made.all_cases(*folder) if hasattr(made, "all_cases") else made.CASES
    known = {c.name: c for c in cases(library)}
    found = {c.name: difference(c, known[c.name]) for c in all_cases if c.name in known}
    print(f"{library}: {len(found)} of {len(known)}, largest {max(found.values()):.1e}")
    assert max(found.values()) <= 1e-5


if __name__ == "__main__":
    main()
