"""Folders of very many files."""

from __future__ import annotations

import os
import time
import tracemalloc
from pathlib import Path

from faults import small_batch
from napari_unet.batch.inputs import gather
from napari_unet.batch.run import plan_batch
from napari_unet.config import BatchConfig

MANY = 100_000 if os.environ.get("UNET_FAULTS") == "all" else 2_000


def test_a_folder_of_many_files(quick_disk):
    """Listed by name, in 3 kB of memory a file; what is no image is passed over."""
    folder, output = quick_disk / "in", quick_disk / "out"
    folder.mkdir()
    for number in range(MANY):
        (folder / f"{number:06}.tif").touch()
    for name in (".DS_Store", "Thumbs.db", "copy.tif.part", ".hidden.tif", "a.tmp"):
        (folder / name).touch()
    net, begin = small_batch.network(), time.process_time()
    found = gather([folder], output)
    listed = time.process_time() - begin
    tracemalloc.start()
    summary = plan_batch(gather([folder], output), net, output, BatchConfig())
    _, taken = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    print(f"{MANY} files: listed in {listed:.1f} s, {taken / MANY:.0f} bytes a file")
    assert summary.count("to do") == len(found.images) == MANY
    names = [Path(item.output).name for item in summary.items]
    assert names == [f"{number:06}.ome.tif" for number in range(MANY)]
    assert taken < 1e6 + 3000 * MANY
    assert not output.exists()
