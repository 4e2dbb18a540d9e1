"""The graph of a torch.export package: nodes of JSON to the steps of a program.

Facts of torch/_export/serde/schema.py, schema version 8.20; names of fields have not
changed since torch 2.1. What a file says of the shapes inside the network is not used,
only the shape of its input.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from napari_unet.checkpoints.formats.aten_operators import call
from napari_unet.checkpoints.formats.refusal import Refused
from napari_unet.checkpoints.formats.tape import Tape, Value, record

if TYPE_CHECKING:
    from collections.abc import Mapping

DTYPES = {
    **{1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64},
    **{6: torch.float16, 7: torch.float32, 8: torch.float64, 12: torch.bool},
    13: torch.bfloat16,
}
"""By number in the file."""

_SPACES = ("torch.ops.aten.", "_operator.", "math.", "torch.sym_")
_BY_NAME = frozenset(
    "alpha approximate dtype layout device pin_memory memory_format rounding_mode "
    "non_blocking copy".split()
)
"""Arguments that schemas allow by name only; older files do not say which are."""
_PLAIN = ("as_int", "as_float", "as_bool", "as_string", "as_ints", "as_floats")
_KEYWORD = 2


def translate(
    facts: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]
) -> tuple[Tape, Value]:
    """Read the graph of a package.

    Parameters
    ----------
    facts : mapping
        The JSON of its exported program.
    tensors : mapping of str to torch.Tensor
        Weights, buffers and constants by name.

    Returns
    -------
    Tape
        The steps.
    Value
        The network's output.

    Raises
    ------
    Refused
        If it is more than a plain graph from one image to one image.
    """
    try:
        module = facts["graph_module"]
        values, image = _bound(module["signature"]["input_specs"], tensors)
        sizes = module["graph"]["tensor_values"][image]["sizes"]
        shape = [n.get("as_int") for n in sizes]
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise Refused(f"a graph that does not fit ({error!r})"[:300]) from error
    tape, output = record(
        shape,
        lambda tape: _Reader(module, tape, {**values, image: tape.image}).read(),
    )
    tape.note_size(shape)
    return tape, output


def _bound(
    specs: list[Mapping[str, Any]], tensors: Mapping[str, torch.Tensor]
) -> tuple[dict[str, Any], str]:
    """Give the inputs of a graph their tensors; return the name of the image, too."""
    values, images = {}, []
    for spec in specs:
        ((kind, entry),) = spec.items()
        if kind == "user_input":
            images.append(str(entry["arg"]["as_tensor"]["name"]))
        elif kind in ("parameter", "buffer", "tensor_constant"):
            values[entry["arg"]["name"]] = tensors[entry[f"{kind}_name"]]
        else:
            raise Refused(f"an input of kind {kind}")
    if len(images) != 1:
        raise Refused(f"{len(images)} inputs")
    return values, images[0]


class _Reader:
    """Carries out the nodes in their order."""

    def __init__(
        self, module: Mapping[str, Any], tape: Tape, values: dict[str, Any]
    ) -> None:
        self.graph, self.signature = module["graph"], module["signature"]
        self.tape, self.values = tape, values

    def read(self) -> Value:
        """Carry out all nodes and return the output."""
        for node in self.graph["nodes"]:
            self._carry_out(node)
        return self._output()

    def _output(self) -> Value:
        specs = self.signature["output_specs"]
        if any("user_output" not in s for s in specs):
            raise Refused("a network that changes its own weights")
        outputs = [self._argument(s["user_output"]["arg"]) for s in specs]
        if len(outputs) > 1:
            self.tape.note("only the first of several outputs is used")
        if not isinstance(outputs[0], Value):
            raise Refused("an output that is no image")
        return outputs[0]

    def _carry_out(self, node: Mapping[str, Any]) -> None:
        name = str(node["target"])
        space = next((s for s in _SPACES if name.startswith(s)), None)
        if space is None:
            raise Refused(f"the operator {name[:80]}")
        args, settings = [], {}
        for entry in node["inputs"]:
            value = self._argument(entry["arg"])
            if entry.get("kind") == _KEYWORD or entry["name"] in _BY_NAME:
                settings[entry["name"]] = value
            else:
                args.append(value)
        result = call(self.tape, name.removeprefix(space).split(".")[0], args, settings)
        self._keep(node["outputs"], result)

    def _keep(self, outputs: list[Mapping[str, Any]], result: Any) -> None:
        """Name what an operator gave."""
        names: list[str] = []
        for output in outputs:
            ((kind, entry),) = output.items()
            parts = entry if kind == "as_tensors" else [entry]
            names += [str(_name(p)) for p in parts]
        results = result if isinstance(result, (list, tuple)) else (result,)
        self.values.update(zip(names, results, strict=False))

    def _argument(self, argument: Mapping[str, Any]) -> Any:
        """Return what an argument of a node stands for."""
        ((kind, entry),) = argument.items()
        if kind in _PLAIN:
            return entry
        if kind == "as_tensor":
            return self.values[entry["name"]]
        if kind == "as_tensors":
            return [self.values[e["name"]] for e in entry]
        if kind in ("as_sym_int", "as_sym_float"):
            return self._number(entry)
        if kind in ("as_sym_ints", "as_sym_floats"):
            return [self._number(e) for e in entry]
        if kind == "as_scalar_type":
            return DTYPES.get(entry, torch.complex64)
        if kind in ("as_none", "as_memory_format", "as_layout", "as_device"):
            return None
        raise Refused(f"an argument of kind {kind}")

    def _number(self, entry: Mapping[str, Any]) -> Any:
        """Return a number that stands there, or that the graph has worked out."""
        ((kind, value),) = entry.items()
        return self.values[value] if kind == "as_name" else value


def _name(entry: Any) -> Any:
    """Return the name of an output, which may also be None or a plain number."""
    if isinstance(entry, dict):
        return entry.get("name", entry.get("as_name"))
    return entry
