"""Folders that cannot be written in: told before anything is computed."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess

import pytest

from faults import small_batch
from napari_unet.errors import OutputError
from napari_unet.events import Warned

pytestmark = pytest.mark.skipif(os.name == "nt", reason="rights of POSIX")
NOBODY = 65534


@pytest.fixture
def place(quick_disk):
    """A folder that others may enter, images in it, and a network."""
    quick_disk.chmod(0o755)
    source = small_batch.images(quick_disk / "in")
    net = small_batch.network()
    small_batch.run(source, quick_disk / "warm", net)  # all is imported
    return quick_disk, source, net


@contextlib.contextmanager
def as_a_user():
    """Go without the rights of root for a while."""
    if os.geteuid() != 0:
        yield
        return
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


def told(source, output, net):
    """Run a batch; say which error ended it and which warnings it gave."""
    try:
        events = small_batch.run(source, output, net)
    except OutputError as error:
        return ["", str(error)]
    summary = events[-1].result
    return [str(summary), *(e.message for e in events if isinstance(e, Warned))]


@pytest.mark.parametrize("mode", [0o555, 0o444, 0o000])
def test_an_output_folder_without_permission(place, mode):
    folder, source, net = place
    output = folder / "out"
    output.mkdir()
    output.chmod(mode)
    with as_a_user():
        summary, words = told(source, output, net)
    assert summary == ""
    assert "no permission to write in" in words
    output.chmod(0o755)
    assert list(output.iterdir()) == []


def test_images_that_may_not_be_read(place):
    folder, source, net = place
    (source / "b.tif").chmod(0)
    output = folder / "out"
    output.mkdir()
    output.chmod(0o777)
    with as_a_user():
        summary, *words = told(source, output, net)
    assert summary.startswith("2 done, 0 skipped (done before), 1 failed")
    assert "b.tif could not be read: found Permission denied" in words[-1]


@pytest.fixture
def read_only(place):
    """A file system that is mounted read-only, with a folder of results on it."""
    folder, source, net = place
    mounted = folder / "mounted"
    (mounted / "out").mkdir(parents=True)
    small_batch.run(source, mounted / "out", net)
    shutil.copytree(source, mounted / "in")
    try:
        for options in ("bind", "remount,bind,ro"):
            command = ["mount", "-o", options, str(mounted), str(mounted)]
            subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        subprocess.run(["umount", "-l", str(mounted)], check=False, capture_output=True)
        pytest.skip("nothing may be mounted here")
    yield mounted
    subprocess.run(["umount", "-l", str(mounted)], check=True)


def test_a_file_system_that_is_mounted_read_only(place, read_only):
    folder, source, net = place
    summary, words = told(source, read_only / "new", net)
    assert summary == ""
    assert "no permission to write in" in words
    old = small_batch.tree(read_only / "out")
    (source / "a.tif").write_bytes((source / "c.tif").read_bytes())
    summary, words = told(source, read_only / "out", net)
    assert summary == ""
    assert "no permission to write in" in words
    assert small_batch.tree(read_only / "out") == old
    events = small_batch.run(read_only / "in", folder / "out", net)
    assert events[-1].result.count("done") == 3
