"""Atomic writing under injected faults."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
from collections import namedtuple

import pytest

from napari_unet import disk
from napari_unet.errors import OutputError, UsageError
from napari_unet.files import (
    Commit,
    append,
    commit,
    digest,
    littered,
    mark,
    place,
    reserve,
    staged,
    sweep,
    telling_write_errors,
    write,
)  # fmt: skip

FAULTS = [
    (errno.ENOSPC, "no space left on the disk .*MB free"),
    (errno.EDQUOT, "share of the disk is used up .*MB free"),
    (errno.EACCES, "no permission to write in"),
    (errno.EROFS, "no permission to write in"),
    (errno.EIO, "Input/output error"),
]


def failing(number):
    def fail(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    return fail


def failing_once(number, function):
    calls = []

    def fail(*args, **kwargs):
        calls.append(args)
        if len(calls) == 1:
            failing(number)()
        return function(*args, **kwargs)

    return fail


def raising(error):
    def fail():
        raise error

    return fail


def fill(path, *, folder=False, then=lambda: None):
    """Write a file or a folder, do something else, and commit."""
    with commit(path) as part:
        if folder:
            part.mkdir()
        (part / "new" if folder else part).write_text("new")
        then()


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_file_appears_at_the_end(tmp_path):
    path = tmp_path / "new" / "a.ome.tif"
    with commit(path) as part:
        part.write_bytes(b"x")
        assert part.suffix == ".tif"
        assert part.parent == path.parent
        assert part.name.startswith(".")
        assert not path.exists()
    assert path.read_bytes() == b"x"
    assert names(path.parent) == ["a.ome.tif"]


def test_folder_replaces_a_folder_and_a_file(tmp_path):
    path = tmp_path / "a.zarr"
    path.write_text("a file")
    for text in ("one", "two"):
        with commit(path) as part:
            part.mkdir()
            (part / text).write_text(text)
        assert names(path) == [text]
        assert names(tmp_path) == ["a.zarr"]


def test_file_never_replaces_a_folder(tmp_path):
    (tmp_path / "a.tif").mkdir()
    with pytest.raises(OutputError, match="a folder of that name"):
        fill(tmp_path / "a.tif")
    assert names(tmp_path) == ["a.tif"]


def test_link_is_replaced_not_followed(tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "a").write_text("a")
    os.symlink(tmp_path / "precious", tmp_path / "b.zarr")
    with commit(tmp_path / "b.zarr") as part:
        part.mkdir()
    assert not (tmp_path / "b.zarr").is_symlink()
    assert names(tmp_path / "precious") == ["a"]
    assert names(tmp_path) == ["b.zarr", "precious"]


@pytest.mark.parametrize(("number", "words"), FAULTS)
@pytest.mark.parametrize("call", ["fsync", "replace", "open"])
@pytest.mark.parametrize("folder", [False, True])
def test_any_fault_leaves_the_old_and_no_rubbish(
    tmp_path, monkeypatch, call, number, words, folder
):
    path = tmp_path / "a"
    with commit(path) as part:
        part.mkdir() if folder else part.write_text("old")
    before = digest(path)

    def start_to_fail():
        monkeypatch.setattr(os, call, failing_once(number, getattr(os, call)))

    with pytest.raises(OutputError, match=words):
        fill(path, folder=folder, then=start_to_fail)
    monkeypatch.undo()
    assert digest(path) == before
    assert names(tmp_path) == ["a"]


def test_folder_comes_back_when_the_second_rename_fails(tmp_path, monkeypatch):
    path = tmp_path / "a.zarr"
    path.mkdir()
    (path / "old").touch()
    renames, rename = [], os.replace

    def second_fails(source, target):
        renames.append(target)
        if len(renames) == 2:
            raise OSError(errno.EIO, "Input/output error")
        rename(source, target)

    monkeypatch.setattr(os, "replace", second_fails)
    with pytest.raises(OutputError, match="Input/output"):
        fill(path, folder=True)
    assert names(path) == ["old"]
    assert names(tmp_path) == ["a.zarr"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
def test_fault_while_the_caller_writes(tmp_path, number):
    with pytest.raises(OutputError, match=r"a.tif could not be written"):
        fill(tmp_path / "a.tif", then=failing(number))
    assert names(tmp_path) == []


def test_other_errors_pass_and_leave_nothing(tmp_path):
    for error in (ZeroDivisionError(), KeyboardInterrupt(), UsageError("no")):
        with pytest.raises(type(error)):
            fill(tmp_path / "a.tif", then=raising(error))
    assert names(tmp_path) == []


def test_odd_error_on_a_full_disk(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 10, 0))
    with pytest.raises(OutputError, match=r"no space left on the disk \(0 MB free\)"):
        with telling_write_errors(tmp_path / "a.tif"):
            raising(ValueError("codec returned -1"))()


def test_taken_name_and_impossible_folder(tmp_path):
    (tmp_path / "a").write_text("old")
    with pytest.raises(OutputError, match="there already"):
        Commit(tmp_path / "a", overwrite=False)
    with pytest.raises(OutputError, match="could not be written"):
        Commit(tmp_path / "a" / "b" / "c.tif")
    assert (tmp_path / "a").read_text() == "old"


def test_everything_is_flushed_before_the_rename(tmp_path, monkeypatch):
    log, fsync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda f: (log.append("fsync"), fsync(f)))
    monkeypatch.setattr(
        os, "replace", lambda a, b: (log.append("rename"), replace(a, b))
    )
    with commit(tmp_path / "a.zarr") as part:
        (part / "c").mkdir(parents=True)
        (part / "c" / "0").write_text("x")
    # the file, its folder and the top folder; then the folder that holds the name
    assert log == ["fsync", "fsync", "fsync", "rename", "fsync"]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EIO])
def test_shares_that_cannot_flush_folders(tmp_path, monkeypatch, number):
    fsync = os.fsync

    def refused(handle):
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(number, os.strerror(number))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", refused)
    if number == errno.EIO:
        with pytest.raises(OutputError, match="Input/output error"):
            write(tmp_path / "a", b"x")
        return
    write(tmp_path / "a", b"x")
    assert (tmp_path / "a").read_bytes() == b"x"


HELD = [
    (errno.EACCES, True), (errno.EBUSY, False), (errno.ETXTBSY, False),
    (errno.ESTALE, False),
]  # fmt: skip


@pytest.mark.parametrize(("number", "is_windows"), HELD)
@pytest.mark.parametrize("times", [2, 100])
def test_who_holds_a_file_gets_time(tmp_path, monkeypatch, number, is_windows, times):
    """A scanner on Windows, another computer of a share; for some seconds only."""
    waited, replace, tries = [], os.replace, []

    def held(source, target):
        tries.append(1)
        if len(tries) <= times:
            raise OSError(number, "held")
        replace(source, target)

    monkeypatch.setattr(disk, "_IS_WINDOWS", is_windows)
    monkeypatch.setattr(disk.time, "sleep", waited.append)
    monkeypatch.setattr(os, "replace", held)
    if times > 2:
        with pytest.raises(OutputError):
            fill(tmp_path / "a")
        assert len(tries) == 7
        assert 2.5 < sum(waited) < 2.6
        return
    fill(tmp_path / "a")
    assert names(tmp_path) == ["a"]
    assert len(waited) == 2


@pytest.mark.parametrize("portable", [False, True])
def test_reserve(tmp_path, monkeypatch, portable):
    if portable:
        monkeypatch.delattr(os, "posix_fallocate", raising=False)
    path = tmp_path / "a"
    path.write_bytes(b"head")
    reserve(path, 3_000_000)
    assert path.stat().st_size == 3_000_000
    assert path.read_bytes()[:5] == b"head\0"
    reserve(path, 10)
    assert path.stat().st_size == 3_000_000


def test_digest(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_text("1")
    one = digest(tmp_path / "a")
    assert digest(tmp_path / "a" / "x") == hashlib.sha256(b"1").hexdigest()
    (tmp_path / "a" / "x").rename(tmp_path / "a" / "y")
    assert digest(tmp_path / "a") != one


def test_write_reads_back(tmp_path, monkeypatch):
    write(tmp_path / "a", b"one")
    assert (tmp_path / "a").read_bytes() == b"one"
    with pytest.raises(OutputError, match="there already"):
        write(tmp_path / "a", b"two", overwrite=False)
    read = type(tmp_path).read_bytes
    monkeypatch.setattr(
        type(tmp_path), "read_bytes", lambda path: read(path).replace(b"t", b"T")
    )
    with pytest.raises(OutputError, match="other bytes on the disk than were written"):
        write(tmp_path / "a", b"two")
    monkeypatch.undo()
    assert (tmp_path / "a").read_bytes() == b"one"
    assert names(tmp_path) == ["a"]


def test_append_closes_a_torn_line_and_flushes_a_new_folder(tmp_path):
    calls = []
    with disk.observed(lambda call, path: calls.append((call, path))):
        append(tmp_path / "a", b"one\n")
    assert calls[-2:] == [("flush", str(tmp_path / "a")), ("flush", str(tmp_path))]
    with (tmp_path / "a").open("ab") as file:
        file.write(b"tor")
    append(tmp_path / "a", b"two\n")
    assert (tmp_path / "a").read_bytes() == b"one\ntor\ntwo\n"


@pytest.mark.parametrize("call", ["open", "write", "flush"])
def test_append_tells(tmp_path, call):
    def full(name, path):
        if name == call:
            failing(errno.ENOSPC)()

    append(tmp_path / "a", b"one\n")
    with disk.observed(full), pytest.raises(OutputError, match="no space left"):
        append(tmp_path / "a", b"two\n")
    append(tmp_path / "a", b"three\n")
    lines = (tmp_path / "a").read_bytes().split(b"\n")
    assert lines[0] == b"one"
    assert lines[-2] == b"three"


def test_the_space_that_is_needed_is_told(tmp_path):
    def full(call, path):
        if call == "flush":
            failing(errno.ENOSPC)()

    staged_file = Commit(tmp_path / "a", needed=12_345_678)
    staged_file.part.touch()
    with disk.observed(full), pytest.raises(OutputError, match="up to 12 MB needed"):
        staged_file.done()


def test_a_folder_that_vanished_is_told(tmp_path):
    (tmp_path / "share").mkdir()
    staged_file = Commit(tmp_path / "share" / "a")
    shutil.rmtree(tmp_path / "share")
    with pytest.raises(OutputError, match=r"the folder .*share is gone"):
        staged_file.done()


def test_sweep_removes_what_killed_runs_left_of_one_result(tmp_path):
    for name in ("a.ome.tif", "b.ome.tif"):
        Commit(tmp_path / name).part.write_text("half")
        staged(tmp_path / name).write_text("whole")
    (tmp_path / ".mine").write_text("kept")
    assert littered(tmp_path) == {mark(tmp_path / f"{n}.ome.tif") for n in "ab"}
    sweep(tmp_path / "a.ome.tif")
    assert littered(tmp_path) == {mark(tmp_path / "b.ome.tif")}
    assert (tmp_path / ".mine").read_text() == "kept"


def test_sweep_brings_back_what_made_room(tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    path = tmp_path / "a.zarr"
    path.mkdir()
    (path / "old").touch()
    renamed = []

    def killed(call, target):
        if call == "rename":
            renamed.append(target)
            if len(renamed) > 1:
                raise Killed

    with disk.observed(killed), pytest.raises(Killed):
        fill(path, folder=True)
    assert not path.exists()
    sweep(path)
    assert names(path) == ["old"]
    assert names(tmp_path) == ["a.zarr"]


def test_place_replaces_a_folder(tmp_path):
    path = tmp_path / "a.ome.zarr"
    for text in ("one", "two"):
        fill(staged(path), folder=True)
        (staged(path) / text).touch()
        place(staged(path), path)
        assert names(path) == sorted(["new", text])
    assert names(tmp_path) == ["a.ome.zarr"]
