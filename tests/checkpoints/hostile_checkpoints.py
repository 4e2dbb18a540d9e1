"""Harmless stand-ins for attacks: each would create the file MARK if it could run."""

from __future__ import annotations

import io
import os
import pickle
import tarfile
import warnings
import zipfile
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from pathlib import Path

MARK = "MARK"


class Evil:
    """Unpickling it opens MARK for writing."""

    def __reduce__(self):
        return open, (MARK, "w")


class Odd:
    """Unpickling it calls something unknown, beside which an attack may hide."""

    def __reduce__(self):
        return os.getcwd, ()


def rezip(source: Path, target: Path, change=lambda name, data: data, extra=(), how=0):
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", how) as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
        for name, data in extra:
            new.writestr(name, data)


def benign(path: Path, **tensors: torch.Tensor) -> Path:
    torch.save(tensors or {"w": torch.zeros(2, 2, 3)}, path)
    return path


def zip_reduce(path: Path) -> None:
    torch.save({"state_dict": Evil()}, path)


def legacy_reduce(path: Path) -> None:
    torch.save({"state_dict": Evil()}, path, _use_new_zipfile_serialization=False)


def bare_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(Evil(), 2))


def ascii_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(Evil(), 0))


def old_tar(path: Path) -> None:
    head = {"protocol_version": 1000, "little_endian": True, "type_sizes": {}}
    with tarfile.open(path, "w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            data = pickle.dumps(head if name == "sys_info" else Evil())
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def two_pickles(path: Path) -> None:
    good = benign(path.with_name("good.pth"))
    with zipfile.ZipFile(good) as archive:
        name = next(n for n in archive.namelist() if n.endswith("data.pkl"))
    with warnings.catch_warnings(action="ignore"):
        rezip(good, path, extra=[(name, pickle.dumps(Evil(), 2))])


def other_local_name(path: Path) -> None:
    """Let the directory and the member's own header disagree."""
    good = benign(path.with_name("good.pth"))
    data = good.read_bytes()
    path.write_bytes(data.replace(b"data.pkl", b"dada.pkl", 1))


def odd_beside(path: Path) -> None:
    """Offer a loader that falls back to less safety a reason to do so."""
    torch.save({"odd": Odd(), "state_dict": Evil()}, path)


def bad_setitem(path: Path) -> None:
    """Set an item on a list (CVE-2026-24747)."""
    good = benign(path.with_name("good.pth"))
    evil = b"\x80\2]K\0K\1s."
    rezip(good, path, lambda n, b: evil if n.endswith("data.pkl") else b)


def short_storage(path: Path) -> None:
    good = benign(path.with_name("good.pth"))
    rezip(good, path, lambda n, b: b[:4] if n.endswith("data/0") else b)


def endless_stride(path: Path) -> None:
    torch.save({"w": torch.zeros(1, 1, 1).expand(10**4, 10**4, 10**4)}, path)


def meta(path: Path) -> None:
    torch.save({"w": torch.empty(10**6, 10**3, 10**3, device="meta")}, path)


def bomb(path: Path) -> None:
    good = benign(path.with_name("good.pth"), w=torch.zeros(10, 10**5, 4))
    rezip(good, path, how=zipfile.ZIP_DEFLATED)


def climbing_name(path: Path) -> None:
    rezip(benign(path.with_name("good.pth")), path, extra=[("../MARK", b"x")])


def deep_list(path: Path) -> None:
    good = benign(path.with_name("good.pth"))
    nested = b"\x80\2" + b"]" * 20000 + b"a" * 19999 + b"."
    rezip(good, path, lambda n, b: nested if n.endswith("data.pkl") else b)


HOSTILE = {
    zip_reduce: r"call of (_?io|builtins)\.open",
    legacy_reduce: r"call of (_?io|builtins)\.open",
    bare_pickle: "bare Python pickle",
    ascii_pickle: "not a checkpoint",
    old_tar: "tar archive",
    two_pickles: "two members of one name",
    other_local_name: "ambiguous archive",
    odd_beside: r"call of (_?io\.open|posix|nt)",
    bad_setitem: "damaged",
    short_storage: "damaged",
    endless_stride: "larger than its data",
    meta: "without data",
    bomb: "grows from",
    climbing_name: "points outside itself",
    deep_list: "no network weights",
}
