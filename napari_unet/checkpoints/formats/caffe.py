"""HDF5 files of Caffe: ``*.caffemodel.h5`` and the U-Net plugin's ``*.modeldef.h5``.

The first holds weights, ``/data/<layer>/<n>``; the second the description of the
network as text and how images are prepared for it (Unet-Segmentation for Fiji,
lmb-freiburg). They are put together in `napari_unet.checkpoints.packages.caffe_unet`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import torch

from napari_unet.checkpoints.prototxt import parse
from napari_unet.checkpoints.source import damaged
from napari_unet.checkpoints.unwrap import Found, check, plain, to_float32

if TYPE_CHECKING:
    from napari_unet.checkpoints.hdf5 import Tree

_WEIGHT = re.compile(r"data/(?P<layer>.+)/(?P<place>\d{1,3})")
_PLACES = {"0": "weight", "1": "bias"}
_PROTOTXT = "model_prototxt"
_PARAM = "unet_param/"
_SETTINGS = (
    *("name", "description", "input_blob_name", "padding", "normalization_type"),
    *("element_size_um", "downsampleFactor", "padInput", "padOutput", "classNames"),
)


def is_it(tree: Tree) -> bool:
    """Whether a file is one of the two."""
    return _PROTOTXT in tree.datasets or any(map(_WEIGHT.fullmatch, tree.datasets))


def read_tree(tree: Tree, choice: str = "") -> Found:
    """Return weights such as ``conv_d0a-b.weight``, or ``hints["modeldef"]`` and none.

    Raises
    ------
    ModelError
        If a value is of another type than it must be, or the text cannot be read.
    """
    del choice  # there is one set
    found = _description(tree) if _PROTOTXT in tree.datasets else _weights(tree)
    check(found.tensors, tree.path.name)
    to_float32(found)
    return found


def _weights(tree: Tree) -> Found:
    found = Found({}, hints={"unordered": True, "caffe": True})
    for path in tree.datasets:
        match = _WEIGHT.fullmatch(path)
        if match:
            place = _PLACES.get(match["place"], match["place"])
            name = f"{match['layer']}.{place}"
            found.tensors[name] = torch.from_numpy(tree.array(path))
    return found


def _description(tree: Tree) -> Found:
    text = tree.text(_PROTOTXT)
    try:
        net = parse(text if isinstance(text, str) else "".join(text))
    except ValueError as error:
        raise damaged(tree.path, f"no readable network description: {error}") from error
    paths = {name: _PARAM + name for name in _SETTINGS}
    settings = {k: _value(tree, p) for k, p in paths.items() if p in tree.datasets}
    return Found({}, hints={"modeldef": {"net": net, **plain(settings)}})


def _value(tree: Tree, path: str) -> Any:
    """Return text or numbers, a single one in place of an array of one."""
    is_number = tree.datasets[path].dtype.kind in "iuf"
    value = tree.array(path).ravel().tolist() if is_number else tree.text(path)
    return value[0] if isinstance(value, list) and len(value) == 1 else value
