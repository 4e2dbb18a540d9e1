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


TREE = ("a.tif", "p/A1/x.tif", "p/A1/y.png", "p/A2/x.tif", "p/.h/z.tif", "q/x.TIF")


@pytest.mark.parametrize(
    ("pattern", "want"),
    [
        ("**/*.tif", ["a.tif", "p_A1_x.tif", "p_A2_x.tif", "q_x.TIF"]),
        ("*/*/x.tif", ["p_A1_x.tif", "p_A2_x.tif"]),
        ("p/**/x.*", ["p_A1_x.tif", "p_A2_x.tif"]),
        ("**/a1/*", ["p_A1_x.tif", "p_A1_y.png"]),
        ("**", ["a.tif", "p_A1_x.tif", "p_A1_y.png", "p_A2_x.tif", "q_x.TIF"]),
        ("q/*", ["q_x.TIF"]),
        ("./*.tif", ["a.tif"]),
    ],
)
def test_folders_in_folders(folder, tmp_path, pattern, want):
    touch(folder, *TREE)
    found = gather([folder], tmp_path / "out", pattern).images
    assert sorted(i.label or i.path.name for i in found) == want


def test_links_between_folders_end(folder, tmp_path):
    touch(folder, "a/x.tif")
    os.symlink(folder, folder / "a" / "loop")
    os.symlink(folder / "self", folder / "self")
    found = gather([folder], tmp_path / "out", "**/*").images
    assert [(i.path.name, bool(i.fault)) for i in found] == [
        ("x.tif", False),
        ("self", True),
    ]


def test_results_below_the_images_are_no_images(folder):
    touch(folder, "a/x.tif", "out/a.ome.tif")
    found = gather([folder], folder / "out", "**/*.tif").images
    assert [image.path.name for image in found] == ["x.tif"]


def test_each_series_is_an_image(folder, tmp_path):
    import numpy as np
    import tifffile

    with tifffile.TiffWriter(folder / "many.tif") as tif:
        for size in (8, 9, 10):
            tif.write(np.zeros((size, 7), np.uint8), photometric="minisblack")
    tifffile.imwrite(folder / "one.tif", np.zeros((5, 6), np.uint8))
    (folder / "text.tif").write_text("no image")
    inputs = gather([folder], tmp_path / "out", series="all").images
    assert [(i.path.name, i.series) for i in inputs] == [
        ("many.tif", "0"), ("many.tif", "1"), ("many.tif", "2"),
        ("one.tif", None), ("text.tif", None),
    ]  # fmt: skip
    assert [i.series for i in gather([folder], tmp_path / "out").images] == [None] * 3


def test_each_field_of_a_plate_is_an_image(folder, tmp_path):
    import numpy as np
    import zarr

    from napari_unet.images.readers import open_image

    root = zarr.create_group(folder / "plate.zarr", zarr_format=3)
    for number, name in enumerate(("A/1/0", "A/1/1", "B/3/0")):
        field = root.create_group(name)
        field.create_array("0", data=np.full((4, 5), number, np.uint8))
        field.attrs["ome"] = {
            "version": "0.5",
            "multiscales": [
                {
                    "axes": [{"name": a, "type": "space"} for a in "yx"],
                    "datasets": [{"path": "0"}],
                }
            ],
        }
    inputs = gather([folder], tmp_path / "out", series="all").images
    assert len(inputs) == 3
    values = [
        int(open_image(i.path, series=i.series).read({}, "YX").max()) for i in inputs
    ]
    assert values == [0, 1, 2]


def test_a_table_tells_what_files_do_not(folder, tmp_path):
    touch(folder, "a.tif", "p/b.tif", "p/c.tif", "d.tif")
    table = tmp_path / "table.csv"
    table.write_text(
        "\ufefffile,axes,channels,series\n"
        "a.tif,ZYX,,\n"
        "p/*.tif,CYX,2 0,\n"
        "d.tif,,,1\n"
        "gone.tif,YX,,\n",
        encoding="utf-8",
    )
    inputs = gather([folder], tmp_path / "out", "**/*", table=table)
    found = {i.path.name: (i.axes, i.channels, i.series) for i in inputs.images}
    assert found == {
        "a.tif": ("ZYX", None, None),
        "b.tif": ("CYX", (2, 0), None),
        "c.tif": ("CYX", (2, 0), None),
        "d.tif": (None, None, "1"),
    }
    assert inputs.notes == ("table.csv: no file fits gone.tif.",)


@pytest.mark.parametrize(
    "text", ["", "axes\nYX\n", "file,size\na,1\n", "file\n,\n", "file,channels\na,x"]
)
def test_a_table_that_makes_no_sense(folder, tmp_path, text):
    touch(folder, "a.tif")
    (tmp_path / "table.csv").write_text(text)
    with pytest.raises(UsageError, match=r"table.csv cannot be used"):
        gather([folder], tmp_path / "out", table=tmp_path / "table.csv")


def test_examine_sees_a_change(folder):
    touch(folder, "a.tif")
    before = examine(folder / "a.tif")
    os.utime(folder / "a.tif", ns=(1, 1))
    assert examine(folder / "a.tif") != before
