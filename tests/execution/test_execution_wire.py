"""Framing, thinning and the short list of types."""

import io
import os
import pickle

import numpy as np
import pytest

from napari_unet.config import PredictConfig
from napari_unet.errors import DeviceError, ModelError, UNetError
from napari_unet.events import Cancelled, CancelToken, Finished, Metric, Progress
from napari_unet.execution import wire
from napari_unet.execution.inline import Inline
from napari_unet.execution.protocol import Failed, UnexpectedError, events_of, told


def load(value):
    return wire.EventUnpickler(io.BytesIO(wire.pack(value))).load()


def test_messages_cross_a_stream():
    stream = io.BytesIO()
    for message in ("a", [1, 2]):
        wire.send(stream, message)
    stream.seek(0)
    assert [pickle.loads(wire.receive(stream)) for _ in range(2)] == ["a", [1, 2]]
    with pytest.raises(EOFError):
        wire.receive(stream)


def test_truncated_message_is_the_end():
    stream = io.BytesIO()
    wire.send(stream, "text")
    with pytest.raises(EOFError):
        wire.receive(io.BytesIO(stream.getvalue()[:-1]))


@pytest.mark.parametrize(
    "value", [{"a": (1, 2.5, None)}, slice(1, 2), np.int16(3), {1, 2}, b"x"]
)
def test_plain_values_are_read(value):
    assert load(value) == value


@pytest.mark.parametrize("dtype", ["u1", ">f4", "bool", "U3"])
def test_arrays_are_read(dtype):
    array = np.arange(6).reshape(2, 3).astype(dtype)
    np.testing.assert_array_equal(load(array), array)


@pytest.mark.parametrize("value", [os.system, io.BytesIO, PredictConfig])
def test_everything_else_is_refused(value):
    with pytest.raises(pickle.UnpicklingError, match="may not cross"):
        load(value)


def test_errors_survive_the_pipe():
    error = load(Failed(UnexpectedError("what", hint="do", details="trace"))).error
    assert (error.what, error.hint, error.details) == ("what", "do", "trace")


def test_progress_is_thinned_and_the_newest_goes_before_the_rest():
    sent = []
    sender = wire.EventSender(sent.append, previews=True, interval=1000)
    for event in [Progress(1, 9), Progress(2, 9), Progress(3, 9), Metric("m", 1, 1)]:
        sender(event)
    assert sent == [Progress(1, 9), Progress(3, 9), Metric("m", 1, 1)]
    sender(Finished())
    assert sent[3:] == [Finished()]


def test_memory_error_says_what_to_do():
    assert isinstance(told(MemoryError()), DeviceError)


def test_foreign_subclass_keeps_its_words():
    class Local(ModelError):
        pass

    error = told(Local("a", found="b", expected="c", hint="d"))
    assert type(error) is UNetError
    assert str(error) == str(Local("a", found="b", expected="c", hint="d"))


def test_inline_runs_the_same_jobs():
    events = []
    job = Inline(allow="toy_jobs").run("toy_jobs:count", 2, on_event=events.append)
    assert job.done
    assert isinstance(events[-1], Finished)
    assert events[-1].result["scores"] == (0.5, 1.0)


def test_inline_is_cancelled_from_an_event():
    runner, events = Inline(allow="toy_jobs"), []

    def stop(event):
        events.append(event)
        runner.close()

    runner.run("toy_jobs:count", 5, on_event=stop)
    assert isinstance(events[-1], Cancelled)
    assert len(events) == 2


def test_generator_is_closed_after_the_last_event():
    closed = []

    def job(cancel):
        try:
            yield Finished(1)
            yield Finished(2)
        finally:
            closed.append(True)

    import toy_jobs

    toy_jobs.job = job
    assert list(events_of("toy_jobs:job", (), {}, CancelToken(), "toy_jobs")) == [
        Finished(1)
    ]
    assert closed == [True]
