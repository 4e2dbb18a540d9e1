"""A run goes outwards from what is in view, and gives what it gives in any order."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import tifffile

from napari_unet.config import PredictConfig
from napari_unet.events import Cancelled, CancelToken, Preview, Warned
from napari_unet.images.npy_sink import NpySink
from napari_unet.images.readers import open_image
from napari_unet.images.sinks import ArraySink
from napari_unet.images.stack import ImageStack
from napari_unet.inference import job
from napari_unet.inference.plan import RowCost
from napari_unet.inference.predict import predict

ROWS = 8


@pytest.fixture(autouse=True)
def rows(monkeypatch):
    """A known number of rows goes through a stream at a time, in one strip."""
    cost = RowCost(held=100.0, moving=1.0, chunk=ROWS)
    monkeypatch.setattr(job.footprint, "row_cost", lambda *_: cost)
    monkeypatch.setattr(job, "_budget", lambda _: 1 << 40)


def run(stack, network, view, **settings):
    """Give the regions in the order in which they were written, and the result."""
    sink, regions = ArraySink(), []
    config = PredictConfig(device="cpu", **settings)
    for event in predict(stack, network, config, sink, view=view):
        if isinstance(event, Preview):
            regions.append(event.region)
    return regions, event.result


def checked(stack, network, view, **settings):
    """Compare a run with one that nobody looks at, to the last bit."""
    regions, result = run(stack, network, view, **settings)
    usual, wanted = run(stack, network, None, **settings)
    np.testing.assert_array_equal(result, wanted)
    count = np.zeros(result.shape, int)
    for region in regions:
        count[region] += 1
    assert (count == 1).all()
    return regions, usual


def middles(regions, *axes):
    return [[(r[a].start + r[a].stop - 1) / 2 for a in axes] for r in regions]


def rises(numbers) -> bool:
    return all(a <= b for a, b in itertools.pairwise(numbers))


@pytest.mark.parametrize("ndim", [2, 3])
def test_tiles_go_outwards_from_the_middle_of_the_view(make_network, noise, ndim):
    network = make_network(ndim=ndim, widths=(4,))
    stack = ImageStack(noise(*(24, 90, 110)[-ndim:]), "ZYX"[-ndim:])
    view = {"Y": slice(50, 80), "X": slice(60, 100)}
    regions, usual = checked(
        stack, network, view, tiling="exact", tile=(24,), kind="logits"
    )
    assert len(regions) > 12
    here = [64.5, 79.5] if ndim == 2 else [11.5, 64.5, 79.5]
    places = middles(regions, *((1, 2) if ndim == 2 else (0, 2, 3)))
    assert rises(math.dist(place, here) for place in places)
    assert regions[0] != usual[0]
    first = regions[0][-2:]
    assert (first[0].start <= 64 < first[0].stop) or ndim == 3


def test_frames_come_by_their_distance(make_network, noise):
    network = make_network(widths=(4,))
    stack = ImageStack(noise(4, 6, 16, 16), "TZYX")
    regions, _ = checked(stack, network, {"T": slice(2, 3), "Z": slice(4, 5)})
    places = middles(regions, 0, 1)
    assert places[0] == [2, 4]
    assert rises(math.dist(place, (2, 4)) for place in places)
    assert sorted(places) == [[t, z] for t in range(4) for z in range(6)]


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(("ndim", "first"), [(2, 37), (3, 13), (2, 0), (2, 69)])
def test_streamed_rows_begin_in_view(make_network, noise, ndim, first, padding):
    """With the first row in view, on to the end; the rows before it come after."""
    network = make_network(ndim=ndim, widths=(4, 6), padding=padding)
    shape, axes = {2: ((70, 40), "YX"), 3: ((26, 24, 20), "ZYX")}[ndim]
    view = {axes[0]: slice(first, first + 9)}
    regions, _ = checked(
        ImageStack(noise(*shape), axes), network, view, tiling="stream", kind="logits"
    )
    rows = [region[1 if ndim == 2 else 0] for region in regions]
    starts = [part.start for part in rows]
    assert starts[0] == first
    turn = starts.index(0)
    assert rises(starts[:turn])
    assert rises(starts[turn:])
    assert len(rows) > 3


def test_strips_come_by_their_distance(make_network, noise, monkeypatch):
    network = make_network(ndim=3, widths=(4, 6))
    monkeypatch.setattr(job, "_budget", lambda _: 10_000)
    cost = RowCost(held=20.0, moving=1.0, chunk=2)
    monkeypatch.setattr(job.footprint, "row_cost", lambda *_: cost)
    view = {"Z": slice(6, 7), "X": slice(50, 70)}
    stack = ImageStack(noise(12, 30, 90), "ZYX")
    regions, _ = checked(stack, network, view, tiling="stream", kind="logits")
    strips = {(r[2].start, r[3].start): r for r in regions if r[0].start >= 6}
    assert len(strips) > 2
    assert rises(math.dist(m, (14.5, 59.5)) for m in middles(strips.values(), 2, 3))


def test_blended_rows_stay_in_order_and_frames_go_outwards(make_network, noise):
    network = make_network(widths=(4, 6))
    stack = ImageStack(noise(3, 60, 70), "ZYX")
    view = {"Z": slice(1, 2), "Y": slice(40, 50)}
    regions, _ = checked(
        stack, network, view, tiling="blend", tile=(24,), kind="probabilities"
    )
    planes = [region[0].start for region in regions]
    assert planes == sorted(planes, key=lambda z: abs(z - 1))
    for plane in range(3):
        assert rises(r[2].start for r in regions if r[0].start == plane)


def test_objects_are_numbered_as_always(make_network, noise):
    network = make_network(widths=(4, 6))
    stack = ImageStack(noise(3, 50, 60), "ZYX")
    view = {"Z": slice(2, 3), "Y": slice(40, 50)}
    regions, usual = checked(
        stack, network, view, tiling="exact", tile=(24,), kind="instances"
    )
    assert regions == usual


@pytest.mark.parametrize("tiling", ["exact", "stream"])
def test_a_stopped_run_goes_on_in_its_order(make_network, noise, tmp_path, tiling):
    """Whenever it is stopped; with another view it begins anew, and says so."""
    path, output = tmp_path / "image.tif", tmp_path / "out.npy"
    pixels = np.asarray(1000 * np.abs(noise(2, 60, 50))).astype(np.uint16)
    tifffile.imwrite(path, pixels, photometric="minisblack")
    network = make_network(widths=(4, 6))
    config = PredictConfig(
        device="cpu", axes="ZYX", tiling=tiling, kind="logits", tile=(24,)
    )
    view = {"Z": slice(1, 2), "Y": slice(30, 50), "X": slice(20, 30)}

    def events(look=view, stop=None):
        token = CancelToken()
        with open_image(path, axes="ZYX") as stack:
            sink = NpySink(output)
            for event in predict(
                stack, network, config, sink, view=look, cancel=token
            ):  # fmt: skip
                if isinstance(event, Preview) and stop is not None:
                    stop -= 1
                    if stop <= 0:
                        token.set()
                yield event

    count = sum(isinstance(event, Preview) for event in events())
    wanted = output.read_bytes()
    assert count > 8
    for stop in range(1, count, 5):
        output.unlink()
        assert isinstance(list(events(stop=stop))[-1], Cancelled)
        told = [event.message for event in events() if isinstance(event, Warned)]
        assert any("An earlier run goes on" in text for text in told), stop
        assert output.read_bytes() == wanted
    output.unlink()
    list(events(stop=3))
    told = [e.message for e in events({"Z": slice(0, 1)}) if isinstance(e, Warned)]
    assert "An earlier run is begun anew, since the settings changed." in told
    assert output.read_bytes() == wanted
