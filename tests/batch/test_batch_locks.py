"""One owner a lock, whatever happens."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from napari_unet.batch import locks as module
from napari_unet.batch import owners
from napari_unet.batch.locks import LOCKS, Locks
from napari_unet.batch.owners import Owner


def files(folder):
    return sorted(p.name for p in (folder / LOCKS).glob("*"))


@pytest.fixture
def pair(tmp_path):
    """Locks of two runs that take each other for foreign hosts."""
    here, there = Locks(tmp_path, stale=0.4), Locks(tmp_path, stale=0.4)
    there._me = Owner("elsewhere", 1, 0.0)
    yield here, there
    for locks in (here, there):
        locks.close()


def test_one_owner_at_a_time(pair, tmp_path):
    here, there = pair
    lock = here.take("a")
    assert there.take("a") is None
    assert str(os.getpid()) in str(there.others["a"])
    assert there.take("b") is not None
    here.release(lock)
    assert there.take("a") is not None


def test_a_living_owner_keeps_its_lock_for_ever(pair, monkeypatch):
    """By a clock that this test turns on, since the heart may be held up here."""
    here, there = pair
    lock, clock = here.take("a"), [0.0]
    turned = SimpleNamespace(monotonic=lambda: clock[0], sleep=time.sleep)
    monkeypatch.setattr(module, "time", turned)
    for _ in range(8):
        assert there.take("a") is None
        beat = lock.path.stat().st_mtime_ns
        while lock.path.stat().st_mtime_ns == beat:
            time.sleep(0.01)
        clock[0] += 0.9 * there.stale
    assert not here.is_lost(lock)


def test_an_owner_without_heartbeat_is_followed(pair, tmp_path):
    here, there = pair
    lock = here.take("a")
    here._held.clear()  # its heart stops
    assert there.take("a") is None
    time.sleep(0.6)
    taken = there.take("a")
    assert taken is not None
    assert here.is_lost(lock)
    assert here.take("a") is None
    there.release(taken)
    assert files(tmp_path) == []


def test_a_lock_that_was_never_written_whole_is_followed(pair, tmp_path):
    here, there = pair
    lock = there.take("a")
    there._held.clear()
    lock.path.write_bytes(b'{"host": "els')
    assert here.take("a") is None
    time.sleep(0.6)
    assert here.take("a") is not None


def test_a_dead_process_of_this_computer_is_followed_at_once(tmp_path):
    code = (
        "import os, sys; from pathlib import Path;"
        "from napari_unet.batch.locks import Locks;"
        "Locks(Path(sys.argv[1])).take('a'); os._exit(9)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert done.returncode == 9
    assert len(files(tmp_path)) == 1
    locks = Locks(tmp_path)
    assert locks.take("a") is not None
    locks.close()
    assert not (tmp_path / LOCKS).exists()


def test_a_copy_of_the_folder_is_free_after_a_while(tmp_path):
    """Inode numbers tell a copy at once, but those of network shares may change."""
    here = Locks(tmp_path / "a")
    (tmp_path / "a").mkdir()
    here.take("x")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    copy = Locks(tmp_path / "b", stale=0.3)
    assert copy.take("x") is None
    time.sleep(0.4)
    assert copy.take("x") is not None
    for locks in (here, copy):
        locks.close()


def test_whose_process_is_looked_for_here():
    """Another computer or container has process numbers of its own."""
    me = owners.myself()
    assert not owners.is_gone(me, me)
    gone = replace(me, pid=2**22 + 1)  # no process has that number
    assert owners.is_gone(gone, me)
    assert owners.is_gone(replace(me, born=me.born - 100), me)
    for change in ("host", "computer", "space"):
        assert not owners.is_gone(replace(gone, **{change: "other"}), me)


def test_processes_of_an_earlier_start_are_gone_outside_containers():
    outside = replace(owners.myself(), space="pid:[4026531836]")
    before = replace(outside, start="before")
    assert owners.is_gone(before, outside)
    inside = replace(outside, space="pid:[4026532000]")
    assert not owners.is_gone(replace(inside, start="before"), inside)


def test_who_comes_second_steps_back(pair, tmp_path, monkeypatch):
    """Both find the dead, both make a lock: neither may think that it is alone."""
    here, there = pair
    dead = Locks(tmp_path)
    dead.take("a")
    dead._held.clear()
    monkeypatch.setattr(module, "is_gone", lambda *_: True)
    listed, made = Locks._files, []

    def other_comes_between(self, stem):
        found = listed(self, stem)
        if self is here and not made:
            made.append(there.take("a"))
        return found

    monkeypatch.setattr(Locks, "_files", other_comes_between)
    assert here.take("a") is None
    assert made[0] is not None


def test_the_stale_and_the_new_are_told_apart(pair, tmp_path, monkeypatch):
    """A lock that was given back and taken anew meanwhile is not the dead one."""
    here, there = pair
    monkeypatch.setattr(module, "is_gone", lambda *_: True)
    old = there.take("a")
    make = Locks._make

    def replaced(self, path):
        if self is here:
            old.path.write_text(json.dumps({"token": "new"}))
        return make(self, path)

    monkeypatch.setattr(Locks, "_make", replaced)
    assert here.take("a") is None


def test_a_lock_that_cannot_be_removed_is_given_back_all_the_same(tmp_path):
    from napari_unet import disk

    def refused(call, path):
        if call == "remove":
            raise PermissionError(13, "Permission denied")

    locks = Locks(tmp_path)
    lock = locks.take("a")
    with disk.observed(refused):
        locks.release(lock)
    assert len(files(tmp_path)) == 1
    again = locks.take("a")
    assert again is not None
    locks.release(again)
    locks.close()
    assert not (tmp_path / LOCKS).exists()


def test_a_full_disk_leaves_no_empty_lock(tmp_path):
    from napari_unet import disk
    from napari_unet.errors import OutputError

    def full(call, path):
        if call == "write":
            raise OSError(28, "No space left on device")

    locks = Locks(tmp_path)
    with disk.observed(full), pytest.raises(OutputError, match="no space"):
        locks.take("a")
    assert files(tmp_path) == []
    locks.close()


class Share:
    """A network share as one computer sees it: old listings until it changes something.

    NFS and SMB clients keep listings for a while and drop them when they change the
    folder themselves. A file that others removed is noticed when it is used.
    """

    def __init__(self, patch, locks):
        self.real, self.locks, self.kept = os.listdir, locks, {}
        self.turns = random.Random(str(locks._me))
        make = locks._make

        def made(path):
            self.kept.clear()
            time.sleep(self.turns.random() * 0.002)
            return make(path)

        patch.setattr(locks, "_make", made)

    def listdir(self, path):
        if path not in self.kept or self.turns.random() < 0.05:
            self.kept[path] = self.real(path)
        return self.kept[path]


def test_old_listings_never_make_two_owners(tmp_path, monkeypatch):
    """Four computers, one lock, listings that lag behind."""
    every = [Locks(tmp_path) for _ in range(4)]
    for number, locks in enumerate(every):
        locks._me = Owner(f"computer {number}", 1, 0.0)
    shares = {id(locks): Share(monkeypatch, locks) for locks in every}
    here = threading.local()
    monkeypatch.setattr(module.os, "listdir", lambda path: here.share.listdir(path))
    inside, most, taken = [], [], []

    def work(locks):
        here.share = shares[id(locks)]
        end = time.monotonic() + 2.0
        while time.monotonic() < end:
            if (lock := locks.take("a")) is None:
                continue
            inside.append(locks)
            most.append(len(inside))
            time.sleep(0.001)
            inside.remove(locks)
            taken.append(locks)
            locks.release(lock)
            here.share.kept.clear()

    threads = [threading.Thread(target=work, args=(locks,)) for locks in every]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    monkeypatch.undo()
    for locks in every:
        locks.close()
    assert max(most) == 1
    assert len(taken) > 20


@pytest.mark.parametrize("call", ["read_bytes", "stat"])
def test_a_stale_handle_is_a_file_that_is_gone(pair, monkeypatch, call):
    here, there = pair
    lock = there.take("a")
    original = getattr(type(lock.path), call)

    def stale(path, *args, **kwargs):
        if path == lock.path:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return original(path, *args, **kwargs)

    monkeypatch.setattr(type(lock.path), call, stale)
    listed, old = os.listdir, [[lock.path.name]]  # the first listing is an old one
    monkeypatch.setattr(module.os, "listdir", lambda p: old.pop() if old else listed(p))
    there.release(lock)
    taken = here.take("a")
    assert taken is not None
    here.release(taken)
