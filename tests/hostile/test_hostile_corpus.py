"""Nothing in a file runs, is read elsewhere, written, or grows without measure."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hostile import files
from hostile.attacks import CORPUS, Attack
from napari_unet import checkpoints
from napari_unet.checkpoints import formats, weights
from napari_unet.errors import ModelError

TESTS = Path(__file__).parents[1]


def can_build(attack: Attack) -> bool:
    return attack.build is not files.pt2_library or files.HAS_COMPILER


@pytest.fixture(scope="module")
def fired(tmp_path_factory) -> dict[str, bool]:
    """What careless programs did, in a process of their own."""
    done = subprocess.run(
        [sys.executable, "-m", "hostile.controls", tmp_path_factory.mktemp("c")],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.fspath(TESTS)},
    )
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("attack", [a for a in CORPUS if a.careless], ids=str)
def test_control_the_attack_is_real(fired, attack):
    if not can_build(attack):
        pytest.skip("no C compiler")
    assert fired[str(attack)]


@pytest.fixture
def scene(tmp_path, monkeypatch):
    """An empty working folder with the file that must not be read."""
    monkeypatch.chdir(tmp_path)
    files.beside(tmp_path / "x")
    return tmp_path


def names(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("attack", CORPUS, ids=str)
@pytest.mark.parametrize("forced", [False, True])
def test_the_attack_is_refused(scene, monkeypatch, attack, forced):
    if not can_build(attack):
        pytest.skip("no C compiler")
    if forced:
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    monkeypatch.setattr(weights, "read_foreign", formats.read)
    attack.build(scene / attack.name)
    before, modules = names(scene), set(sys.modules)
    if attack.words:
        with pytest.raises(ModelError) as error:
            checkpoints.load(scene / attack.name)
        text = str(error.value)
        assert re.search(attack.words, text), text
        assert "do not read this" not in text
    else:
        checkpoints.load(scene / attack.name)
    assert names(scene) == before
    assert not {"evilnet", "evil", "architecture"} & (set(sys.modules) - modules)


REAL_CHILD = (
    *("odd_beside", "endless_stride", "torchscript", "hdf5_external"),
    *("keras_lambda", "keras_external"),
)


@pytest.mark.parametrize(
    "attack", [a for a in CORPUS if a.build.__name__ in REAL_CHILD], ids=str
)
def test_the_attack_is_refused_by_the_child(scene, attack):
    attack.build(scene / attack.name)
    before = names(scene)
    with pytest.raises(ModelError, match=attack.words):
        checkpoints.load(scene / attack.name)
    assert names(scene) == before
