"""Runs that are ended and go on, against runs that are not."""

from __future__ import annotations

import errno
import itertools
import os
import random
import shutil
from dataclasses import replace

import numpy as np
import pytest
import tifffile
import torch
from snapshots import snapshot
from torch import nn
from zoo.opened import opened
from zoo.stored_cases import cases

from napari_unet.config import PredictConfig
from napari_unet.errors import ImageError, OutputError, UsageError
from napari_unet.events import Cancelled, CancelToken, Finished, Preview, Warned
from napari_unet.files import digest
from napari_unet.images.readers import open_image
from napari_unet.images.sinks import sink_for
from napari_unet.inference import augmented, job, objects
from napari_unet.inference.finish import Reduced
from napari_unet.inference.plan import RowCost
from napari_unet.inference.predict import predict
from napari_unet.inference.resuming import keeper as resuming
from napari_unet.inference.resuming.blocks import pack, unpack
from napari_unet.inference.resuming.journal import Journal
from napari_unet.inference.resuming.keeper import journal_of
from napari_unet.networks.network import Network

GOES_ON = "An earlier run goes on"


class Runs:
    """Runs of one image through one network into files of one name."""

    def __init__(self, image, network, tmp_path, suffix, **settings) -> None:
        self.image = image
        self.network = network
        self.settings = {"device": "cpu", **settings}
        self.tmp_path = tmp_path
        self.name = f"out{suffix}"

    def events(self, folder, cancel=None):
        config = PredictConfig(**self.settings)
        sink = sink_for(folder / self.name)
        with open_image(self.image, axes=self.settings.get("axes")) as stack:
            yield from predict(stack, self.network, config, sink, cancel=cancel)

    def snapshots(self, folder, every: int = 1):
        """Run to the end; copy the folder as it is after each few blocks."""
        copies = []
        for event in self.events(folder):
            if isinstance(event, Preview) and next(self.count) % every == 0:
                copies.append(self.tmp_path / f"{folder.name}-{len(copies)}")
                snapshot(folder, copies[-1])
        assert isinstance(event, Finished)
        return copies

    def check(self, every: int = 1) -> None:
        """Whenever the run is killed, the next one makes the same bytes."""
        self.count = itertools.count(1)
        whole = self.tmp_path / "whole"
        copies = self.snapshots(whole, every)
        assert [p.name for p in whole.iterdir()] == [self.name]
        wanted = digest(whole / self.name)
        assert len(copies) >= 2
        for copy in copies:
            assert not (copy / self.name).exists()
            events = list(self.events(copy))
            told = [e.message for e in events if isinstance(e, Warned)]
            assert any(GOES_ON in text for text in told), told
            assert covered_once(e.region for e in events if isinstance(e, Preview))
            assert [p.name for p in copy.iterdir()] == [self.name]
            assert digest(copy / self.name) == wanted
            shutil.rmtree(copy)


def covered_once(regions) -> bool:
    """Whether regions fill a box without a gap and do not overlap."""
    regions = list(regions)
    axes = zip(*regions, strict=True)
    counts = np.zeros([max(part.stop for part in axis) for axis in axes], int)
    for region in regions:
        counts[region] += 1
    return bool((counts == 1).all())


@pytest.fixture
def rows(monkeypatch):
    """Set how many rows go through a stream at a time, and the memory for it."""

    def set_rows(chunk: int, budget: int = 1 << 40) -> None:
        cost = RowCost(held=100.0, moving=1.0, chunk=chunk)
        monkeypatch.setattr(job.footprint, "row_cost", lambda *_: cost)
        monkeypatch.setattr(job, "_budget", lambda _: budget)

    return set_rows


@pytest.fixture
def runs(tmp_path, noise):
    def make(shape, axes, network, suffix=".npy", **settings) -> Runs:
        path = tmp_path / "image.tif"
        pixels = np.asarray(1000 * np.abs(noise(*shape))).astype(np.uint16)
        tifffile.imwrite(path, pixels, photometric="minisblack")
        return Runs(path, network, tmp_path, suffix, axes=axes, **settings)

    return make


SHAPES = {
    2: ((3, 75, 53), "TYX"),
    3: ((2, 43, 21, 26), "TZYX"),
}


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(("up", "chunk"), [("transposed", 12), ("linear", 4)])
def test_streamed(runs, make_network, rows, ndim, padding, up, chunk) -> None:
    """Logits, to the last bit: frames, odd sizes, chunks of several lengths."""
    rows(chunk)
    network = make_network(
        ndim=ndim, in_channels=1, out_channels=2, padding=padding, upsampling=up
    )
    runs(*SHAPES[ndim], network, kind="logits", tiling="stream").check(
        every=36 // chunk
    )


@pytest.mark.parametrize("ndim", [2, 3])
def test_streamed_in_strips(runs, make_network, rows, ndim) -> None:
    """A frame that is too wide: several strips, each with all its rows."""
    rows(4, budget=30_000 if ndim == 2 else 250_000)
    network = make_network(ndim=ndim, in_channels=1, out_channels=2)
    shape, axes = ((2, 51, 300), "TYX") if ndim == 2 else ((31, 40, 90), "ZYX")
    run = runs(shape, axes, network, kind="logits", tiling="stream")
    config = PredictConfig(**run.settings)
    with open_image(run.image, axes=axes) as stack:
        assert len(job.prepare(stack, network, config).plan.boxes()) > 1
    run.check(every=13)


def test_streamed_over_whole_frames_only(runs, rows) -> None:
    """milesial's bilinear net: where rows lie depends on the length of the frame."""
    rows(16)
    case = next(c for c in cases() if str(c) == "github-milesial-bilinear-32")
    network, _ = opened(case)
    channels = network.spec.in_channels
    shape = (channels, 101, 75)
    runs(shape, "CYX", network, kind="logits", tiling="stream").check()


@pytest.mark.parametrize("suffix", [".ome.tif", ".ome.zarr", ".npy"])
@pytest.mark.parametrize("kind", ["labels", "probabilities"])
def test_exact_tiles(runs, make_network, suffix, kind) -> None:
    network = make_network(in_channels=1, out_channels=3, activation="softmax")
    run = runs(
        (2, 100, 90), "TYX", network, suffix, kind=kind, tiling="exact", tile=(64, 64)
    )
    run.check(every=3)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("overlap", [0.25, 0.6])
@pytest.mark.parametrize("ndim", [2, 3])
def test_blended_patches(runs, make_network, batch, overlap, ndim) -> None:
    """Sums are made in the same order, also where a row of patches spans others."""
    network = make_network(ndim=ndim, in_channels=1, out_channels=2, norm="instance")
    shape, axes = ((2, 90, 70), "TYX") if ndim == 2 else ((2, 30, 20, 20), "TZYX")
    run = runs(
        shape, axes, network, ".ome.tif", kind="logits", tiling="blend",
        tile=(24,) * 2 if ndim == 2 else (12,) * 3,
        overlap=overlap, batch_size=batch,
    )  # fmt: skip
    run.check(every=3)


@pytest.mark.parametrize("batch", [1, 3])
def test_whole_frames(runs, make_network, batch) -> None:
    network = make_network(in_channels=1, out_channels=2)
    run = runs(
        (7, 40, 30), "TYX", network, ".ome.tif",
        tiling="whole", kind="logits", batch_size=batch,
    )  # fmt: skip
    run.check()


@pytest.mark.parametrize("tiling", ["stream", "blend"])
def test_averaged_over_flips(runs, make_network, rows, monkeypatch, tiling) -> None:
    """Slabs that were finished, or a part of one, before the end."""
    rows(8)
    monkeypatch.setattr(augmented, "SLAB", 20_000)
    monkeypatch.setattr(augmented, "_PART", 8_000)
    norm = "batch" if tiling == "stream" else "instance"
    network = make_network(in_channels=1, out_channels=2, norm=norm)
    tile = {"tile": (24, 24)} if tiling == "blend" else {}
    run = runs(
        (2, 100, 50), "TYX", network, ".ome.tif",
        kind="logits", tiling=tiling, tta="flips", **tile,
    )  # fmt: skip
    run.check(every=3)


@pytest.mark.parametrize("tiling", ["stream", "exact", "whole"])
def test_instances(runs, make_network, rows, monkeypatch, tiling) -> None:
    """Numbers go on, over slabs and frames."""
    rows(8)
    monkeypatch.setattr(objects, "SLAB", 700)
    network = make_network(
        in_channels=1, out_channels=3, task="instances", activation="softmax"
    )  # fmt: skip
    tile = {"tile": (64, 64)} if tiling == "exact" else {}
    run = runs(
        (3, 100, 80), "TYX", network, ".ome.tif",
        kind="instances", tiling=tiling, **tile,
    )  # fmt: skip
    run.check(every=1 if tiling == "whole" else 2)
    found = tifffile.imread(run.tmp_path / "whole" / run.name)
    assert len(np.unique(found)) > 20


def test_cells_from_flows(runs, make_network) -> None:
    """Objects that need a whole frame: its evidence is kept tile by tile."""
    network = make_network(
        in_channels=1, out_channels=3, task="flows", activation="none"
    )
    run = runs(
        (3, 100, 80), "TYX", network, ".ome.tif",
        kind="instances", tiling="exact", tile=(64, 64),
    )  # fmt: skip
    run.count = itertools.count(1)
    frames = run.snapshots(run.tmp_path / "whole")
    assert len(frames) == 3
    copies = []
    for number, _ in enumerate(run.events(run.tmp_path / "again")):
        if number % 7 == 6:
            copies.append(run.tmp_path / f"again-{number}")
            snapshot(run.tmp_path / "again", copies[-1])
    for copy in [*frames, *copies[:-1]]:
        list(run.events(copy))
        assert digest(copy / run.name) == digest(run.tmp_path / "whole" / run.name)


def test_volumes_with_a_recipe(runs) -> None:
    """nnU-Net's procedure: the volumes that are finished are not computed again."""
    from napari_unet.networks.recipe import Recipe
    from napari_unet.networks.spec import ModelSpec

    torch.manual_seed(0)
    spec = ModelSpec(
        ndim=3, in_channels=1, out_channels=2, name="raw", activation="softmax",
        recipe=Recipe(patch=(8, 8, 8), spacing=(1.0, 1.0, 1.0)),
    )  # fmt: skip
    module = nn.Conv3d(1, 2, 3, padding=1)
    run = runs((4, 10, 12, 11), "TZYX", Network(module, spec, "d1g"), ".ome.tif")
    run.check()


FAMILIES = {case.library: case for case in cases() if "nnunet" not in case.library}


@pytest.mark.parametrize("case", FAMILIES.values(), ids=str)
def test_streams_of_all_families_begin_anywhere(case) -> None:
    """A network of every library in the zoo that can be streamed, as it runs."""
    from napari_unet.inference.streaming.stream import Stream, Streamed
    from napari_unet.inference.tiling import grids, pieces
    from napari_unet.networks.graph import read_graph

    network, _ = opened(case)
    if not network.geometry.streams:
        return
    torch.manual_seed(0)
    grid, *others = grids(network.geometry)
    length = grid.fit(grid.stride * 5) + 2 * grid.margin
    sizes = [g.fit(g.stride) + 2 * g.margin for g in others]
    image = torch.randn((1, network.spec.in_channels, length, *sizes))
    placed = network.place("cpu", "float32")
    streamed = Streamed(read_graph(placed.module, network.spec.ndim))
    ranges = pieces(0, length, grid.stride)

    def push(stream, part):
        return stream.push(placed.to_input(image[:, :, slice(*part)]))

    with torch.inference_mode():
        stream = Stream(streamed, length, grid.stride)
        wanted = [(stream.stop, rows) for part in ranges for rows in push(stream, part)]
        for begin in sorted({stop for stop, _ in wanted})[:-1]:
            stream = Stream(streamed, length, grid.stride)
            left = [part for part in ranges if part[1] > stream.needed(begin)]
            for start, stop in ranges[: len(ranges) - len(left)]:
                stream.skip(stop - start)
            found = [rows for part in left for rows in push(stream, part)]
            rest = [rows for stop, rows in wanted if stop > begin]
            assert len(found) >= len(rest)
            for one, other in zip(found[-len(rest) :], rest, strict=True):
                assert torch.equal(one, other)


def _killed(runs, network, rows, suffix=".ome.tif", after=9, **settings):
    """A run with many strips, and its folder as it was in the middle."""
    rows(4)
    settings = {"kind": "logits", "tiling": "stream", **settings}
    run = runs((2, 75, 53), "TYX", network, suffix, **settings)
    run.count = itertools.count(1)
    copies = run.snapshots(run.tmp_path / "whole")
    return run, copies[after]


def _said(run, folder) -> list[str]:
    return [e.message for e in run.events(folder) if isinstance(e, Warned)]


@pytest.fixture
def small(make_network) -> Network:
    return make_network(in_channels=1, out_channels=2)


@pytest.mark.parametrize("seed", range(int(os.environ.get("UNET_DAMAGES", "6"))))
def test_damage_never_makes_wrong_pixels(runs, small, rows, seed) -> None:
    """A journal with flipped bits, or cut, or with a hole of zeros."""
    run, copy = _killed(runs, small, rows)
    path = journal_of(copy / run.name)
    rng = random.Random(seed)
    data = bytearray(path.read_bytes())
    place = rng.randrange(len(data))
    if seed % 3 == 0:
        data[place] ^= 1 << rng.randrange(8)
    elif seed % 3 == 1:
        del data[place:]
    else:
        data[place : place + 512] = bytes(len(data[place : place + 512]))
    path.write_bytes(data)
    list(run.events(copy))
    assert [p.name for p in copy.iterdir() if "part" not in p.name] == [run.name]
    assert digest(copy / run.name) == digest(run.tmp_path / "whole" / run.name)


def test_records_after_a_damaged_one_are_written_over(tmp_path) -> None:
    journal = Journal(tmp_path / "j", create=True)
    for number in range(5):
        journal.append({"number": number}, bytes([number]) * 1000)
    journal.close()
    data = bytearray((tmp_path / "j").read_bytes())
    data[data.index(bytes([2]) * 1000) + 500] ^= 1
    (tmp_path / "j").write_bytes(data)
    journal = Journal(tmp_path / "j", create=False)
    assert [head["number"] for head, _ in journal.records()] == [0, 1]
    journal.append({"number": 7})
    journal.close()
    journal = Journal(tmp_path / "j", create=False)
    found = [(head["number"], len(data)) for head, data in journal.records()]
    journal.close()
    assert found == [(0, 1000), (1, 1000), (7, 0)]


def test_records_are_bound_to_those_before(tmp_path) -> None:
    """A record cut out of the middle ends the reading there."""
    sizes = []
    with_three = Journal(tmp_path / "j", create=True)
    for number in range(3):
        with_three.append({"number": number}, b"x" * 100)
        sizes.append((tmp_path / "j").stat().st_size)
    with_three.close()
    data = (tmp_path / "j").read_bytes()
    (tmp_path / "j").write_bytes(data[: sizes[0]] + data[sizes[1] :])
    journal = Journal(tmp_path / "j", create=False)
    assert [head["number"] for head, _ in journal.records()] == [0]
    journal.close()


@pytest.mark.parametrize(
    "block",
    [
        np.arange(12, dtype=np.uint8).reshape(3, 4),
        np.arange(24, dtype=np.float32).reshape(2, 3, 4),
        np.arange(24, dtype=">f4").reshape(2, 3, 4)[:, ::-1, ::-1][:, :, :4],
        np.zeros((3, 4), bool),
    ],
)
def test_blocks_come_back(block) -> None:
    facts, data = pack(Reduced(block))
    facts["shape"] = list(facts["shape"])
    np.testing.assert_array_equal(unpack(facts, bytes(data), (3, 4)).own, block)


def test_hostile_blocks_are_refused() -> None:
    """Sizes that do not fit, a bomb, and types that are more than numbers."""
    facts, data = pack(Reduced(np.zeros((3, 4), np.uint8)))
    facts["shape"] = [3, 4]
    _, bomb = pack(Reduced(np.zeros(100_000_000, np.uint8)))
    assert unpack(facts, bytes(data), (3, 4)) is not None
    assert unpack(facts, bytes(data), (3, 5)) is None
    assert unpack(facts, bomb, (3, 4)) is None
    assert unpack(facts, bytes(data)[:-1], (3, 4)) is None
    assert unpack(facts, b"no", (3, 4)) is None
    for change in (
        {"dtype": "|O"},
        {"dtype": ["<f4"]},
        {"shape": [3, 4.0]},
        {"shape": [-3, -4]},
        {"shape": [1 << 40, 3, 4]},
        {"shape": None},
    ):
        assert unpack({**facts, **change}, bytes(data), (3, 4)) is None


def test_another_image_begins_anew(runs, small, rows, noise) -> None:
    run, copy = _killed(runs, small, rows)
    pixels = np.asarray(900 * np.abs(noise(2, 75, 53))).astype(np.uint16)
    tifffile.imwrite(run.image, pixels, photometric="minisblack")
    assert any("anew, since the image changed" in text for text in _said(run, copy))
    again = run.tmp_path / "again"
    list(run.events(again))
    assert digest(copy / run.name) == digest(again / run.name)
    assert [p.name for p in copy.iterdir()] == [run.name]


@pytest.mark.parametrize("what", ["model", "facts", "settings", "threads"])
def test_another_run_begins_anew(runs, small, rows, monkeypatch, what) -> None:
    run, copy = _killed(runs, small, rows)
    if what == "model":
        run.network = Network(small.module, small.spec, "another")
    elif what == "facts":
        spec = small.spec.model_copy(update={"activation": "sigmoid"})
        run.network = Network(small.module, spec, small.digest)
    elif what == "settings":
        run.settings["kind"] = "probabilities"
    else:
        threads = torch.get_num_threads()
        monkeypatch.setattr(torch, "get_num_threads", lambda: threads + 1)
    told = _said(run, copy)
    words = {"facts": "model", "threads": "device"}.get(what, what)
    assert any(f"anew, since the {words} changed" in text for text in told), told
    assert not any(GOES_ON in text for text in told)
    assert [p.name for p in copy.iterdir()] == [run.name]


def test_plan_scaling_and_precision_are_those_of_the_first_run(
    runs, small, rows, monkeypatch
) -> None:
    """Another free memory would give other tiles, and other bits."""
    run, copy = _killed(runs, small, rows, normalize="zscore")
    rows(32, budget=1)
    monkeypatch.setattr("napari_unet.inference.predict.measure", None)
    assert any(GOES_ON in text for text in _said(run, copy))
    assert digest(copy / run.name) == digest(run.tmp_path / "whole" / run.name)


def test_bfloat16_stays_what_it_was(runs, small, rows, monkeypatch) -> None:
    """The choice between two kinds of arithmetic is made once."""
    from napari_unet.inference import precision

    calls = []

    def settle(job, scaling):
        calls.append(job)
        return replace(job, placed=job.network.place("cpu", "bfloat16")), ["bf16"]

    monkeypatch.setattr(precision, "settle", settle)
    run, copy = _killed(runs, small, rows)
    told = _said(run, copy)
    assert len(calls) == 1
    assert "bf16" not in told
    assert digest(copy / run.name) == digest(run.tmp_path / "whole" / run.name)


def test_a_plan_that_does_not_fit_any_more(runs, small, rows, monkeypatch) -> None:
    """Less memory than the first run had: planned anew, and said."""
    run, copy = _killed(runs, small, rows)
    check, calls = job._check_memory, itertools.count()

    def refuse(*args: object) -> None:
        if next(calls) == 0:
            raise UsageError("The memory is too small")
        check(*args)

    monkeypatch.setattr(job, "_check_memory", refuse)
    told = _said(run, copy)
    assert any("the memory is too short for its plan" in text for text in told)
    assert digest(copy / run.name) == digest(run.tmp_path / "whole" / run.name)


def test_what_is_finished_is_not_computed_again(runs, small, rows, monkeypatch) -> None:
    """Only the rows that the next ones depend on go through the network again."""
    from napari_unet.networks.network import Network as Placed

    pushed = []
    to_input = Placed.to_input
    monkeypatch.setattr(
        Placed,
        "to_input",
        lambda self, batch: pushed.append(batch.shape[2]) or to_input(self, batch),
    )
    run, copy = _killed(runs, small, rows, after=-3)
    whole, pushed[:] = sum(pushed), []
    list(run.events(copy))
    assert sum(pushed) < whole / 3


def test_stop_keeps_what_is_finished(runs, small, rows) -> None:
    rows(4)
    run = runs((2, 75, 53), "TYX", small, kind="logits", tiling="stream")
    folder, token = run.tmp_path / "out", CancelToken()
    for event in run.events(folder, token):
        if isinstance(event, Preview):
            token.set()
    assert isinstance(event, Cancelled)
    assert event.note.endswith("run it again to go on from there")
    assert [p.name for p in folder.iterdir()] == [journal_of(folder / run.name).name]
    assert any(GOES_ON in text for text in _said(run, folder))
    assert [p.name for p in folder.iterdir()] == [run.name]


def test_stop_while_taking_over_keeps_all(runs, small, rows) -> None:
    """Also what was not taken over yet."""
    run, copy = _killed(runs, small, rows)
    path = journal_of(copy / run.name)
    before, token = path.stat().st_size, CancelToken()
    token.set()
    *_, event = run.events(copy, token)
    assert isinstance(event, Cancelled)
    assert path.stat().st_size == before
    events = run.events(copy)
    while not isinstance(next(events), Preview):
        pass
    events.close()
    assert path.stat().st_size == before
    assert any(GOES_ON in text for text in _said(run, copy))
    assert digest(copy / run.name) == digest(run.tmp_path / "whole" / run.name)


def test_stop_before_anything_is_finished_keeps_nothing(runs, small, rows) -> None:
    rows(4)
    run = runs((2, 75, 53), "TYX", small, kind="logits", tiling="stream")
    folder, token = run.tmp_path / "out", CancelToken()
    token.set()
    *_, event = run.events(folder, token)
    assert isinstance(event, Cancelled)
    assert "again" not in event.note
    assert list(folder.iterdir()) == []


def test_dropped_generator_keeps_what_is_finished(runs, small, rows) -> None:
    rows(4)
    run = runs((2, 75, 53), "TYX", small, kind="logits", tiling="stream")
    folder = run.tmp_path / "out"
    events = run.events(folder)
    next(e for e in events if isinstance(e, Preview))
    events.close()
    assert any(GOES_ON in text for text in _said(run, folder))


@pytest.mark.parametrize(
    ("error", "stays"),
    [(ImageError("it is bad"), False), (ValueError("what"), False),
     (OutputError("the share is gone"), True)],
)  # fmt: skip
def test_errors(runs, small, rows, monkeypatch, error, stays) -> None:
    """What would come again leaves nothing behind, what may pass does."""
    run, copy = _killed(runs, small, rows)

    def fail(*_: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr("napari_unet.inference.strips.Strips._push", fail)
        with pytest.raises(type(error)):
            list(run.events(copy))
    assert [p.name.endswith(".journal") for p in copy.iterdir()] == [True] * stays
    assert any(GOES_ON in text for text in _said(run, copy)) is stays


def test_refusal_before_the_start_leaves_the_journal(runs, small, rows) -> None:
    """A device that is absent today says nothing about tomorrow."""
    run, copy = _killed(runs, small, rows)
    before = sorted(p.name for p in copy.iterdir() if p.suffix == ".journal")
    tiling = run.settings["tiling"]
    run.settings["tile"], run.settings["tiling"] = (1, 2, 3, 4), "exact"
    with pytest.raises(Exception, match="tile size"):
        list(run.events(copy))
    assert before == [p.name for p in copy.iterdir()]
    del run.settings["tile"]
    run.settings["tiling"] = tiling
    assert any(GOES_ON in text for text in _said(run, copy))


@pytest.mark.parametrize("where", ["free", "write"])
def test_full_disk_drops_the_journal_and_not_the_run(
    runs, small, rows, monkeypatch, where
) -> None:
    rows(4)
    run = runs((2, 75, 53), "TYX", small, kind="logits", tiling="stream")
    list(run.events(run.tmp_path / "whole"))
    folder, blocks = run.tmp_path / "out", itertools.count()

    def usage(path):
        free = 10**12 if next(blocks) < 5 else 1000
        return shutil._ntuple_diskusage(10**12, 0, free)

    def append(self, *args):
        if next(blocks) > 5:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return kept(self, *args)

    kept = Journal.append
    if where == "free":
        monkeypatch.setattr(resuming.shutil, "disk_usage", usage)
    else:
        monkeypatch.setattr(Journal, "append", append)
    told = _said(run, folder)
    assert [t for t in told if "not kept, the disk is nearly full" in t] == told
    assert len(told) == 1
    assert [p.name for p in folder.iterdir()] == [run.name]
    assert digest(folder / run.name) == digest(run.tmp_path / "whole" / run.name)


def test_two_runs_do_not_share_a_journal(runs, small, rows) -> None:
    """The second is told, and disturbs nothing."""
    rows(4)
    run = runs((2, 75, 53), "TYX", small, kind="logits", tiling="stream")
    folder = run.tmp_path / "out"
    first = run.events(folder)
    next(e for e in first if isinstance(e, Preview))
    told = _said(run, folder)
    assert any("Another run writes the same result" in text for text in told)
    by_second = digest(folder / run.name)
    assert isinstance(list(first)[-1], Finished)
    assert digest(folder / run.name) == by_second
    assert [p.name for p in folder.iterdir()] == [run.name]


@pytest.mark.skipif(os.name == "nt", reason="links and pipes of POSIX")
@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_something_else_under_the_journals_name(runs, small, rows, kind) -> None:
    """Nothing is written through a link, nothing hangs, the run goes its way."""
    rows(16)
    run = runs((2, 75, 53), "TYX", small, kind="logits", tiling="stream")
    folder = run.tmp_path / "out"
    folder.mkdir()
    path, precious = journal_of(folder / run.name), run.tmp_path / "precious"
    precious.write_text("mine")
    if kind == "link":
        path.symlink_to(precious)
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    told = _said(run, folder)
    assert any("not kept" in text for text in told)
    assert precious.read_text() == "mine"
    assert (folder / run.name).exists()


def test_a_journal_removes_only_names_of_unfinished_files(runs, small, rows) -> None:
    run, copy = _killed(runs, small, rows)
    journal = Journal(journal_of(copy / run.name), create=False)
    left = [p.name for p in copy.iterdir() if ".part" in p.name]
    assert left
    (copy / "precious.tif").write_text("mine")
    (run.tmp_path / ".aaaaaaaaaaaa.part.tif").write_text("mine")
    journal.hidden = [*left, "precious.tif", "../.aaaaaaaaaaaa.part.tif", ".."]
    journal.close()
    list(run.events(copy))
    assert sorted(p.name for p in copy.iterdir()) == [run.name, "precious.tif"]
    assert (run.tmp_path / ".aaaaaaaaaaaa.part.tif").exists()


def test_arrays_and_new_networks_leave_no_journal(runs, small, rows, tmp_path) -> None:
    """What cannot be told apart later is not kept."""
    rows(4)
    run = runs((2, 75, 53), "TYX", small, kind="logits", tiling="stream")
    run.network = Network(small.module, small.spec)
    for event in run.events(tmp_path / "out"):
        if isinstance(event, Preview):
            assert not list((tmp_path / "out").glob("*.journal"))
            assert not list((tmp_path / "out").glob(".*.journal"))


def test_short_memory_goes_on_right(runs, small, rows, monkeypatch) -> None:
    """Fewer rows after a failure, then a kill: the values are right all the same."""
    from napari_unet.inference.strips import Strips, _ShortError

    rows(16)
    run = runs((2, 75, 53), "TYX", small, kind="logits", tiling="stream")
    run.count = itertools.count(1)
    push, calls = Strips._push, itertools.count()

    def failing(self, *args):
        if next(calls) in (2, 3):
            raise _ShortError
        return push(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Strips, "_push", failing)
        copies = run.snapshots(run.tmp_path / "short", every=5)
    list(run.events(run.tmp_path / "whole"))
    wanted = np.load(run.tmp_path / "whole" / run.name)
    for copy in copies:
        list(run.events(copy))
        np.testing.assert_allclose(np.load(copy / run.name), wanted, atol=1e-5)


def test_modules_with_a_bias_only_in_the_padding() -> None:
    """Rows left out are 0 inside a stream and touch nothing that is given."""
    from napari_unet.inference.streaming.stream import Stream, Streamed
    from napari_unet.networks.graph import read_graph

    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 3, 5, padding=2, padding_mode="reflect"),
        nn.MaxPool2d(3, 2, 1),
        nn.ConvTranspose2d(3, 2, 4, 2, 1),
        nn.ConstantPad2d(1, 7.0),
        nn.Conv2d(2, 1, 3),
    ).eval()
    image = torch.randn(1, 1, 64, 20)
    streamed = Streamed(read_graph(module, 2))
    with torch.inference_mode():
        whole = torch.cat(list(Stream(streamed, 64, 8).push(image)), 2)
        for begin in range(1, 60, 7):
            stream = Stream(streamed, 64, 8)
            first = stream.needed(begin)
            stream.skip(first) if first else None
            found = torch.cat(list(stream.push(image[:, :, first:])), 2)
            rest = found[:, :, found.shape[2] - 64 + begin :]
            assert rest.shape[2] == 64 - begin
            torch.testing.assert_close(rest, whole[:, :, begin:])
