import os

import pytest

from napari_unet.batch.inputs import examine, gather
from napari_unet.batch.ledger import Ledger, Record
from napari_unet.errors import UsageError


def names(inputs):
    return [image.path.name for image in inputs.images]


def touch(folder, *files):
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def test_folder_by_name_without_hidden_and_temporary(folder, tmp_path):
    touch(folder, "b.tif", "a.tif", ".hidden.tif", "c.tif~", "Thumbs.db", "x.tmp")
    touch(folder, "deeper/d.tif")
    inputs = gather([folder], tmp_path / "out")
    assert names(inputs) == ["a.tif", "b.tif"]
    assert "deeper" in inputs.notes[0]


def test_pattern_holds_for_folders_and_ignores_case(folder, tmp_path):
    touch(folder, "a.TIF", "b.png", "c.png")
    inputs = gather([folder, folder / "c.png"], tmp_path / "out", "*.tif")
    assert names(inputs) == ["a.TIF", "c.png"]


def test_zarr_folder_is_one_image(folder, tmp_path):
    touch(folder, "a.ome.zarr/0/c/0", "b/zarr.json", "c/x.tif")
    inputs = gather([folder], tmp_path / "out")
    assert names(inputs) == ["a.ome.zarr", "b"]
    assert inputs.images[0].size == len("a.ome.zarr/0/c/0")


def test_an_image_named_twice_is_done_once(folder, tmp_path, monkeypatch):
    touch(folder, "a.tif")
    monkeypatch.chdir(folder)
    inputs = gather(["a.tif", folder, folder / "a.tif"], tmp_path / "out")
    assert names(inputs) == ["a.tif"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_pipes_and_dangling_links_are_told_not_opened(folder, tmp_path):
    os.mkfifo(folder / "pipe.tif")
    os.symlink(folder / "gone", folder / "link.tif")
    faults = {i.path.name: i.fault for i in gather([folder], tmp_path / "o").images}
    assert "leads nowhere" in faults["link.tif"]
    assert "pipe" in faults["pipe.tif"]


def test_results_of_an_earlier_batch_are_no_images(folder, tmp_path):
    touch(folder, "new.tif", "a.ome.tif", "a (edited).ome.tif", "a (edited 2).ome.tif")
    touch(folder, "b (edited).ome.tif")
    done = {"size": 1, "mtime_ns": 1, "model": "", "settings": "", "version": ""}
    Ledger(folder).append(
        Record(input="../a.tif", output="a.ome.tif", outcome="done", **done)
    )
    inputs = gather([folder], tmp_path / "out")
    assert names(inputs) == ["b (edited).ome.tif", "new.tif"]


@pytest.mark.parametrize("given", [".", "a.tif", "../in"])
def test_output_folder_among_the_images_is_refused(folder, given):
    touch(folder, "a.tif")
    with pytest.raises(UsageError, match="among the images"):
        gather([folder / given], folder)


def test_missing_path_empty_folder_and_output_that_is_a_file(folder, tmp_path):
    with pytest.raises(UsageError, match="does not exist"):
        gather([folder / "gone.tif"], tmp_path / "out")
    with pytest.raises(UsageError, match="nothing to do"):
        gather([folder], tmp_path / "out")
    touch(folder, "a.tif")
    with pytest.raises(UsageError, match="is a file"):
        gather([folder], folder / "a.tif")


def test_examine_sees_a_change(folder):
    touch(folder, "a.tif")
    before = examine(folder / "a.tif")
    os.utime(folder / "a.tif", ns=(1, 1))
    assert examine(folder / "a.tif") != before
