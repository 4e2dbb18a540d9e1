"""HDF5 files are looked through before anything is read from them."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from napari_unet.checkpoints.hdf5 import opened
from napari_unet.errors import ModelError


def write(path, fill):
    with h5py.File(path, "w") as file:
        fill(file)
    return path


def good(file):
    file.attrs["backend"] = "torch"
    file.attrs["layer_names"] = np.array([b"a", b"b"])
    file.attrs["numbers"] = [1.5, 2.0]
    file.attrs["none"] = []
    file["a/kernel"] = np.arange(6, dtype=">f4").reshape(2, 3)
    file.create_dataset(
        "b/c/packed", data=np.ones((4, 4)), chunks=(2, 2), compression=4, shuffle=True
    )
    file["words"] = "layer { }"
    file["names"] = ["cell", "wall"]
    file["few"] = np.zeros((0, 3), np.int32)


def test_a_plain_file_is_a_tree_of_arrays(tmp_path):
    with opened(write(tmp_path / "a.h5", good)) as tree:
        assert tree.groups == ["", "a", "b", "b/c"]
        assert tree.datasets["a/kernel"].shape == (2, 3)
        assert tree.below("b") == ["b/c/packed"]
        kernel = tree.array("a/kernel")
        assert kernel.dtype == np.dtype("float32")
        assert kernel.tolist() == [[0, 1, 2], [3, 4, 5]]
        assert tree.array("b/c/packed").sum() == 16
        assert tree.array("few").shape == (0, 3)
        assert tree.text("words") == "layer { }"
        assert tree.text("names") == ["cell", "wall"]
        assert tree.attributes() == {
            **{"backend": "torch", "layer_names": ["a", "b"], "numbers": [1.5, 2.0]},
            "none": [],
        }
        assert tree.attributes("a") == {}


def test_named_types_as_java_writes_them_are_passed_over(tmp_path):
    def fill(file):
        file["__DATA_TYPES__/Words"] = h5py.string_dtype()
        file.create_dataset("a", data="b", dtype=file["__DATA_TYPES__/Words"])

    with opened(write(tmp_path / "a.h5", fill)) as tree:
        assert list(tree.datasets) == ["a"]
        assert tree.text("a") == "b"


def test_it_may_be_a_member_of_an_archive(tmp_path):
    data = write(tmp_path / "a.h5", good).read_bytes()
    with opened(tmp_path / "model.keras", data) as tree:
        assert tree.text("words") == "layer { }"


def test_what_is_not_there_is_said(tmp_path):
    with opened(write(tmp_path / "a.h5", good)) as tree:
        for ask in (tree.array, tree.text, tree.attributes):
            with pytest.raises(ModelError, match="at b/none"):
                ask("b/none")
        with pytest.raises(ModelError, match="no numbers at words"):
            tree.array("words")
        with pytest.raises(ModelError, match="no text at few"):
            tree.text("few")


def external_link(file):
    file["a"] = h5py.ExternalLink("/etc/other.h5", "secret")


def soft_link(file):
    file["a"] = h5py.SoftLink("/b")


def external_data(file):
    file.create_dataset("a", (16,), "u1", external=[("/etc/passwd", 0, 16)])


def virtual(file):
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("/tmp/other.h5", "secret", (4,))
    file.create_virtual_dataset("a", layout)


def huge(file):
    file.create_dataset("a", (2**20, 2**20), "u1", chunks=(2**10, 2**10))


def huge_but_started(file):
    huge(file)
    file["a"][0, 0] = 1


def bomb(file):
    file.create_dataset("a", data=np.zeros((2**13, 2**13), "u1"), compression=9)


def empty_pages(file):
    file.create_dataset("a", (1000,), "f4", chunks=(10,))


def huge_chunk(file):
    data = file.create_dataset("a", (1,), "u1", maxshape=(None,), chunks=(2**30,))
    data.id.write_direct_chunk((0,), b"x")


def loop(file):
    file.create_group("a")["b"] = file["/"]
    file["a/c"] = file["a"]


def deep(file):
    file.create_group("/".join("a" * 40))


def many(file):
    for n in range(120):
        group = file.create_group(f"g{n}")
        for k in range(900):
            group[f"d{k}"] = h5py.SoftLink("/a") if k > 0 else np.zeros(1)


def record(file):
    file["a"] = np.zeros(3, [("x", "f4"), ("y", "i4")])


def reference(file):
    file["b"] = np.zeros(3)
    file.create_dataset("a", data=[file["b"].ref], dtype=h5py.ref_dtype)


def region(file):
    file["b"] = np.zeros(3)
    refs = [file["b"].regionref[:2]]
    file.create_dataset("a", data=refs, dtype=h5py.regionref_dtype)


def ragged(file):
    file.create_dataset("a", (2,), h5py.vlen_dtype("f4"))[0] = [1, 2]


def opaque(file):
    file["a"] = np.zeros(3, "V8")


def other_filter(file):
    file.create_dataset("a", data=np.zeros(100), compression="lzf")


def shapeless(file):
    file["a"] = h5py.Empty("f4")


def many_strings(file):
    file.create_dataset("a", data=["x"] * 5000, dtype=h5py.string_dtype())


HOSTILE = {
    external_link: "a link that is not followed at a",
    soft_link: "a link that is not followed at a",
    external_data: "data kept outside the dataset at a",
    virtual: "data kept outside the dataset at a",
    huge: "an array of shape .1048576, 1048576. at a",
    huge_but_started: "an array of shape .1048576, 1048576. at a",
    bomb: "an array of shape .8192, 8192. at a",
    empty_pages: "4000 bytes that are not in the file at a",
    loop: "an object that lies in several places at a",
    deep: "more than 32 levels",
    many: "a link that is not followed",
    **dict.fromkeys((record, reference, region, ragged, opaque), "neither numbers"),
    other_filter: "a compression of kind 32000 at a",
    shapeless: "an array without a shape at a",
    many_strings: "5000 strings at a",
}


@pytest.mark.parametrize("fill", HOSTILE, ids=lambda fill: fill.__name__)
def test_what_may_harm_is_refused(tmp_path, fill):
    path = write(tmp_path / "a.h5", fill)
    with pytest.raises(ModelError, match=HOSTILE[fill]), opened(path):
        pass


def test_pieces_larger_than_the_data_are_refused(tmp_path):
    path = write(tmp_path / "a.h5", huge_chunk)
    with pytest.raises(ModelError, match="1073741824 values"), opened(path):
        pass


def test_too_many_objects_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("napari_unet.checkpoints.hdf5._MOST_OBJECTS", 4)
    path = write(tmp_path / "a.h5", good)
    with pytest.raises(ModelError, match="more than 4 objects"), opened(path):
        pass


@pytest.mark.parametrize("fill", [reference, record, ragged], ids=lambda f: f.__name__)
def test_attributes_are_words_and_numbers(tmp_path, fill):
    def attributes(file):
        with h5py.File(tmp_path / "b.h5", "w") as other:
            fill(other)
            value = other["a"][()]
            file.attrs.create("a", value, dtype=other["a"].dtype)

    with opened(write(tmp_path / "a.h5", attributes)) as tree:
        with pytest.raises(ModelError, match="neither numbers nor text at a"):
            tree.attributes()


WORDS = ("words", "names")


def test_a_damaged_file_is_refused(tmp_path):
    data = write(tmp_path / "a.h5", good).read_bytes()
    path = tmp_path / "b.h5"
    draw, refused, tried = np.random.default_rng(0), 0, 0
    for n in range(0, len(data), 97):
        for changed in (data[:n], data[:n] + draw.bytes(8) + data[n + 8 :]):
            path.write_bytes(changed)
            tried += 1
            try:
                with opened(path) as tree:
                    [tree.attributes(group) for group in tree.groups]
                    [tree.array(d) for d in tree.datasets if d not in WORDS]
            except ModelError:
                refused += 1
    assert refused >= tried // 2
