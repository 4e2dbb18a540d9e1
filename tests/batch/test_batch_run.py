import os
import pickle
from pathlib import Path

import pytest

from napari_unet.batch.clock import Clock, in_words
from napari_unet.batch.inputs import gather
from napari_unet.batch.ledger import LEDGER, Ledger
from napari_unet.batch.run import run_batch
from napari_unet.config import BatchConfig
from napari_unet.errors import DeviceError, OutputError
from napari_unet.events import Cancelled, CancelToken, Finished, Progress, Warned
from napari_unet.files import staged


@pytest.fixture
def run(folder, tmp_path, network, segment):
    def run(cancel=None, **settings):
        segment.seen.clear()
        config = BatchConfig.build(**settings)
        inputs = gather([folder], tmp_path / "out", config.pattern)
        out = tmp_path / "out"
        events = run_batch(inputs, network, out, config, segment=segment, cancel=cancel)
        return list(events)

    return run


@pytest.fixture
def images(folder):
    for name in "abc":
        (folder / f"{name}.tif").write_text(f"image {name}")
    (folder / "bad.tif").write_text("bad")


def status(events):
    assert isinstance(events[-1], Finished)
    return {i.input.rsplit("/", 1)[-1]: i.status for i in events[-1].result.items}


def warnings(events):
    return [event.message for event in events if isinstance(event, Warned)]


@pytest.mark.usefixtures("images")
def test_good_and_bad(run, tmp_path):
    events = run()
    assert status(events) == {
        "a.tif": "done",
        "b.tif": "done",
        "bad.tif": "failed",
        "c.tif": "done",
    }
    assert (tmp_path / "out" / "c.ome.tif").read_text() == "IMAGE C"
    assert not (tmp_path / "out" / "bad.ome.tif").exists()
    assert warnings(events) == ["bad.tif failed: it is bad."]
    places = [event.done for event in events if isinstance(event, Progress)]
    assert places == sorted(places)
    assert places[-1] == 4
    assert 0.5 in places


@pytest.mark.usefixtures("images")
def test_second_run_redoes_nothing_and_still_tells_the_failure(run, segment, tmp_path):
    run()
    lines = (tmp_path / "out" / LEDGER).read_bytes()
    events = run()
    assert segment.seen == []
    assert set(status(events).values()) == {"skipped", "failed"}
    assert warnings(events) == ["bad.tif failed before: it is bad."]
    assert (tmp_path / "out" / LEDGER).read_bytes() == lines
    run(retry_failed=True)
    assert segment.seen == ["bad.tif"]


@pytest.mark.usefixtures("images")
def test_what_changed_is_redone(run, segment, folder, network, tmp_path):
    run()
    (folder / "b.tif").write_text("other b")
    (folder / "bad.tif").write_text("good now")
    (tmp_path / "out" / "c.ome.tif").unlink()
    run()
    assert segment.seen == ["b.tif", "bad.tif", "c.tif"]
    assert (tmp_path / "out" / "b.ome.tif").read_text() == "OTHER B"
    run(threshold=0.4)
    assert len(segment.seen) == 4
    run(threshold=0.4, device="cpu", batch_size=2, pattern="*.tif")
    assert segment.seen == []
    network.digest = "d2"
    run(threshold=0.4)
    assert len(segment.seen) == 4


@pytest.mark.usefixtures("images")
def test_an_edited_result_is_kept_aside(run, segment, tmp_path):
    out = tmp_path / "out"
    run()
    (out / "a.ome.tif").write_text("corrected by hand")
    events = run()
    assert segment.seen == ["a.tif"]
    assert (out / "a.ome.tif").read_text() == "IMAGE A"
    assert (out / "a (edited).ome.tif").read_text() == "corrected by hand"
    assert "kept as a (edited).ome.tif" in " ".join(warnings(events))


@pytest.mark.usefixtures("images")
def test_an_edited_result_is_kept_when_its_image_then_fails(run, folder, tmp_path):
    out = tmp_path / "out"
    run()
    (folder / "a.tif").write_text("bad")
    run()
    (out / "a.ome.tif").write_text("corrected by hand")
    (folder / "a.tif").write_text("good again")
    run()
    assert (out / "a (edited).ome.tif").read_text() == "corrected by hand"
    assert (out / "a.ome.tif").read_text() == "GOOD AGAIN"


@pytest.mark.usefixtures("images")
def test_a_killed_run_is_taken_up_again(run, segment, folder, tmp_path):
    class Killed(BaseException):
        pass

    segment.error = Killed()
    with pytest.raises(Killed):
        run()
    # left by the killed run, and put there by somebody else
    left = staged(tmp_path / "out" / "bad.ome.tif")
    left.write_text("whole, but not recorded")
    (tmp_path / "out" / "bad.ome.tif").write_text("foreign")
    segment.error = None
    (folder / "bad.tif").write_text("fine")
    events = run()
    assert segment.seen == ["bad.tif", "c.tif"]
    assert status(events)["a.tif"] == "skipped"
    assert (tmp_path / "out" / "bad.ome.tif").read_text() == "FINE"
    assert (tmp_path / "out" / "bad (edited).ome.tif").read_text() == "foreign"
    assert not left.exists()


@pytest.mark.usefixtures("images")
@pytest.mark.parametrize("error", [OutputError("full"), DeviceError("lost")])
def test_failures_of_the_machine_are_tried_again(run, segment, error):
    segment.error = error
    run()
    run()
    assert segment.seen == ["bad.tif"]


@pytest.mark.usefixtures("images")
def test_a_fault_of_the_program_is_one_line_and_the_rest_goes_on(run, segment):
    segment.error = ZeroDivisionError("integer\ndivision")
    events = run()
    assert list(status(events).values()).count("done") == 3
    (message,) = warnings(events)
    assert "ZeroDivisionError: integer division" in message


@pytest.mark.usefixtures("images")
def test_nothing_written_is_no_success(run, segment, monkeypatch, tmp_path):
    monkeypatch.setattr("pathlib.Path.write_text", lambda *_: None)
    assert set(status(run()).values()) == {"failed"}


@pytest.mark.usefixtures("images")
def test_stop_then_go_on(run, segment):
    token = CancelToken()
    token.set()
    events = run(cancel=token)
    assert isinstance(events[-1], Cancelled)
    assert segment.seen == []
    assert "done" in status(run()).values()


@pytest.mark.usefixtures("images")
def test_stop_inside_an_image_records_nothing(run, segment, tmp_path, monkeypatch):
    token = CancelToken()
    original = type(segment).__call__

    def stopping(self, source, *args, **kwargs):
        if source.name == "b.tif":
            token.set()
        return original(self, source, *args, **kwargs)

    monkeypatch.setattr(type(segment), "__call__", stopping)
    events = run(cancel=token)
    assert isinstance(events[-1], Cancelled)
    assert "1 of 4" in events[-1].note
    assert segment.seen == ["a.tif", "b.tif"]
    ledger = Ledger(tmp_path / "out")
    assert ledger["../in/b.tif"].outcome == "stopped"


def test_broken_links_and_warnings_name_the_file(run, folder):
    (folder / "gone.tif").symlink_to(folder / "nowhere")
    for name in ("w", "x"):
        (folder / f"{name}.tif").write_text("warn")
    events = run()
    assert warnings(events) == [
        "gone.tif failed: gone.tif is a link that leads nowhere.",
        "w.tif: odd",
    ]


@pytest.mark.usefixtures("images")
def test_summary_travels_and_reads(run):
    summary = run()[-1].result
    assert pickle.loads(pickle.dumps(summary)) == summary
    facts = summary.to_dict()
    assert [facts[k] for k in ("done", "skipped", "failed")] == [3, 0, 1]
    assert facts["items"][2]["reason"] == "it is bad."
    assert str(summary).startswith("3 done, 0 skipped (done before), 1 failed;")


def test_events_travel_through_a_pipe(run, folder):
    (folder / "a.tif").write_text("warn")
    events = run()
    assert pickle.loads(pickle.dumps(events)) == events


def test_clock_weighs_bytes_and_leaves_out_what_is_skipped():
    now = [0.0]
    clock = Clock([900_000, 900_000, 1_900_000], now=lambda: now[0])
    assert clock.note("a") == "a"
    clock.skip(0)
    now[0] = 10.0
    clock.finish(1)
    assert clock.seconds_left() == pytest.approx(20.0)
    assert clock.note("c") == "c, about 20 s left"
    clock.at(2, 0.5)
    assert clock.seconds_left() == pytest.approx(10 * 1e6 / 2e6)
    assert clock.shares == 0.5


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "1 s"), (89, "89 s"), (120, "2 min"), (7200, "2.0 h")]
)
def test_time_in_words(seconds, words):
    assert in_words(seconds) == words


@pytest.mark.usefixtures("images")
def test_an_image_that_changes_while_it_is_read(run, segment, folder, tmp_path):
    run()
    (folder / "a.tif").write_text("second")
    original = type(segment).__call__

    class Changing(type(segment)):
        def __call__(self, source, *args, **kwargs):
            yield from original(self, source, *args, **kwargs)
            if source.name == "a.tif":
                source.write_text("third and longer")

    segment.__class__ = Changing
    events = run()
    assert status(events)["a.tif"] == "failed"
    assert "changed while it was read" in " ".join(warnings(events))
    assert (tmp_path / "out" / "a.ome.tif").read_text() == "IMAGE A"
    segment.__class__ = type(segment).__base__
    assert status(run())["a.tif"] == "done"
    assert (tmp_path / "out" / "a.ome.tif").read_text() == "THIRD AND LONGER"


@pytest.mark.usefixtures("images")
def test_what_another_run_has_under_way_is_left_to_it(run, segment, tmp_path):
    from napari_unet.batch import locks as module

    other = module.Locks(tmp_path / "out")
    lock = other.take("../in/b.tif")
    seen = []
    original = type(segment).__call__

    class Watching(type(segment)):
        def __call__(self, source, *args, **kwargs):
            seen.append(source.name)
            if source.name == "c.tif":
                other.release(lock)
            return original(self, source, *args, **kwargs)

    segment.__class__ = Watching
    events = run()
    assert seen == ["a.tif", "bad.tif", "c.tif", "b.tif"]
    assert status(events)["b.tif"] == "done"
    assert any("shares the work" in text for text in warnings(events))
    other.close()


@pytest.mark.usefixtures("images")
def test_a_copied_image_is_told_by_its_content(run, segment, folder):
    run(by_content=True)
    os.utime(folder / "a.tif", ns=(1, 1))
    (folder / "b.tif").write_text("IMAGE b")  # of the same size
    run(by_content=True)
    assert segment.seen == ["b.tif"]
    os.utime(folder / "a.tif", ns=(2, 2))
    run()
    assert segment.seen == ["a.tif"]


@pytest.mark.usefixtures("images")
def test_a_run_that_stood_still_gives_way(run, segment, tmp_path, monkeypatch):
    """Its lock was taken over while it worked: it neither records nor replaces."""
    from napari_unet.batch import locks as module

    out, original = tmp_path / "out", type(segment).__call__
    other, seen = module.Locks(out), []

    class Slow(type(segment)):
        def __call__(self, source, target, *args, **kwargs):
            seen.append(source.name)
            if seen == ["a.tif"]:
                monkeypatch.setattr(module, "is_gone", lambda *_: True)
                assert other.take("../in/a.tif") is not None
                monkeypatch.undo()
            elif source.name == "b.tif":
                assert not (out / "a.ome.tif").exists()
                assert Ledger(out)["../in/a.tif"].outcome == "started"
                other.close()
            yield from original(self, source, target, *args, **kwargs)

    segment.__class__ = Slow
    assert status(run())["a.tif"] == "done"
    assert seen == ["a.tif", "b.tif", "bad.tif", "c.tif", "a.tif"]
    assert (out / "a.ome.tif").read_text() == "IMAGE A"


def test_deaths_of_whole_runs_are_counted(run, segment, folder, tmp_path):
    class Killed(BaseException):
        pass

    (folder / "bad.tif").write_text("bad")
    segment.error = Killed()
    for _ in range(3):
        with pytest.raises(Killed):
            run()
    (message,) = warnings(run())
    assert "3 computing processes died" in message
    assert segment.seen == []
    segment.error = None
    run(retry_failed=True)
    assert segment.seen == ["bad.tif"]


def test_an_interrupt_is_no_death(run, segment, folder, tmp_path):
    (folder / "bad.tif").write_text("bad")
    segment.error = KeyboardInterrupt()
    for _ in range(4):
        with pytest.raises(KeyboardInterrupt):
            run()
        assert segment.seen == ["bad.tif"]
    assert Ledger(tmp_path / "out")["../in/bad.tif"].outcome == "stopped"


NAMES = [
    "-a.tif", "two words.tif", "new\nline.tif", "NUL.tif", "com1.tif", "\u00fc.tif",
    "u\u0308.tif", "x" * 251 + ".tif", "a\u202eb.tif", "=cmd.tif", "A.tif", "a.tif",
    "a.TIF", "é" * 125 + ".tif", "%s.tif", "'; --.tif", "~.tif", "a..tif",
]  # fmt: skip


def test_odd_names_each_get_a_result_of_their_own(run, folder, tmp_path):
    made = []
    for number, name in enumerate(NAMES):
        (folder / name).write_text(f"image {number}")
        made.append(number)
    os.mkfifo(folder / "pipe.tif")
    os.symlink("/dev/zero", folder / "device.tif")
    events = run()
    found = {i.input.rsplit("/", 1)[-1]: i for i in events[-1].result.items}
    assert {found["pipe.tif"].status, found["device.tif"].status} == {"failed"}
    for number, name in enumerate(NAMES):
        item = found[name]
        assert item.status == "done", item
        assert Path(item.output).parent == tmp_path / "out"
        assert Path(item.output).read_text() == f"IMAGE {number}"
    assert len({i.output for i in found.values()}) == len(NAMES) + 1
    assert set(status(run()).values()) == {"skipped", "failed"}
