"""What is painted, where, and what the ids mean."""

import numpy as np
import pytest
from shared import shared
from training_images import class_strokes, example

from napari_unet.errors import StrokesError
from napari_unet.images.stack import ImageStack
from napari_unet.training.annotations import AnnotationSet, Example
from napari_unet.training.blocks import read_blocks


class Counting:
    """An array that notes which planes are read."""

    def __init__(self, array):
        self.array, self.shape, self.dtype = array, array.shape, array.dtype
        self.read = []

    def __getitem__(self, index):
        self.read.append(index)
        return self.array[index]


class Same:
    def apply(self, block):
        return block.astype(np.float32)


def gather(strokes, image=None, axes="YX"):
    return AnnotationSet.gather(
        [example(np.zeros(strokes.shape) if image is None else image, strokes, axes)]
    )


def test_strokes_of_another_size_are_refused_with_both_sizes():
    with pytest.raises(StrokesError) as error:
        gather(np.ones((5, 6), np.uint8), np.zeros((5, 7)))
    assert "X 6" in str(error.value)
    assert "X 7" in str(error.value)


def test_strokes_have_no_channel_axis():
    image, strokes = np.zeros((3, 8, 8)), np.ones((8, 8), np.uint8)
    one = Example(ImageStack(image, "CYX"), ImageStack(strokes, "YX"))
    assert AnnotationSet.gather([one]).ids == (1,)


@pytest.mark.parametrize(
    ("strokes", "words"),
    [
        (np.ones((4, 4)), "whole numbers"),
        (np.full((4, 4), -1, np.int16), "-1"),
    ],
)
def test_strokes_that_are_no_ids_are_refused(strokes, words):
    with pytest.raises(StrokesError, match=words):
        gather(strokes)


def test_nothing_painted_and_no_image_are_refused():
    with pytest.raises(StrokesError, match="Nothing is painted"):
        gather(np.zeros((4, 4), np.uint8)).require_paint()
    with pytest.raises(StrokesError, match="no image"):
        AnnotationSet.gather([])


def test_the_digest_follows_the_paint():
    strokes = class_strokes()
    moved = np.roll(strokes, 1)
    assert gather(strokes).digest == gather(strokes.copy()).digest
    assert gather(strokes).digest != gather(moved).digest


def test_adjacent_planes_make_a_volume():
    strokes = np.zeros((6, 8, 8), np.uint8)
    strokes[1, 2], strokes[4, 2] = 1, 2
    assert not gather(strokes, axes="ZYX").looks_solid()
    strokes[5, 2] = 2
    assert gather(strokes, axes="ZYX").looks_solid()


def test_many_ids_are_objects():
    strokes = np.arange(100, dtype=np.uint16).reshape(10, 10)
    assert gather(strokes).guess_kind()[0] == "instances"


def test_three_long_lines_are_classes():
    strokes = np.zeros((60, 60), np.uint8)
    strokes[5:8, 5:55], strokes[20:23, 5:55], strokes[40:43, 5:55] = 1, 2, 3
    assert gather(strokes).guess_kind()[0] == "classes"


@pytest.mark.real
def test_real_strokes_are_told_apart():
    tifffile = pytest.importorskip("tifffile")
    folder = shared("data", "brush_labels", "scribbles")
    kinds = {
        path.stem: gather(tifffile.imread(path)).guess_kind()[0]
        for path in folder.glob("*.tif")
    }
    assert len(kinds) == 10
    classes = {name for name, kind in kinds.items() if kind == "classes"}
    assert classes == {"blobs", "maize_clsm"}


def test_only_painted_planes_of_the_image_are_read():
    strokes = np.zeros((50, 64, 64), np.uint8)
    strokes[7, 30:33, 30:33] = 1
    lazy = Counting(np.arange(50, dtype=np.float32)[:, None, None] + np.zeros((64, 64)))
    one = Example(ImageStack(lazy, "ZYX"), ImageStack(strokes, "ZYX"))
    annotations = AnnotationSet.gather([one])
    blocks = list(read_blocks(annotations, [Same()], None, (16, 16), (4, 4)))
    assert [dict(b.frame) for b in blocks] == [{"Z": 7}]
    assert len(lazy.read) == 1
    assert (blocks[0].image == 7).all()
    assert blocks[0].image.shape == (1, 64, 64)


def test_blocks_hold_every_stroke_once_and_lie_a_gap_apart():
    rng = np.random.default_rng(0)
    strokes = np.zeros((300, 200), np.int64)
    for n, (y, x) in enumerate(rng.integers(0, 195, (12, 2)), start=1):
        strokes[y : y + 4, x : x + 4] = n
    image = rng.normal(size=strokes.shape).astype(np.float32)
    annotations = gather(strokes, image)
    gap = (10, 10)
    blocks = list(read_blocks(annotations, [Same()], None, (16, 24), gap))
    rebuilt = np.zeros_like(strokes)
    places = []
    for block in blocks:
        box = tuple(
            slice(o, o + n)
            for o, n in zip(block.origin, block.strokes.shape, strict=True)
        )
        assert not (rebuilt[box] * block.strokes).any()
        rebuilt[box] += block.strokes
        np.testing.assert_array_equal(block.image[0], image[box])
        places.append(np.argwhere(block.strokes) + block.origin)
    np.testing.assert_array_equal(rebuilt, strokes)
    for n, one in enumerate(places):
        for other in places[n + 1 :]:
            apart = np.abs(one[:, None] - other[None]).max(-1)
            assert apart.min() >= gap[0]


def test_paint_on_nan_is_left_out_and_counted():
    strokes = class_strokes()
    image = np.zeros(strokes.shape, np.float32)
    image[23, 2:12] = np.nan
    (block,) = read_blocks(gather(strokes, image), [Same()], None, (16, 16), (4, 4))
    assert block.unusable == 10
    assert (block.strokes > 0).sum() == (strokes > 0).sum() - 10
