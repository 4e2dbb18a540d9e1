"""Run another library's networks and store what they give.

Used by the ``make_<library>.py`` scripts beside this file, each in an environment of
its own with the library (``requirements/<library>.txt``), never by the tests.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import recipe
import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable

STORED = Path(__file__).parent / "stored"
MOST_TEXT = 200_000
"""Characters; longer files are compressed."""


@dataclass
class Case:
    """One network of a library.

    Attributes
    ----------
    name : str
        Unique within the library, such as ``"unet-2d-res2-batch"``.
    module : torch.nn.Module
        The library's own, with any weights.
    shape : tuple of int
        Of the input (N, C, *spatial).
    family : str
        Family it must be recognised as.
    settings : dict
        Architecture settings that names and shapes cannot tell, as a person would set
        them in the sidecar; each must be listed as assumed, with this value among the
        alternatives or of free choice.
    hints : dict
        Settings that the library writes beside the weights.
    fields : dict
        Fields of the spec that the loader must have found.
    prepare : callable, optional
        Makes the module's input of the image.
    pick : callable, optional
        Makes the one output of what the module returns.
    unused : str
        What the names of tensors begin with that work in training only and are left
        out.
    """

    name: str
    module: nn.Module
    shape: tuple[int, ...]
    family: str
    settings: dict[str, Any] = field(default_factory=dict)
    hints: dict[str, Any] = field(default_factory=dict)
    fields: dict[str, Any] = field(default_factory=dict)
    prepare: Callable[[torch.Tensor], Any] | None = None
    pick: Callable[[Any], torch.Tensor] | None = None
    unused: str = ""


def record(
    library: str,
    package: str,
    cases: list[Case],
    note: str = "",
    dtype: torch.dtype = torch.float32,
) -> None:
    """Fill, run and store the cases of a library in ``stored/<library>.{json,npz}``.

    Networks run in `dtype`; deep ones in float64, since their own float32 is further
    from it than the tests allow. Long JSON is compressed, as ``.json.gz``.
    """
    STORED.mkdir(exist_ok=True)
    facts: dict[str, Any] = {
        "library": library,
        "version": version(package) if package else note,
        "torch": torch.__version__,
        "cases": {},
    }
    outputs = {}
    for case in cases:
        schema, output = run(case, dtype)
        assert case.name not in outputs, case.name
        assert output.std() > 1e-3, f"{case.name}: a constant output proves nothing"
        outputs[case.name] = recipe.sample(output)
        told = asdict_without(case)
        facts["cases"][case.name] = {
            **told,
            "output": list(output.shape),
            "schema": schema,
        }
    _write(library, _json(facts))
    np.savez_compressed(STORED / f"{library}.npz", **outputs)


def _write(library: str, text: str) -> None:
    """Write the facts as text, or compressed where a large network made them long."""
    plain, packed = (STORED / f"{library}.json{end}" for end in ("", ".gz"))
    for path in (plain, packed):
        path.unlink(missing_ok=True)
    if len(text) <= MOST_TEXT:
        plain.write_text(text)
    else:
        packed.write_bytes(gzip.compress(text.encode(), mtime=0))


def run(case: Case, dtype: torch.dtype = torch.float32) -> tuple[list[Any], np.ndarray]:
    """Return the schema of a case's state dict, and the output on the image."""
    module = case.module.eval()
    state = module.state_dict()
    schema = [
        [k, list(v.shape), str(v.dtype).removeprefix("torch.")]
        for k, v in state.items()
    ]
    values = recipe.fill(schema)
    done: dict[int, str] = {}
    for key, tensor in state.items():  # one tensor under two names: the first counts
        if done.setdefault(tensor.data_ptr(), key) == key or not tensor.numel():
            tensor.copy_(torch.from_numpy(values[key]))
    shared = _shared(schema, state)
    module.to(dtype)
    image = torch.from_numpy(recipe.image(case.shape)).to(dtype)
    with torch.inference_mode():
        output = module(case.prepare(image) if case.prepare else image)
    output = case.pick(output) if case.pick else output
    return shared, output.float().numpy()


def _shared(schema: list[Any], state: dict[str, torch.Tensor]) -> list[Any]:
    """Add to each repeated tensor the name under which it came first."""
    first: dict[int, str] = {}
    rows = []
    for row in schema:
        tensor = state[row[0]]
        name = first.setdefault(tensor.data_ptr(), row[0]) if tensor.numel() else row[0]
        rows.append(row if name == row[0] else [*row, name])
    return rows


def asdict_without(case: Case) -> dict[str, Any]:
    """Return a case's plain facts."""
    skipped = ("module", "prepare", "pick", "name")
    case = Case(**{**case.__dict__, "module": nn.Identity()})
    return {k: v for k, v in asdict(case).items() if k not in skipped}


def _json(facts: dict[str, Any]) -> str:
    """Write one line per case, which a diff can show."""
    cases = facts.pop("cases")
    head = json.dumps(facts)[:-1]
    lines = ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in cases.items())
    return f'{head}, "cases": {{\n{lines}\n}}}}\n'
