import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_unet.batch.names import Names, aside, fold, safe, unedited, way


def test_stem_then_whole_name_then_number(tmp_path):
    names = Names(tmp_path, {}, ".ome.tif")
    images = ["in/a.tif", "in/a.tiff", "in2/a.tif", "in3/a.tif", "in/b.ome.tiff"]
    assert [names.name(image) for image in images] == [
        "a.ome.tif",
        "a.tiff.ome.tif",
        "a.tif.ome.tif",
        "a (2).ome.tif",
        "b.ome.tif",
    ]
    assert names.name("in/a.tiff") == "a.tiff.ome.tif"


def test_known_names_stay_and_foreign_files_are_not_taken(tmp_path):
    (tmp_path / "A.OME.TIF").write_text("mine")
    names = Names(tmp_path, {"b.tif": "kept.ome.tif"}, ".ome.tif")
    assert names.name("b.tif") == "kept.ome.tif"
    assert names.name("kept.tif") == "kept.tif.ome.tif"
    assert names.name("a.tif") == "a.tif.ome.tif"


def test_another_format_gets_another_name(tmp_path):
    names = Names(tmp_path, {"a.tif": "a.ome.tif"}, ".ome.zarr")
    assert names.name("a.tif") == "a.ome.zarr"


def test_accents_and_case_collide(tmp_path):
    names = Names(tmp_path, {}, ".ome.tif")
    twins = [unicodedata.normalize(form, "é.tif") for form in ("NFC", "NFD")]
    given = [names.name(f"in/{name}") for name in [*twins, "É.tif"]]
    assert len({fold(name) for name in given}) == 3


@pytest.mark.parametrize(
    ("name", "want"),
    [
        ("a\nb", "a_b"),
        ("con", "_con"),
        ("LPT1.x", "_LPT1.x"),
        ("a. ", "a"),
        ("..", "_"),
        ("\udc80", "_"),
        ("-x", "-x"),
        ("ü 1", "ü 1"),
    ],
)
def test_safe(name, want):
    assert safe(name) == want


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(min_size=1, max_size=90), min_size=1, max_size=6, unique=True))
def test_names_never_meet_nor_leave(texts):
    from pathlib import Path

    texts = [t.replace("/", "|") for t in texts]
    images = sorted({f"in/{t}.tif" for t in texts})
    names = Names(Path("nowhere"), {}, ".ome.tif")
    given = [names.name(image) for image in images]
    assert len({fold(name) for name in given}) == len(images)
    for name in given:
        assert name == Path(name).name
        assert not name.startswith(".")
        assert len(name.encode()) <= 255


def test_the_way_to_an_image_is_relative(tmp_path):
    assert way(tmp_path / "in", tmp_path / "out") == "../in/"
    assert way(tmp_path, tmp_path / "out") == "../"


def test_aside_counts(tmp_path):
    path = tmp_path / "a.ome.tif"
    first = aside(path, ".ome.tif")
    first.write_text("")
    second = aside(path, ".ome.tif")
    assert [first.name, second.name] == ["a (edited).ome.tif", "a (edited 2).ome.tif"]
    assert unedited(first.name) == unedited(second.name) == "a.ome.tif"


def test_parts_of_a_file_and_folders_go_into_the_name(tmp_path):
    names = Names(tmp_path, {}, ".ome.tif")
    assert names.name("in/a.tif|A/1", "p_a.tif", " A/1") == "p_a A_1.ome.tif"
    assert names.name("in/b.tif|0", "b.tif", " 0") == "b 0.ome.tif"


def test_a_name_that_another_process_gave_is_not_given_again(tmp_path):
    names = Names(tmp_path, {}, ".ome.tif")
    assert names.name("in/a.tif") == "a.ome.tif"
    names.learn({"other/a.png": "a.ome.tif"})
    assert names.name("in/a.tif") == "a.tif.ome.tif"
    names.learn({"other/a.png": "a.ome.tif", "in/a.tif": "mine.ome.tif"})
    assert names.name("in/a.tif") == "mine.ome.tif"
