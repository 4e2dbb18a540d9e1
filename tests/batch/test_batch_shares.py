"""Network shares that fail for a while, and wrong clocks."""

from __future__ import annotations

import errno
import os
import shutil
import time
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import tifffile

from napari_unet.batch import desk, patience
from napari_unet.batch.inputs import gather
from napari_unet.batch.ledger import LEDGER, Ledger, fingerprint_of
from napari_unet.batch.locks import Locks
from napari_unet.batch.owners import Owner
from napari_unet.batch.run import run_batch
from napari_unet.config import BatchConfig
from napari_unet.errors import OutputError, UnreadableError, UsageError
from napari_unet.events import Finished, Warned
from napari_unet.images.segments import FilePool


@pytest.fixture
def run(folder, tmp_path, network, segment, monkeypatch):
    monkeypatch.setattr(patience, "_AGAIN_AFTER", (0.0, 0.0))

    def run(**settings):
        segment.seen.clear()
        out, config = tmp_path / "out", BatchConfig.build(**settings)
        inputs = gather([folder], out, config.pattern)
        return list(run_batch(inputs, network, out, config, segment=segment))

    return run


def test_an_image_that_a_share_does_not_give_is_tried_again(run, folder, segment):
    (folder / "a.tif").write_text("image")
    (folder / "b.tif").write_text("bad")
    segment.error = UnreadableError(
        "b.tif could not be read", found="Stale file handle"
    )
    events = run()
    assert segment.seen == ["a.tif", "b.tif", "b.tif", "b.tif"]
    said = [e.message for e in events if isinstance(e, Warned)]
    assert [text.endswith("It is tried again.") for text in said] == [True, True, False]
    assert "b.tif failed" in said[-1]
    run()  # since the cause lay outside the image
    assert segment.seen == ["b.tif", "b.tif", "b.tif"]
    segment.error = None
    (folder / "b.tif").write_text("fine")
    assert isinstance(run()[-1], Finished)


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
def test_a_read_error_in_the_middle_of_an_image(
    folder, tmp_path, monkeypatch, number, segment
):
    from faults import small_batch

    monkeypatch.setattr(patience, "_AGAIN_AFTER", (0.0, 0.0))
    pixels = np.random.default_rng(0).integers(0, 200, (40, 40), np.uint8)
    tifffile.imwrite(folder / "a.tif", pixels, compression="zlib", rowsperstrip=4)
    net = small_batch.network()
    small_batch.run(folder, tmp_path / "wanted", net, tiling="exact", tile=(16,))
    read, calls = FilePool.read, []

    def failing(self, *place):
        calls.append(place)
        if len(calls) == 5:
            raise OSError(number, os.strerror(number))
        return read(self, *place)

    monkeypatch.setattr(FilePool, "read", failing)
    output = tmp_path / "out"
    events = small_batch.run(folder, output, net, tiling="exact", tile=(16,))
    said = [e.message for e in events if isinstance(e, Warned)]
    assert any(os.strerror(number) in text for text in said)
    assert small_batch.tree(output) == small_batch.tree(tmp_path / "wanted")


def test_no_lock_of_the_system_is_needed(folder, tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")
    from faults import small_batch

    def refused(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    for name in ("flock", "lockf"):
        monkeypatch.setattr(fcntl, name, refused)
    tifffile.imwrite(folder / "a.tif", np.arange(900, dtype="u2").reshape(30, 30))
    events = small_batch.run(folder, tmp_path / "out", small_batch.network())
    assert events[-1].result.count("done") == 1


@pytest.mark.parametrize("number", [0, 1])
def test_an_output_folder_that_vanishes_is_not_made_again(
    run, folder, segment, tmp_path, monkeypatch, number
):
    """As when a share is unmounted: what lies below is another disk."""
    out, original = tmp_path / "out", type(segment).__call__

    def vanishing(self, source, *args, **kwargs):
        if len(self.seen) == number:
            shutil.rmtree(out)
        return original(self, source, *args, **kwargs)

    monkeypatch.setattr(type(segment), "__call__", vanishing)
    for name in "abc":
        (folder / f"{name}.tif").write_text(name)
    with pytest.raises(OutputError, match=r"the folder .*out is gone"):
        run()
    assert not out.exists()
    assert len(segment.seen) == number + 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_pipes_in_the_place_of_our_files_block_nobody(run, folder, segment, tmp_path):
    (folder / "a.tif").write_text("image")
    os.mkfifo(tmp_path / "table.csv")
    with pytest.raises(UsageError, match=r"table\.csv cannot be used: found no file"):
        gather([folder], tmp_path / "out", table=tmp_path / "table.csv")
    run()
    out = tmp_path / "out"
    (out / "a.ome.tif").unlink()
    os.mkfifo(out / "a.ome.tif")
    run()
    assert segment.seen == ["a.tif"]
    assert (out / "a.ome.tif").read_text() == "IMAGE"
    (out / LEDGER).unlink()
    os.mkfifo(out / LEDGER)
    with pytest.raises(OutputError, match="no regular file"):
        run()


def test_clocks_may_jump(run, folder, segment, tmp_path, monkeypatch):
    """Each look at the clock gives an earlier day, or a later century."""
    days = iter([-1, 36_500, -400, 3, -7_000, 12, -2] * 20)

    class Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime(2026, 3, 29, 1, tzinfo=UTC) + timedelta(days=next(days))

    monkeypatch.setattr(desk, "datetime", Clock)
    monkeypatch.setattr(time, "time", lambda: 1e9 + 1e6 * next(days))
    for name in "abc":
        (folder / f"{name}.tif").write_text(f"image {name}")
    run()
    out = tmp_path / "out"
    records = Ledger(out).records()
    assert len({record.began for record in records}) == 3
    assert all(0 <= record.seconds < 60 for record in records)
    for seconds in (0, 4e9):  # results seem to be from 1970, images from 2096
        for path in out.glob("*.tif"):
            os.utime(path, (seconds, seconds))
        run()
        assert segment.seen == []
    os.utime(folder / "b.tif", (0, 0))
    run()
    assert segment.seen == ["b.tif"]


def test_the_newest_result_is_the_last_line_whatever_clocks_say(tmp_path, run, folder):
    for name in "ab":
        (folder / f"{name}.tif").write_text(name)
    run()
    ledger = Ledger(tmp_path / "out")
    a, b = ledger.records()
    for record, day in ((b, "2030"), (a, "2020")):
        update = {"began": f"{day}-01-01", "numerics": {"day": day}}
        ledger.append(record.model_copy(update=update))
    assert fingerprint_of(tmp_path / "out", a.model) == {"day": "2020"}


def test_signs_of_life_may_bear_any_time(tmp_path):
    """The clock of the other computer runs backwards and is a century ahead."""
    here, there = Locks(tmp_path, stale=0.4), Locks(tmp_path, stale=1e6)
    there._me = Owner("elsewhere", 1, 0.0)
    lock = there.take("a")
    for beat in range(8):
        os.utime(lock.path, (4e9 - beat, 4e9 - beat))
        assert here.take("a") is None
        time.sleep(0.1)
    deadline = time.monotonic() + 60
    while (taken := here.take("a")) is None:  # no sign any more
        assert time.monotonic() < deadline
        time.sleep(0.05)
    here.release(taken)
    here.close()
    there.close()
