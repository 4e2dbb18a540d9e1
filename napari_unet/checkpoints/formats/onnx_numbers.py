"""What an ONNX graph works out of shapes and constants, beside the image.

Exporters compute the size of an up-sampling or a padding from shapes, with a dozen
small operators. They are worked out here for several image sizes at once, see
`napari_unet.checkpoints.formats.tape`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import numpy_helper

from napari_unet.checkpoints.formats.refusal import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Array = np.ndarray[Any, Any]
    Attributes = dict[str, Any]

_MOST = 1 << 27
_INTEGERS = "iu"
_TYPES = {
    **{1: np.float32, 2: np.uint8, 3: np.int8, 5: np.int16, 6: np.int32, 7: np.int64},
    **{9: np.bool_, 10: np.float16, 11: np.float64},
}
"""Numbers of onnx.TensorProto.DataType."""


@dataclass(frozen=True, eq=False)
class Known:
    """A tensor whose values are known, for each probe if they depend on the size.

    Attributes
    ----------
    values : numpy.ndarray
        With one axis more at the end: a value for each probe, or one for all.
    """

    values: Array

    @classmethod
    def of(cls, array: Array) -> Known:
        """Make one of a constant."""
        return cls(np.asarray(array)[..., None])

    @property
    def fixed(self) -> Array | None:
        """The tensor where it is the same for all sizes, else None."""
        first = self.values[..., :1]
        return first[..., 0] if (self.values == first).all() else None


def work_out(operator: str, attributes: Attributes, inputs: Sequence[Any]) -> Known:
    """Carry out an operator on known tensors.

    Parameters
    ----------
    operator : str
        One of `NUMBERS`.
    attributes : dict
        As the file gives them.
    inputs : sequence of Known or None
        What it reads; None where an input is left out.

    Raises
    ------
    Refused
        If it cannot be worked out.
    """
    arrays = [None if i is None else i.values for i in inputs]
    if sum(a.size for a in arrays if a is not None) > _MOST:
        raise Refused("constants without measure")
    try:
        with np.errstate(divide="raise", invalid="raise"):
            result = NUMBERS[operator](attributes, *arrays)
    except (TypeError, ValueError, IndexError, KeyError, ArithmeticError) as error:
        raise Refused(f"the operator {operator} on constants ({error})") from None
    if result.size > _MOST:
        raise Refused("constants without measure")
    return Known(result)


def plain(values: Array | None) -> Any:
    """Return an argument such as axes, which must not depend on the size."""
    if values is None:
        return None
    fixed = Known(values).fixed
    if fixed is None:
        raise Refused("an argument that depends on the size of the image")
    return fixed


def _given(attributes: Attributes, name: str, values: Array | None) -> list[int]:
    """Return numbers that are an attribute in old files and an input in new ones."""
    found = attributes.get(name) if name in attributes else plain(values)
    return [] if found is None else [int(n) for n in np.atleast_1d(found)]


def _axis(attributes: Attributes, array: Array, default: int = 0) -> int:
    """Return an axis, counted without the one of the probes."""
    return int(attributes.get("axis", default)) % max(array.ndim - 1, 1)


def _gather(attributes: Attributes, data: Array, indices: Array) -> Array:
    places = plain(indices).astype(np.int64)
    return np.asarray(np.take(data, places, _axis(attributes, data)))


def _concat(attributes: Attributes, *parts: Array) -> Array:
    probes = max(p.shape[-1] for p in parts)
    same = [np.broadcast_to(p, (*p.shape[:-1], probes)) for p in parts]
    return np.concatenate(same, _axis(attributes, parts[0]))


def _slice(
    attributes: Attributes,
    data: Array,
    starts: Array | None = None,
    ends: Array | None = None,
    axes: Array | None = None,
    steps: Array | None = None,
) -> Array:
    first, last = _given(attributes, "starts", starts), _given(attributes, "ends", ends)
    along = _given(attributes, "axes", axes) or list(range(len(first)))
    pace = _given({}, "", steps) or [1] * len(first)
    index = [slice(None)] * data.ndim
    for a, b, axis, step in zip(first, last, along, pace, strict=True):
        end = None if step < 0 and b < -data.shape[axis] else b
        index[axis % (data.ndim - 1)] = slice(a, end, step)
    return data[tuple(index)]


def _unsqueeze(attributes: Attributes, data: Array, axes: Array | None = None) -> Array:
    added = _given(attributes, "axes", axes)
    ndim = data.ndim - 1 + len(added)
    return np.expand_dims(data, tuple(a % ndim for a in added))


def _squeeze(attributes: Attributes, data: Array, axes: Array | None = None) -> Array:
    gone = _given(attributes, "axes", axes) or [
        n for n, length in enumerate(data.shape[:-1]) if length == 1
    ]
    return np.squeeze(data, tuple(a % (data.ndim - 1) for a in gone))


def _reshape(attributes: Attributes, data: Array, shape: Array | None = None) -> Array:
    wanted = _given(attributes, "shape", shape)
    kept = [data.shape[n] if w == 0 else w for n, w in enumerate(wanted)]
    return data.reshape((*kept, data.shape[-1]))


def _transpose(attributes: Attributes, data: Array) -> Array:
    order = attributes.get("perm", list(range(data.ndim - 1))[::-1])
    return data.transpose((*order, data.ndim - 1))


def _cast(attributes: Attributes, data: Array) -> Array:
    return data.astype(_TYPES[attributes["to"]])


def _shape(attributes: Attributes, data: Array) -> Array:
    first, last = attributes.get("start", 0), attributes.get("end")
    return np.array(data.shape[:-1], dtype=np.int64)[first:last, None]


def _expand(attributes: Attributes, data: Array, shape: Array) -> Array:
    return np.broadcast_arrays(*_aligned(data, _filled({}, shape)))[0]


def _filled(attributes: Attributes, shape: Array) -> Array:
    lengths = [int(n) for n in plain(shape)]
    if np.prod(lengths, dtype=float) > _MOST:
        raise Refused("constants without measure")
    value = attributes.get("value")
    fill = np.float32(0) if value is None else numpy_helper.to_array(value).ravel()[0]
    return np.full((*lengths, 1), fill)


def _range(attributes: Attributes, *ends: Array) -> Array:
    first, last, step = (plain(e).item() for e in ends)
    if abs(last - first) > _MOST * abs(step):
        raise Refused("constants without measure")
    return np.arange(first, last, step)[:, None]


def _divided(attributes: Attributes, a: Array, b: Array) -> Array:
    """Divide; whole numbers towards zero, as the specification says."""
    a, b = _aligned(a, b)
    if a.dtype.kind in _INTEGERS and b.dtype.kind in _INTEGERS:
        return np.asarray(np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(b)), a.dtype)
    return np.asarray(a / b)


def _joined(join: Callable[[Array, Array], Array]) -> Callable[..., Array]:
    return lambda attributes, a, b: join(*_aligned(a, b))


def _aligned(a: Array, b: Array) -> tuple[Array, Array]:
    """Bring two tensors to as many axes, so that their last ones are the probes."""
    axes = max(a.ndim, b.ndim)
    first, second = (x.reshape((*[1] * (axes - x.ndim), *x.shape)) for x in (a, b))
    if np.prod(np.broadcast_shapes(first.shape, second.shape), dtype=float) > _MOST:
        raise Refused("constants without measure")
    return first, second


NUMBERS: dict[str, Callable[..., Array]] = {
    **{"Gather": _gather, "Concat": _concat, "Slice": _slice, "Range": _range},
    **{"Unsqueeze": _unsqueeze, "Squeeze": _squeeze, "Reshape": _reshape},
    **{"Transpose": _transpose, "Cast": _cast, "ConstantOfShape": _filled},
    **{"Add": _joined(np.add), "Sub": _joined(np.subtract), "Div": _divided},
    **{"Mul": _joined(np.multiply), "Floor": lambda _, a: np.floor(a)},
    **{"Ceil": lambda _, a: np.ceil(a), "Neg": lambda _, a: -a},
    **{"Identity": lambda _, a: a, "Sqrt": lambda _, a: np.sqrt(a)},
    **{"Shape": _shape, "Expand": _expand, "Equal": _joined(np.equal)},
    **{"Max": _joined(np.maximum), "Min": _joined(np.minimum)},
    "CastLike": lambda _, a, b: a.astype(b.dtype),
}
"""Operators on known tensors, each with a last axis for the probes."""
