from __future__ import annotations

import json

import pytest
import torch
from tiny_networks import unet

from napari_unet import checkpoints
from napari_unet.checkpoints import cache, formats, weights
from napari_unet.cli import main
from napari_unet.errors import ModelError, UsageError


@pytest.fixture
def foreign(tmp_path):
    """A bare state dict of our own network, which leaves things open."""
    path = tmp_path / "net.pth"
    torch.save(unet(upsampling="linear").module.state_dict(), path)
    return path


def test_what_is_told_counts_and_is_remembered(foreign, in_process):
    facts = {"activation": "sigmoid", "architecture.slope": 0.1}
    network = checkpoints.tell(foreign, facts)
    assert network.spec.activation == "sigmoid"
    again = checkpoints.load(foreign)
    assert again.spec.architecture["slope"] == 0.1
    assert not {a.field for a in again.spec.assumed} & set(facts)
    image = torch.randn(1, 1, 16, 16)
    assert torch.equal(again(image), network(image))
    checkpoints.tell(foreign, {"normalization": "minmax"})
    spec = checkpoints.load(foreign).spec
    assert [n.kind for n in spec.normalization] == ["minmax"]
    assert spec.activation == "sigmoid"


@pytest.mark.parametrize(
    ("facts", "error"),
    [
        ({"architecture.strides": [[3, 3, 3]]}, ModelError),
        ({"architecture.colour": "red"}, ModelError),
        ({"activation": "loud"}, ModelError),
        ({"colour": "red"}, UsageError),
    ],
)
def test_what_cannot_be_is_taken_back(foreign, in_process, facts, error):
    checkpoints.tell(foreign, {"activation": "none"})
    with pytest.raises(error):
        checkpoints.tell(foreign, facts)
    assert checkpoints.load(foreign).spec.provenance["told"] == {"activation": "none"}


def test_a_native_checkpoint_says_everything_itself(tmp_path):
    checkpoints.save(unet(), tmp_path / "a.safetensors")
    with pytest.raises(UsageError, match="says everything itself"):
        checkpoints.tell(tmp_path / "a.safetensors", {"activation": "none"})
    assert not list(tmp_path.glob("*.json"))


def test_told_on_the_command_line(foreign, in_process, capsys):
    told = ["--set", "activation=sigmoid", "architecture.upsampling=nearest"]
    assert main(["inspect", str(foreign), *told, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["activation"] == "sigmoid"
    assert facts["told"]["architecture"] == {"upsampling": "nearest"}
    assert main(["inspect", str(foreign), "--set", "activation"]) == 2


def test_averaged_weights_are_a_choice(tmp_path, in_process):
    plain, averaged = (unet().module.state_dict() for _ in range(2))
    averaged = {k: v + 1 for k, v in averaged.items()}
    path = tmp_path / "both.pth"
    torch.save({"model_ema": averaged, "model": plain, "epoch": 3}, path)
    network = checkpoints.load(path)
    (fact,) = (a for a in network.spec.assumed if a.field == "weights")
    assert (fact.value, fact.alternatives) == ("model", ("model_ema",))
    assert torch.equal(network.module.state_dict()["head.bias"], plain["head.bias"])
    chosen = checkpoints.tell(path, {"weights": "model_ema"})
    assert torch.equal(chosen.module.state_dict()["head.bias"], averaged["head.bias"])
    with pytest.raises(ModelError):
        checkpoints.tell(path, {"weights": "teacher"})


def test_a_foreign_file_is_read_once(foreign, monkeypatch, tmp_path):
    reads = []

    def read(path, kind, choice=""):
        reads.append(path)
        return formats.read(path, kind, choice)

    monkeypatch.setattr(cache, "folder", lambda: tmp_path / "cache")
    monkeypatch.setattr(weights, "read_foreign", read)
    first, second = checkpoints.load(foreign), checkpoints.load(foreign)
    assert len(reads) == 1
    assert first.spec == second.spec
    before, after = first.module.state_dict(), second.module.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[k], after[k]) for k in before)
    (entry,) = (tmp_path / "cache").iterdir()
    entry.write_bytes(entry.read_bytes()[:100])  # a damaged entry is made anew
    checkpoints.load(foreign)
    assert len(reads) == 2
    foreign.write_bytes(foreign.read_bytes()[:-500])
    with pytest.raises(ModelError):
        checkpoints.load(foreign)


def test_the_cache_does_not_grow_without_end(foreign, monkeypatch, tmp_path):
    monkeypatch.setattr(cache, "folder", lambda: tmp_path / "cache")
    monkeypatch.setattr(weights, "read_foreign", formats.read)
    monkeypatch.setattr(cache, "_MOST_BYTES", 3000)
    for n in range(3):
        torch.save({"state_dict": unet().module.state_dict(), "n": n}, foreign)
        checkpoints.load(foreign)
    assert sum(p.stat().st_size for p in (tmp_path / "cache").iterdir()) <= 3000
