from __future__ import annotations

import collections
import os
import pickle
import random
from pathlib import Path

import numpy as np
import pytest

from napari_unet.checkpoints.pickle_tree import read_pickle
from napari_unet.checkpoints.unwrap import plain
from napari_unet.errors import ModelError

NAME = Path("plans.pkl")
PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
TREE = collections.OrderedDict(
    number=np.float64(1.5),
    whole=np.int64(-3),
    yes=np.bool_(True),
    array=np.arange(6, dtype=np.int32).reshape(2, 3),
    turned=np.asfortranarray(np.arange(6).reshape(2, 3)),
    swapped=np.array([1.5, np.nan], ">f4"),
    single=np.array(3.0),
    objects=np.array([None, "a"], object),
    nothing=np.zeros((0, 3)),
    stages={0: {"patch": (1, 2.5, None, False)}, 1: {"patch": []}},
    names={"a"},
    folder=Path("data"),
    lists=collections.defaultdict(list, {1: [2]}),
    long=10**30,
)
WANTED = {
    "number": 1.5,
    "whole": -3,
    "yes": True,
    "array": [[0, 1, 2], [3, 4, 5]],
    "turned": [[0, 1, 2], [3, 4, 5]],
    "swapped": [1.5, None],
    "single": [3.0],
    "objects": [None, "a"],
    "nothing": [],
    "stages": {"0": {"patch": [1, 2.5, None, False]}, "1": {"patch": []}},
    "names": ["a"],
    "folder": ["data"],
    "lists": {"1": [2]},
    "long": 10**30,
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_values_of_every_protocol(protocol):
    assert plain(read_pickle(pickle.dumps(TREE, protocol), NAME)) == WANTED


def test_numbers_of_older_numpy():
    data = pickle.dumps(TREE, 2)
    assert b"numpy._core" in data
    older = data.replace(b"numpy._core", b"numpy.core")
    assert plain(read_pickle(older, NAME)) == WANTED


def test_one_array_in_two_places_is_read_once():
    array = np.arange(3)
    tree = read_pickle(pickle.dumps([array, array]), NAME)
    assert tree == [[0, 1, 2], [0, 1, 2]]
    assert tree[0] is tree[1]


class Foreign:
    def __init__(self):
        self.patch = [1, 2]


def test_a_foreign_object_is_its_state():
    assert plain(read_pickle(pickle.dumps(Foreign()), NAME)) == {"patch": [1, 2]}


class Attack:
    def __init__(self, call, *args):
        self.call = call, args

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "call", [(os.system, "touch MARK"), (eval, "1"), (getattr, 1, "real")], ids=str
)
def test_calls_are_refused_and_not_made(no_mark, protocol, call):
    data = pickle.dumps({"plans": Attack(*call)}, protocol)
    with pytest.raises(ModelError, match="would run code"):
        read_pickle(data, NAME)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80\x02.",
        b"\x80\x02]",
        b"\x80\x02]q\x00h\x07.",
        b"\x80\x02}(K\x01u.",
        b"\x80\x02}]K\x01s.",
        b"\x80\x02N)R.",
        b"\x80\x02K\x01K\x02a.",
        b"\x80\x02\x82\x01.",
        b"\x80\x03Q.",
        b"cnumpy.core.multiarray\nscalar\n(NNtR.",
        b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f]",
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f]",
    ],
)
def test_damaged_pickles(data):
    with pytest.raises(ModelError, match="is damaged"):
        read_pickle(data, NAME)


def test_endless_copies_are_refused():
    text = "x" * 100_000
    copies = b"".join(b"c_codecs\nencode\nh\x00h\x01\x86R0" for _ in range(1000))
    data = b"\x80\x02" + pickle.dumps(text, 2)[2:-1] + b"X\x06\x00\x00\x00latin1q\x01"
    with pytest.raises(ModelError, match="more copies"):
        read_pickle(data + copies + b".", NAME)


def test_a_thousand_mutants_end_in_one_kind_of_error():
    data, dice, refused = pickle.dumps(TREE, 4), random.Random(0), 0
    for _ in range(1000):
        mutant = bytearray(data)
        for _ in range(dice.randint(1, 8)):
            mutant[dice.randrange(len(mutant))] = dice.randrange(256)
        try:
            plain(read_pickle(bytes(mutant[: dice.randrange(len(mutant))]), NAME))
            plain(read_pickle(bytes(mutant), NAME))
        except ModelError:
            refused += 1
    assert refused > 500
