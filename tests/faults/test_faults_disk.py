"""A disk that is really full, and the one door through which all is written."""

from __future__ import annotations

import ast
import os
import subprocess
from pathlib import Path

import pytest

from napari_unet.events import Finished, Warned

PACKAGE = Path(__file__).parents[2] / "napari_unet"
DOORS = {"disk.py"}
ELSEWHERE = {
    ("checkpoints/child.py", "write_text"),  # within the folder of the quarantine
    ("checkpoints/child.py", "save_file"),
    ("checkpoints/source.py", "write_bytes"),  # likewise
    ("batch/unit.py", "write_text"),  # a file of the kernel
    ("gui/staging.py", "open_memmap"),  # the viewer's scratch
    ("execution/cluster.py", "open"),  # what workers say, in a temporary folder
}
WRITING = {
    "write_text", "write_bytes", "tofile", "save_file", "imwrite", "open_memmap",
    "replace", "rename", "fsync", "mkstemp", "NamedTemporaryFile", "savez", "to_csv",
}  # fmt: skip


def writes(tree: ast.AST):
    """Names of the calls in a module that change a disk."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        name = getattr(function, "attr", getattr(function, "id", ""))
        of_os = getattr(getattr(function, "value", None), "id", "") == "os"
        if name in ("replace", "rename", "fsync") and not of_os:
            continue
        if name in WRITING:
            yield name
        if name == "open" and any(
            isinstance(a, ast.Constant)
            and isinstance(a.value, str)
            and set(a.value) & set("wax+")
            and len(a.value) < 4
            for a in [*node.args, *(k.value for k in node.keywords)]
        ):
            yield name


def test_all_is_written_through_one_door():
    found = {
        (path.relative_to(PACKAGE).as_posix(), name)
        for path in PACKAGE.rglob("*.py")
        if path.name not in DOORS
        for name in writes(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert found - ELSEWHERE == set()


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 400 kB, where one may be mounted."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(place)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no file system may be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.parametrize("suffix", [".ome.tif", ".ome.zarr"])
def test_a_disk_that_fills_up(small_disk, tmp_path, suffix):
    from faults import small_batch
    from napari_unet.errors import OutputError

    net = small_batch.network()
    source = small_batch.images(tmp_path / "in")
    small_batch.run(source, tmp_path / "wanted", net, suffix=suffix)
    output = small_disk / "out"
    output.mkdir()
    ballast = output / "ballast"
    small_batch.run(source, output, net, suffix=suffix)
    old = small_batch.tree(output)
    fill(ballast)
    try:
        events = small_batch.run(source, output, net, suffix=suffix, threshold=0.4)
        said = [e.message for e in events if isinstance(e, Warned)]
    except OutputError as error:
        said = [str(error)]
    assert any("no space left on the disk (" in text for text in said), said
    assert any("MB free" in text for text in said), said
    left = small_batch.tree(output)
    left.pop("ballast")
    assert left == old
    ballast.unlink()
    last = small_batch.run(source, output, net, suffix=suffix, threshold=0.4)[-1]
    assert isinstance(last, Finished)
    assert last.result.count("done") == 3


def fill(path: Path) -> None:
    """Take up all the space there is."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(os.urandom(1 << 12))
        except OSError:
            return
