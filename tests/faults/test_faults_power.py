"""The power is cut: nothing recorded is lost, and the next run gives the same."""

from __future__ import annotations

import os
import sys

import pytest

from faults import small_batch
from faults.power import Checker
from napari_unet import disk

EVERY = os.environ.get("UNET_FAULTS") == "all"
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


CASES = [(s, start) for s in (".ome.tif", ".ome.zarr") for start in ("fresh", "redo")]
QUICK = {(".ome.tif", "fresh"), (".ome.zarr", "redo")}


@pytest.mark.timeout(1800 if EVERY else 300)
@pytest.mark.parametrize(("suffix", "start"), [c for c in CASES if EVERY or c in QUICK])
def test_the_power_is_cut_at_any_call(quick_disk, suffix, start):
    net = small_batch.network()
    source, output = small_batch.images(quick_disk / "in"), quick_disk / "out"
    output.mkdir()
    if start == "redo":
        small_batch.run(source, output, net, suffix=suffix, tile=(16,))
    checker = Checker(output, 1 if EVERY else 29)
    for path in [*output.rglob("*"), output]:  # which a run before has flushed
        checker.platter.flush(path)
    with disk.observed(checker):
        small_batch.run(source, output, net, suffix=suffix)
    checker.platter.close()
    assert checker.problems == []
    assert checker.kept == 3
    assert checker.calls > 60
    wanted, fates = small_batch.tree(output), small_batch.fates(output)
    assert len(checker.cuts) == checker.calls // checker.every
    for cut in checker.cuts:
        small_batch.run(source, cut, net, suffix=suffix)
        assert small_batch.tree(cut) == wanted, cut.name
        assert small_batch.fates(cut) == fates, cut.name
