"""Results made in slabs, against those made at once."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_unet.config import PredictConfig
from napari_unet.errors import OutputError
from napari_unet.events import CancelToken, Finished, Stopped, Warned
from napari_unet.files import digest
from napari_unet.images import zarr_levels, zarr_slab
from napari_unet.images.readers import open_image
from napari_unet.images.sinks import OutputSpec, sink_for
from napari_unet.inference import job, slabs
from napari_unet.inference.division import divide
from napari_unet.inference.layout import Layout
from napari_unet.inference.plan import Memory, RowCost, plan
from napari_unet.inference.predict import predict
from napari_unet.networks.receptive_field import Geometry

CHUNK = 16


@pytest.fixture(autouse=True)
def chunks(monkeypatch):
    """Small chunks and strips, so that small images have many."""
    monkeypatch.setattr(zarr_levels, "CHUNK", CHUNK)
    monkeypatch.setattr(job.footprint, "row_cost", lambda *_: RowCost(100.0, 1.0, 4))


class Divided:
    """One image through one network, at once and in slabs."""

    def __init__(self, folder, pixels, axes, network, **settings):
        self.folder, self.network = folder, network
        self.config = PredictConfig(device="cpu", axes=axes, **settings)
        self.image = folder / "image.tif"
        tifffile.imwrite(self.image, pixels, photometric="minisblack")
        self.place = folder / "slabs"

    def stack(self):
        return open_image(self.image, axes=self.config.axes)

    def whole(self):
        target = self.folder / "whole.ome.zarr"
        with self.stack() as stack:
            *_, last = predict(stack, self.network, self.config, sink_for(target))
        assert isinstance(last, Finished)
        return digest(target)

    def begin(self, past=None, workers=2, least=1, notes=()):
        with self.stack() as stack:
            work = slabs.begin(
                stack, self.network, self.config, self.place, past, CancelToken(),
                workers=workers, least=least,
            )  # fmt: skip
            while True:
                try:
                    event = next(work)
                except StopIteration as end:
                    return end.value
                if isinstance(event, Warned) and isinstance(notes, list):
                    notes.append(event.message)

    def compute(self, head, number, known="", cancel=None):
        with self.stack() as stack:
            *_, last = slabs.compute(
                stack, self.network, self.config, self.place, head, number,
                cancel or CancelToken(), known=known,
            )  # fmt: skip
        return last.result

    def finish(self, head, found):
        target = self.folder / "divided.ome.zarr"
        seen = [one["seen"] for one in found if "seen" in one]
        with self.stack() as stack:
            slabs.finish(
                stack, self.network, self.config, self.place, head, seen, target
            )
        return digest(target)

    def divided(self, **wish):
        """Slabs in any order."""
        head = self.begin(**wish)
        assert not isinstance(head, str), head
        numbers = list(range(len(head["slabs"])))
        random.Random(1).shuffle(numbers)
        found = [self.compute(head, number) for number in numbers]
        return head["slabs"], self.finish(head, found)


@pytest.fixture
def make(tmp_path, make_network, noise):
    def make(shape, axes, **settings):
        ndim = settings.pop("ndim", 2)
        fields = settings.pop("network", {})
        network = make_network(
            ndim=ndim,
            **{"in_channels": 1, "out_channels": 2, "widths": (2, 3), **fields},
        )
        pixels = np.asarray(1000 * np.abs(noise(*shape))).astype(np.uint16)
        return Divided(tmp_path, pixels, axes, network, **settings)

    return make


CASES = {
    "rows of planes": ((2, 150, 40), "TYX", {"kind": "logits"}),
    "planes of two axes": ((3, 5, 20, 21), "TZYX", {"kind": "logits"}),
    "rows of volumes": (
        (2, 40, 14, 15), "TZYX",
        {"ndim": 3, "kind": "probabilities"},
    ),
    "volumes": ((4, 6, 14, 15), "TZYX", {"ndim": 3, "tiling": "whole"}),
    "tiles": ((250, 70), "YX", {"kind": "logits", "tiling": "exact", "tile": (40, 40)}),
    "patches": (
        (170, 70), "YX",
        {"kind": "logits", "tiling": "blend", "tile": (24, 24), "batch_size": 3},
    ),
    "flips": ((4, 40, 30), "TYX", {"kind": "logits", "tta": "flips"}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_bytes_are_those_of_one_process(make, case):
    shape, axes, wish = case
    run = make(shape, axes, **{"tiling": "stream", **wish})
    cut, found = run.divided()
    assert len(cut) > 2
    assert found == run.whole()


def test_rows_in_strips(make, monkeypatch):
    """Frames that are too wide for the memory: each slab has rows of all strips."""
    monkeypatch.setattr(job, "_budget", lambda _: 15_000)
    run = make((64, 150), "YX", kind="logits", tiling="stream")
    with run.stack() as stack:
        assert len(job.prepare(stack, run.network, run.config).plan.boxes()) > 1
    cut, found = run.divided()
    assert len(cut) > 2
    assert found == run.whole()


def test_a_slab_that_is_there_is_not_computed_again(make, monkeypatch):
    run = make((80, 20), "YX", kind="labels", tiling="stream")
    head = run.begin()
    found = [run.compute(head, number) for number in range(len(head["slabs"]))]
    assert run.begin(past=head) == head
    monkeypatch.setattr(slabs.ways, "computed", None)  # nothing may be computed now
    again = [run.compute(head, n, one["sha256"]) for n, one in enumerate(found)]
    assert again == [{"sha256": one["sha256"]} for one in found]
    monkeypatch.undo()


def test_a_slab_that_is_damaged_is_computed_again(make):
    run = make((80, 20), "YX", kind="logits", tiling="stream")
    head = run.begin()
    found = [run.compute(head, number) for number in range(len(head["slabs"]))]
    chunk = next(
        p for p in (run.place / head["part"] / "0" / "c").rglob("*") if p.is_file()
    )
    chunk.write_bytes(chunk.read_bytes()[:-3])
    again = [run.compute(head, n, one["sha256"]) for n, one in enumerate(found)]
    assert sum("seen" in one for one in again) == 1
    assert run.finish(head, found) == run.whole()


def test_another_image_begins_anew(make):
    run = make((80, 20), "YX", kind="labels", tiling="stream")
    first = run.begin()
    run.config = run.config.model_copy(update={"kind": "logits"})
    notes: list[str] = []
    second = run.begin(past=first, notes=notes)
    assert "begun anew, since the settings changed" in notes[0]
    assert [p.name for p in run.place.iterdir()] == [second["part"]]


def test_a_stop_leaves_the_slab_undone(make):
    run = make((80, 20), "YX", kind="labels", tiling="stream")
    head, token = run.begin(), CancelToken()
    token.set()
    with pytest.raises(Stopped):
        run.compute(head, 0, cancel=token)
    with pytest.raises(OutputError):
        zarr_slab.ZarrSlab(
            run.place / head["part"],
            spec_of("YX", (80, 20)),
            zarr_slab.Chunks((0, 1), (0, 16)),
        ).close()


def test_what_is_not_divided_is_said(make, make_network):
    network = {"task": "instances", "out_channels": 3}
    run = make((80, 20), "YX", network=network, kind="instances")
    assert "numbered" in run.begin()
    run = make((80, 20), "YX", kind="labels", tiling="whole")
    assert "too few" in run.begin()
    assert run.begin(least=1601) == ""


def spec_of(axes, shape):
    return OutputSpec(axes, shape, np.dtype("u1"))


@given(data=st.data())
@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_every_chunk_has_one_slab(data):
    """Random images, networks and ways to cut a frame; borders are those of chunks."""

    def draw(low, high):
        return data.draw(st.integers(low, high))

    ndim, channels = draw(2, 3), data.draw(st.sampled_from((None, 1, 3)))
    size = tuple(draw(1, 100) for _ in range(ndim))
    looped = data.draw(st.sampled_from(("", "T", "TZ"[: 4 - ndim])))
    wanted = {a: (0, draw(1, 5)) for a in looped}
    spatial = "ZYX"[-ndim:]
    wanted.update({a: (0, n) for a, n in zip(spatial, size, strict=True)})
    layout = Layout(looped, spatial, (0,), size, wanted)
    halo = ((draw(0, 9), draw(0, 9)),) * ndim
    zero = (0,) * ndim
    exact = data.draw(st.booleans())
    geometry = Geometry((2,) * ndim, zero, zero, halo, zero, zero, exact, "", True)
    tilings = ("auto", "stream", "exact") if exact else ("auto", "blend")
    config = PredictConfig(tiling=data.draw(st.sampled_from(tilings)), tile=(24,))
    memory = Memory(1 << 20, 10.0, 1 << 12, lambda: RowCost(10.0, 1.0, 4))
    cut = divide(
        plan(size, geometry, config, memory), layout,
        workers=draw(1, 9), least=data.draw(st.sampled_from((1, 500, 10**9))),
    )  # fmt: skip
    spec = spec_of(layout.axes(channels is not None), layout.shape(channels))
    grid = np.zeros(
        [
            -(-n // c)
            for n, c in zip(
                [spec.shape[i] for i in zarr_levels.stored_order(spec.axes)],
                [1] * (len(spec.shape) - 2) + [CHUNK, CHUNK],
                strict=True,
            )
        ],
        int,
    )
    for slab in cut:
        chunks = slab.chunks(layout, channels)
        assert all(n % CHUNK == 0 or n == size[-2] for n in chunks.rows)
        for place in chunks.places(spec):
            grid[place] += 1
    assert (grid == 1).all()
    frame = layout.frames * math.prod(size)
    assert sum(slab.pixels(layout) for slab in cut) == frame
