"""What a file gives that holds both the weights by name and the graph.

The weights keep their names, by which a known family may claim them; the graph refers
to them. `napari_unet.checkpoints.graphs` decides which of the two is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_unet.checkpoints.formats.refusal import Refused
from napari_unet.checkpoints.unwrap import Found, check, to_float32

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from napari_unet.checkpoints.formats.tape import Tape, Value

_OWN = "graph:"


def found(
    name: str,
    state: dict[str, torch.Tensor],
    translate: Callable[[], tuple[Tape, Value]],
) -> Found:
    """Return the weights, with the graph where it can be carried out.

    Parameters
    ----------
    name : str
        Of the file, for messages.
    state : dict of str to torch.Tensor
        The weights under the network's own names.
    translate : callable
        Reads the graph; returns its steps and the output.

    Returns
    -------
    Found
        ``hints["program"]`` is the graph, whose ``weights`` say which tensor each step
        uses and ``notes`` what to know about it; ``hints["refused"]`` says why there
        is none. Tensors that are the graph's own begin with ``graph:``.
    """
    check(state, name)
    made = Found(dict(state))
    try:
        tape, output = translate()
        program: dict[str, Any] = {**tape.program(output), "notes": tape.notes}
    except Refused as error:
        made.hints["refused"] = str(error)
    else:
        program["weights"] = _names(tape.tensors, made.tensors)
        made.hints["program"] = program
        check(made.tensors, name)
    to_float32(made)
    return made


def _names(
    used: dict[str, torch.Tensor], tensors: dict[str, torch.Tensor]
) -> dict[str, str]:
    """Return which tensor each step uses; add those that are the graph's own."""
    known = {id(tensor): key for key, tensor in tensors.items()}
    names = {}
    for key, tensor in used.items():
        names[key] = known.get(id(tensor), f"{_OWN}{key}")
        tensors.setdefault(names[key], tensor)
    return names


def is_own(name: str) -> bool:
    """Whether a tensor is the graph's own, and none of the network's weights."""
    return name.startswith(_OWN)
