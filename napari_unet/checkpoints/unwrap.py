"""From what a training program saved to the bare tensors by name."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import islice, takewhile
from typing import TYPE_CHECKING, Any

import torch

from napari_unet.checkpoints.unpickle import Stub
from napari_unet.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

NESTS = (
    *("state_dict", "model_state_dict", "model_state", "network_weights", "model"),
    *("net", "network", "weights", "params", "module", "generator", "student"),
    *("model_ema", "ema_state_dict", "ema", "averaged_model", "teacher"),
)
_NOT_WEIGHTS = ("optim", "sched", "scaler", "loops", "callbacks", "criterion", "loss")
_DEEPEST = 4
_MOST_TENSORS = 100_000
_MOST_BYTES = 1 << 34
_SHARED_TIMES = 8
_DEEPEST_PLAIN = 12
_WIDEST = 500
_MOST_VALUES = 200_000


@dataclass
class Found:
    """Tensors by name, and what lay around them.

    Attributes
    ----------
    tensors : dict of str to torch.Tensor
        Contiguous; floating-point ones in float32.
    wrapper : str
        Keys that led to them, such as ``"model_state_dict"``; empty for a bare file.
    extras : dict
        Plain values beside or among the tensors, JSON-able and cut to a sane size.
    notes : list of str
        What was changed or left out.
    choices : list of str
        Keys of other sets of the same weights, such as ``"model_ema"``.
    hints : dict
        JSON-able settings of the network that the format itself tells; ``"program"``
        is the whole graph, see `napari_unet.networks.program`, ``"refused"`` says why
        a graph is left out, ``"unordered"`` that the order of the names means nothing;
        ``"caffe"`` and ``"modeldef"`` are of `napari_unet.checkpoints.formats.caffe`.
    """

    tensors: dict[str, torch.Tensor]
    wrapper: str = ""
    extras: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    choices: list[str] = field(default_factory=list)
    hints: dict[str, Any] = field(default_factory=dict)


def unwrap(tree: Any, name: str, choice: str = "") -> Found:
    """Find the network's weights in the objects of a file.

    Parameters
    ----------
    tree : object
        What the file holds.
    name : str
        Name of the file, for messages.
    choice : str
        Keys that lead to the wanted set of weights, one of `Found.choices`; the
        network as it was trained, not an average of it, when not given.

    Raises
    ------
    ModelError
        If there are no weights, or weights that cannot be used: NaN, complex,
        quantised, sparse, without data, or larger than the file.
    """
    wrapper, state = _descend(tree, name, choice.split(".") if choice else [])
    found = Found({}, wrapper, plain(tree, without=state))
    found.choices = _others(tree, state, wrapper)
    for key, value in state.items():
        if isinstance(value, torch.Tensor):
            found.tensors[str(key)] = value
        else:
            found.extras[str(key)] = plain(value)
    check(found.tensors, name)
    to_float32(found)
    return found


def _descend(tree: Any, name: str, wish: list[str]) -> tuple[str, dict[Any, Any]]:
    """Follow the keys wished for, then known ones, to a mapping of tensors."""
    path: list[str] = []
    for _ in range(_DEEPEST):
        tree = _module_state(tree) if isinstance(tree, Stub) else tree
        if _is_state(tree):
            return ".".join(path), tree
        key = wish.pop(0) if wish else _next_key(tree)
        if not isinstance(tree, dict) or key is None or not _count(tree.get(key)):
            break
        path.append(key)
        tree = tree[key]
    raise ModelError(
        f"{name} holds no network weights",
        found=_describe(tree),
        expected="a mapping of names to tensors",
        hint="Save net.state_dict().",
    )


def _others(tree: Any, state: dict[Any, Any], wrapper: str) -> list[str]:
    """Return the keys beside `wrapper` that lead to as many weights."""
    wanted, parent = _count(state), wrapper.rpartition(".")[0]
    for key in parent.split(".") if parent else ():
        tree = tree[key] if isinstance(tree, dict) else {}
    if not wrapper or not isinstance(tree, dict):
        return []
    last = wrapper.rpartition(".")[2]
    found = [k for k, v in tree.items() if k != last and _count(v) == wanted]
    return [f"{parent}.{k}" if parent else str(k) for k in found if k in NESTS]


def _is_state(tree: Any) -> bool:
    """Whether a mapping holds named weights itself."""
    if not isinstance(tree, dict):
        return False
    tensors = [v for k, v in tree.items() if isinstance(k, str) and _is_weight(v)]
    return bool(tensors)


def _is_weight(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.ndim >= 3


def _next_key(tree: Any) -> str | None:
    """Return the key that leads on: a known one, else the one with most weights."""
    if not isinstance(tree, dict):
        return None
    for key in NESTS:
        if key in tree and _count(tree[key]):
            return key
    others = [
        k
        for k in tree
        if isinstance(k, str) and not any(w in k.lower() for w in _NOT_WEIGHTS)
    ]
    best = max(others, key=lambda k: _count(tree[k]), default=None)
    return best if best is not None and _count(tree[best]) else None


def _count(tree: Any, depth: int = 0) -> int:
    """Count the weights below an object, a few levels deep."""
    if isinstance(tree, Stub):
        tree = _module_state(tree)
    if not isinstance(tree, dict) or depth > _DEEPEST:
        return 0
    here = sum(_is_weight(v) for v in tree.values())
    return here + sum(_count(v, depth + 1) for v in tree.values())


def _module_state(stub: Stub, prefix: str = "", depth: int = 0) -> dict[str, Any]:
    """State dict of a whole pickled module, read from its stub."""
    state: dict[str, Any] = {}
    if depth > 64:
        return state
    for kind in ("_parameters", "_buffers"):
        held = stub.state.get(kind)
        if isinstance(held, dict):
            state.update({f"{prefix}{k}": v for k, v in held.items() if v is not None})
    children = stub.state.get("_modules")
    for key, child in children.items() if isinstance(children, dict) else ():
        if isinstance(child, Stub):
            state.update(_module_state(child, f"{prefix}{key}.", depth + 1))
    return state


def check(tensors: dict[str, torch.Tensor], name: str) -> None:
    """Refuse tensors that are not plain numbers held in the file."""
    if len(tensors) > _MOST_TENSORS:
        raise _bad(name, f"{len(tensors)} tensors", "at most 100,000")
    for key, tensor in tensors.items():
        reason = _unusable(tensor)
        if reason:
            raise _bad(name, f"{key} is {reason}", "plain numbers")
    claimed = sum(t.numel() * t.element_size() for t in tensors.values())
    stores = {s.data_ptr(): s.nbytes() for s in map(_storage, tensors.values())}
    most = min(_MOST_BYTES, _SHARED_TIMES * sum(stores.values()) + 4096)
    if claimed > most:
        raise _bad(name, f"tensors of {claimed} bytes in all", f"at most {most}")
    bad = [k for k, t in tensors.items() if not _is_finite(t)]
    if bad:
        more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
        found = f"NaN or infinite values in {', '.join(bad[:5])}{more}"
        raise _bad(name, found, "finite weights")


def _unusable(tensor: torch.Tensor) -> str:
    """Say why a tensor is no plain array, empty if it is."""
    if tensor.device.type == "meta":
        return "without data (meta)"
    if tensor.layout != torch.strided:
        return "sparse"
    if tensor.is_quantized:
        return "quantised"
    if tensor.is_complex():
        return "complex"
    if tensor.numel() * tensor.element_size() > _storage(tensor).nbytes():
        return "larger than its data in the file"
    return ""


def _storage(tensor: torch.Tensor) -> torch.UntypedStorage:
    return tensor.untyped_storage()


def _is_finite(tensor: torch.Tensor) -> bool:
    if not tensor.is_floating_point():
        return True
    return bool(torch.isfinite(tensor.float().sum(dtype=torch.float64)))


def to_float32(found: Found) -> None:
    """Bring floating-point tensors to float32, each with its own memory."""
    kinds = {t.dtype for t in found.tensors.values() if t.is_floating_point()}
    for dtype in sorted(kinds - {torch.float32}, key=str):
        word = str(dtype).removeprefix("torch.")
        found.notes.append(f"weights stored as {word} were converted to float32")
    for key, tensor in found.tensors.items():
        dtype = torch.float32 if tensor.is_floating_point() else tensor.dtype
        found.tensors[key] = tensor.detach().to(dtype).clone().contiguous()


def plain(value: Any, without: Any = None) -> Any:
    """Reduce a foreign value to JSON, cut in depth and size; tensors are left out.

    Parameters
    ----------
    value : object
        Made of dictionaries, sequences, numbers, strings and stubs.
    without : object, optional
        A dictionary inside `value` that is left out.
    """
    return _Plain(without).cut(value)


class _Plain:
    """Cuts foreign values, of which at most `_MOST_VALUES` are kept in all."""

    def __init__(self, without: Any) -> None:
        self._without = without
        self._left = _MOST_VALUES

    def cut(self, value: Any, depth: int = 0) -> Any:
        self._left -= 1
        if isinstance(value, Stub):
            value = value.state or list(value.args)
        if isinstance(value, (bool, int, str)) or value is None:
            return value[:1000] if isinstance(value, str) else value
        if isinstance(value, float):
            return value if math.isfinite(value) else None
        if depth > _DEEPEST_PLAIN or self._left <= 0:
            return None
        if isinstance(value, dict):
            items = ((k, v) for k, v in value.items() if self._keeps(v))
            return {str(k)[:200]: self.cut(v, depth + 1) for k, v in self._few(items)}
        if isinstance(value, (list, tuple, set)):
            return [self.cut(v, depth + 1) for v in self._few(value)]
        return None

    def _few(self, values: Iterable[Any]) -> Iterator[Any]:
        return takewhile(lambda _: self._left > 0, islice(values, _WIDEST))

    def _keeps(self, value: Any) -> bool:
        is_left_out = self._without is not None and value is self._without
        return not is_left_out and not isinstance(value, torch.Tensor)


def _describe(tree: Any) -> str:
    """Say what an object without weights is."""
    if isinstance(tree, torch.Tensor):
        return "a single tensor"
    if isinstance(tree, dict):
        keys = ", ".join(str(k)[:40] for k in list(tree)[:6])
        return f"keys {keys}" if keys else "an empty mapping"
    return f"a {getattr(tree, 'name', '') or type(tree).__name__}"


def _bad(name: str, found: str, expected: str) -> ModelError:
    return ModelError(
        f"The weights in {name} cannot be used", found=found, expected=expected
    )
