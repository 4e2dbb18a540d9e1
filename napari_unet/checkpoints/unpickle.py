"""Reading PyTorch's pickled files without running what they hold.

Only `torch.load(weights_only=True)` is used, never the full unpickler, and there is no
second attempt with less safety. A class or function the file names and torch does not
know becomes an inert stub: it keeps its arguments and does nothing, and the module it
comes from is not imported. Names that only an attack needs are refused outright.
"""

from __future__ import annotations

import pickle
import pickletools
import re
import sys
import threading
import zipfile
import zlib
from collections import OrderedDict
from typing import IO, TYPE_CHECKING, Any

import torch

from napari_unet.checkpoints.container import zip_root
from napari_unet.checkpoints.source import damaged
from napari_unet.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LOCK = threading.Lock()
_MOST_BYTES = 1 << 27
_MOST_OPERATIONS = 5_000_000
_MOST_STUBS = 256
_MOST_CLASSES = 20_000
_LEGACY_PICKLES = 5
_DAMAGE = (
    *(ValueError, EOFError, OSError, KeyError, MemoryError),
    *(zipfile.BadZipFile, NotImplementedError, zlib.error),
)
_UNKNOWN = re.compile(r"Unsupported global: GLOBAL (\S+) was not an allowed")
_WHOLE_MODULE = "Only persistent_load of storage is allowed"
_NOT_A_DICT = re.compile(r"Can only SETITEMS? .*stub '([^']+)'")
_HARMLESS_MODULES = frozenset(
    "_codecs abc argparse array collections copyreg dataclasses datetime decimal enum "
    "fractions functools logging numbers pathlib queue random re string threading time "
    "typing uuid weakref".split()
)
_DENIED_MODULES = (
    frozenset(sys.stdlib_module_names) | {"__builtin__", "commands", "nt", "pip"}
) - _HARMLESS_MODULES
_HARMLESS_NAMES = frozenset(
    f"{module}.{name}"
    for module in ("builtins", "__builtin__")
    for name in "set frozenset bytearray complex slice range object int float bool str "
    "list dict tuple bytes unicode long xrange".split()
) | {"types.SimpleNamespace"}


class Stub:
    """Stands for a foreign object: its arguments and its state, and nothing more."""

    name = ""
    args: tuple[Any, ...]
    state: dict[str, Any]

    def __new__(cls, *args: Any, **_: Any) -> Stub:
        """Keep the arguments."""
        stub = super().__new__(cls)
        stub.args, stub.state = args, {}
        return stub

    def __setstate__(self, state: Any) -> None:
        """Keep the state."""
        self.state = state if isinstance(state, dict) else {"state": state}


def read_tree(path: Path, *, is_zip: bool) -> Any:
    """Return the objects of a PyTorch file, on the CPU, foreign ones as stubs.

    Parameters
    ----------
    path : pathlib.Path
        A torch zip or legacy file.
    is_zip : bool
        Which of the two it is.

    Raises
    ------
    ModelError
        If the file is damaged, or names something that could run code.
    """
    names = _named(path, is_zip)
    refuse_dangerous(path, names)
    # TorchScript has a class of its own for each module, which no Python name is
    stubs = {n: _inert(n) for n in names if n.startswith("__torch__.")}
    asked = len(stubs) + _MOST_STUBS
    if asked > _MOST_CLASSES:
        raise damaged(path, f"{len(stubs)} classes of TorchScript")
    with _LOCK:
        while True:
            try:
                return _load(path, stubs)
            except pickle.UnpicklingError as error:
                if len(stubs) >= asked:
                    raise damaged(path, f"over {_MOST_STUBS} foreign names") from error
                _stub_unknown(path, error, stubs)
            except ModelError:
                raise
            except Exception as error:  # the file's bytes decide what breaks here
                raise damaged(path, _first_line(error)) from error


def _load(path: Path, stubs: dict[str, type]) -> Any:
    """Load with torch's restricted unpickler; stubs are known inside this call only."""
    allowed: list[Any] = [(stub, name) for name, stub in stubs.items()]
    with torch.serialization.safe_globals(allowed):
        return torch.load(path, map_location="cpu", weights_only=True)


def _stub_unknown(
    path: Path, error: pickle.UnpicklingError, stubs: dict[str, type]
) -> None:
    """Add the stub that the unpickler asked for, or give up."""
    text = str(error)
    unknown, mapping = _UNKNOWN.search(text), _NOT_A_DICT.search(text)
    if mapping and issubclass(stubs[mapping[1]], Stub):
        stubs[mapping[1]] = _dictionary(mapping[1])
    elif unknown and unknown[1] not in stubs:
        for name in (unknown[1], f"builtins.{unknown[1]}"):
            stubs.setdefault(name, _inert(name))
    elif _WHOLE_MODULE in text:
        raise ModelError(
            f"{path.name} is refused: it holds a whole network in the file format of "
            "before PyTorch 1.6",
            found="source code beside the weights",
            expected="weights only",
            hint="Save net.state_dict() where the network was made.",
        ) from error
    else:
        raise damaged(path, _first_line(error)) from error


class _Named(type):
    """Lets torch's messages name the stub."""

    def __repr__(cls) -> str:
        return f"stub '{cls.name}'"  # type: ignore[attr-defined]


def _inert(name: str) -> type:
    return _Named("Inert", (Stub,), {"name": name})


def _dictionary(name: str) -> type:
    """Make a stand-in for a dictionary-like class: an OrderedDict."""

    def new(_: type, *__: Any, **___: Any) -> OrderedDict[Any, Any]:
        return OrderedDict()

    return _Named("Mapping", (), {"name": name, "__new__": new})


def _named(path: Path, is_zip: bool) -> set[str]:
    """Return the globals the file's pickles name."""
    try:
        if not is_zip:
            with path.open("rb") as file:
                return {n for _ in range(_LEGACY_PICKLES) for n in _globals(path, file)}
        with zipfile.ZipFile(path) as archive:
            info = archive.getinfo(f"{zip_root(path)}/data.pkl")
            if info.file_size > _MOST_BYTES:
                raise damaged(path, "a directory of tensors of over 128 MB")
            with archive.open(info) as member:
                return set(_globals(path, member))
    except _DAMAGE as error:
        raise damaged(path, _first_line(error)) from error


def _globals(path: Path, file: IO[bytes]) -> Iterator[str]:
    """Walk one pickle without executing it."""
    for count, (code, argument, _) in enumerate(pickletools.genops(file)):
        if count > _MOST_OPERATIONS:
            raise damaged(path, "a pickle of over five million operations")
        if code.name in ("GLOBAL", "INST"):
            yield str(argument).replace(" ", ".")
        elif code.name in ("STACK_GLOBAL", "FRAME", "EXT1", "EXT2", "EXT4", "PERSID"):
            raise ModelError(
                f"{path.name} is written in a pickle protocol that is not read",
                found=code.name,
                expected="protocol 2, torch.save's own",
                hint="Save it again without pickle_protocol.",
            )


def refuse_dangerous(path: Path, names: set[str]) -> None:
    """Refuse a file whose pickles name what only an attack needs.

    Raises
    ------
    ModelError
        With the first such name.
    """
    for name in sorted(names):
        module = name.partition(".")[0]
        if module in _DENIED_MODULES and name not in _HARMLESS_NAMES:
            raise ModelError(
                f"{path.name} is refused: opening it would run code",
                found=f"a call of {name}",
                expected="weights only",
                hint="Do not open this file with other programs either.",
            )


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    text = lines[0] if lines else type(error).__name__
    return text if len(text) < 160 else f"{text[:160]} ..."
