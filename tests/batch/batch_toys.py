"""Jobs that die, hang or swell, for a batch in a process of its own."""

from __future__ import annotations

import os
import time
from pathlib import Path

from napari_unet.errors import ImageError
from napari_unet.events import Cancelled, Finished, Progress


def job(source, target, model, digest, config, *, cancel):
    """Do what the text of the image says."""
    text = Path(source).read_text()
    yield Progress(1, 2)
    if text == "die":
        os._exit(9)
    if text.startswith("die until"):
        tries = Path(text.split()[-1])
        tries.write_text(tries.read_text() + "x" if tries.exists() else "x")
        if len(tries.read_text()) < 3:
            os._exit(9)
    if text == "hang":
        time.sleep(600)
    if text == "swell":
        held = []
        while True:
            held.append(bytearray(os.urandom(1 << 20) * 20))
            yield Progress(1, 2)
    if text == "slow":
        while not cancel.is_set():
            time.sleep(0.01)
        yield Cancelled()
        return
    if text == "bad":
        raise ImageError("it is bad")
    Path(target).write_text(text.upper())
    yield Finished({"threads": "1"})
