"""Small jobs for the tests of the runners."""

import os
import sys
import threading
import time
import warnings
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from napari_unet.errors import ImageError
from napari_unet.events import Cancelled, Finished, Metric, Preview, Progress, Started


@dataclass
class Answer:
    path: Path
    scores: tuple[float, ...]


def count(n, cancel):
    yield Started("count", total=n)
    for i in range(n):
        if cancel.is_set():
            yield Cancelled()
            return
        yield Metric("i", float(i), i)
    yield Finished(Answer(Path("a") / "b", (0.5, 1.0)))


def endless(cancel):
    yield Started("endless")
    while not cancel.is_set():
        time.sleep(0.01)
    yield Cancelled("as asked")


def listening(cancel):
    yield Started("listening")
    while not cancel.is_set():
        time.sleep(0.005)
        for message in cancel.heard():
            things = message["strokes"] if isinstance(message, dict) else message
            yield Metric("heard", float(len(things)), 0)
        yield Metric("beat", 1.0, 0)
    yield Cancelled("as asked")


def stubborn(cancel):
    yield Started("stubborn")
    time.sleep(60)
    yield Finished()


def careful(cancel):
    yield Started("careful")
    while not cancel.is_set():
        time.sleep(0.01)
    time.sleep(1.0)
    yield Finished("kept")


def talkative(cancel):
    print("noise on standard output", flush=True)
    os.write(1, b"more noise")
    yield Finished(input_is_empty())


def threaded(cancel):
    def work():
        print("printed in a thread")
        warnings.warn("warned in a thread", stacklevel=1)
        raise LookupError("raised in a thread")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    yield Finished("done")


def input_is_empty():
    return sys.stdin.read() == ""


def previews(cancel):
    yield Preview((slice(0, 2),), np.arange(2))
    yield Preview((slice(0, 2),), np.zeros((2048, 2049), np.uint8))
    yield Finished(np.float32(2.5) * np.ones(3, np.float32))


def refuses(cancel):
    yield Started("refuses")
    raise ImageError("No image", found="nothing", hint="Give one.")


def breaks(cancel):
    yield Progress(1, 2)
    raise ZeroDivisionError("by zero\nand more")


def unpicklable(cancel):
    yield Finished(lambda: None)


def foreign(cancel):
    yield Finished(Fraction(1, 2))


def modules(cancel):
    yield Finished(sorted({name.split(".")[0] for name in sys.modules}))


def pid(cancel):
    yield Finished(os.getpid())


def silent(cancel):
    yield Started("silent")


def sleepy(name, pieces, cancel, pause=0.02):
    """A job of many pieces whose result does not depend on what runs between."""
    total = 0
    yield Started(name, pieces)
    for piece in range(pieces):
        if cancel.is_set():
            yield Cancelled(f"{name} stopped")
            return
        time.sleep(pause)
        total += piece**2
        yield Metric(name, float(total), piece)
    yield Finished(total)


def leaves_word(path, cancel):
    """A job that says in a file that it was cleaned up."""
    try:
        yield Started("leaves word")
        while True:
            time.sleep(0.01)
            yield Metric("alive", 1.0, 0)
    finally:
        Path(path).write_text("gone")


def stuck(cancel):
    yield Started("stuck")
    time.sleep(2.0)
    yield Finished("late")
