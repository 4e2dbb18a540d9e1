from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from napari_unet.errors import ImageError
from napari_unet.events import Cancelled, Finished, Progress, Warned
from napari_unet.networks.network import Network
from napari_unet.networks.spec import ModelSpec


@dataclass
class Segmenter:
    """Copies a file, upper case; a file that holds "bad" fails."""

    seen: list[str] = field(default_factory=list)
    error: Exception | None = None

    def __call__(self, source, target, network, config, cancel=None):
        self.seen.append(source.name)
        text = source.read_text()
        if "warn" in text:
            yield Warned("odd")
        yield Progress(1, 2)
        if cancel is not None and cancel.is_set():
            yield Cancelled()
            return
        if "bad" in text:
            raise self.error or ImageError("it is bad")
        Path(target).write_text(text.upper())
        yield Progress(2, 2)
        yield Finished(str(target))


@pytest.fixture
def segment():
    return Segmenter()


@pytest.fixture
def network():
    import torch

    spec = ModelSpec(ndim=2, in_channels=1, out_channels=2)
    return Network(torch.nn.Identity(), spec, digest="d1")


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    return folder
