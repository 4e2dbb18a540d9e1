"""A checkpoint among many other files."""

import os
from collections import Counter

import pytest
import torch
from tiny_networks import unet

from napari_unet import checkpoints
from napari_unet.checkpoints import source

pytestmark = pytest.mark.usefixtures("in_process")


def test_folders_around_a_checkpoint_are_listed_once_each(tmp_path, monkeypatch):
    """As a home or a share with thousands of images takes its time."""
    for number in range(20):
        (tmp_path / f"run {number}" / "deep" / "deeper").mkdir(parents=True)
    path = tmp_path / "run 3" / "net.pt"
    torch.save(unet().module.state_dict(), path)
    listed, scandir = Counter(), os.scandir

    def counted(folder):
        listed[os.fspath(folder)] += 1
        return scandir(folder)

    monkeypatch.setattr(source.os, "scandir", counted)
    assert checkpoints.load(path).spec.out_channels == 2
    assert listed.pop(str(path.parent)) == 2  # by itself, and from above
    inside = {f: n for f, n in listed.items() if f.startswith(str(tmp_path))}
    assert set(inside.values()) == {1}
    assert len(inside) == 1 + 19 + 1  # from above, beside it, and what is inside


def test_names_of_a_folder_begin_with_its_own(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    for name in ("a/1", "a/2", "z.json"):
        (tmp_path / name).touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "around").symlink_to(tmp_path, target_is_directory=True)
    assert source.Folder(tmp_path).names() == ["a/1", "a/2", "z.json"]
    monkeypatch.setattr(source, "_MOST_NAMES", 1)
    assert source.Folder(tmp_path).names() == ["z.json"]
