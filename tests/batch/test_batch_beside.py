"""Labels, probabilities and table of one batch, from one pass of the network."""

from __future__ import annotations

import csv
import itertools

import numpy as np
import pytest
import tifffile
import torch

from napari_unet import api
from napari_unet.batch import report
from napari_unet.batch.inputs import gather
from napari_unet.batch.names import Names, files_of, fold
from napari_unet.batch.run import run_batch
from napari_unet.batch.unit import work
from napari_unet.cli import main
from napari_unet.config import BatchConfig
from napari_unet.errors import UsageError
from napari_unet.events import Warned, drain
from napari_unet.files import digest
from napari_unet.images.readers import open_image
from napari_unet.inference import ways
from napari_unet.networks.network import Network
from napari_unet.networks.spec import ModelSpec
from napari_unet.networks.unet import UNet, UNetSpec

LEVEL = 0.42
"""About half of the pixels of the image are above."""
BESIDE = "a.probabilities.ome.tif"


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    noise = np.random.default_rng(1).random((2, 40, 44)).astype(np.float32)
    facts = {"axes": "TYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.25}
    tifffile.imwrite(folder / "a.ome.tif", noise, metadata=facts)
    return folder


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    shape = UNetSpec(widths=(4, 8))
    spec = ModelSpec(
        ndim=2, in_channels=1, out_channels=2,
        architecture=shape.model_dump(mode="json"),
    )  # fmt: skip
    return Network(UNet(shape), spec, digest="d1")


@pytest.fixture
def batch(images, network):
    def batch(output, **settings):
        config = BatchConfig(device="cpu", threshold=LEVEL, **settings)
        found = gather([images], output)
        return list(run_batch(found, network, output, config, segment=work))

    return batch


def told(events) -> list[str]:
    return [event.message for event in events if isinstance(event, Warned)]


@pytest.mark.parametrize("kind", ["labels", "instances"])
@pytest.mark.parametrize("tiling", ["exact", "stream", "blend"])
def test_one_pass_writes_what_runs_of_their_own_write(
    batch, network, tmp_path, kind, tiling, monkeypatch
):
    passes = []
    computed = ways.computed
    monkeypatch.setattr(ways, "computed", lambda *a: passes.append(1) or computed(*a))
    how = {"tiling": tiling, "tile": (32,)}
    batch(tmp_path / "own", kind=kind, measure=True, **how)
    batch(tmp_path / "all", kind=kind, measure=True, probabilities=True, **how)
    assert len(passes) == 2  # of which the second wrote all three
    batch(tmp_path / "shares", kind="probabilities", **how)
    for name in ("a.ome.tif", "a.csv"):
        wanted = (tmp_path / "own" / name).read_bytes()
        assert (tmp_path / "all" / name).read_bytes() == wanted
    wanted = (tmp_path / "shares" / "a.ome.tif").read_bytes()
    assert (tmp_path / "all" / BESIDE).read_bytes() == wanted


@pytest.mark.parametrize("suffix", [".ome.tif", ".ome.zarr", ".imagej.tif"])
def test_every_format_has_them_with_sizes(batch, tmp_path, suffix):
    batch(tmp_path / "out", suffix=suffix, probabilities=True)
    with open_image(tmp_path / "out" / f"a.probabilities{suffix}") as stack:
        shares = stack.read({}, "TCYX")
        assert (stack.scale["Y"], stack.scale["X"]) == (0.25, 0.5)
    with open_image(tmp_path / "out" / f"a{suffix}") as stack:
        labels = stack.read({}, "TYX")
    np.testing.assert_array_equal(labels, shares[:, 1] >= np.float32(LEVEL))
    assert 0 < labels.mean() < 1


def test_what_is_missing_or_edited_is_done_again(batch, tmp_path):
    """Asked for later, removed, or edited: known of them as of the result."""
    out = tmp_path / "out"
    batch(out, measure=True)
    assert batch(out, measure=True)[-1].result.count("skipped") == 1
    asked = {"measure": True, "probabilities": True}
    assert batch(out, **asked)[-1].result.count("done") == 1
    whole = {path.name: digest(path) for path in out.glob("a*")}
    assert set(whole) == {"a.ome.tif", "a.csv", BESIDE}
    assert batch(out, **asked)[-1].result.count("skipped") == 1
    for name in (BESIDE, "a.csv"):
        (out / name).unlink()
        assert drain(api.iter_verify(out)).wrong == {name: "missing"}
        assert batch(out, **asked)[-1].result.count("done") == 1
    for name, kept in {
        BESIDE: "a.probabilities (edited).ome.tif", "a.csv": "a (edited).csv",
    }.items():  # fmt: skip
        (out / name).write_bytes(b"mine")
        assert set(drain(api.iter_verify(out)).wrong) == {name}
        assert (
            told(batch(out, **asked))
            == [f"a.ome.tif: {name} was edited; it is kept as {kept}."]
            or told(batch(out, **asked)) == []
        )
        assert (out / kept).read_bytes() == b"mine"
    assert {name: digest(out / name) for name in whole} == whole
    assert drain(api.iter_verify(out)).right == 3
    with (out / report.CSV).open() as file:
        (row,) = csv.DictReader(file)
    assert (row["table"], row["probabilities"]) == ("a.csv", BESIDE)
    with pytest.raises(UsageError, match="nothing to do"):  # all are results
        gather([out], tmp_path / "other")


def test_what_an_earlier_run_wrote_beside_is_told(batch, tmp_path):
    out = tmp_path / "out"
    batch(out, measure=True, probabilities=True)
    before = {name: digest(out / name) for name in ("a.csv", BESIDE)}
    notes = told(batch(out, kind="instances", probabilities=True))
    assert [note for note in notes if "earlier run" in note] == [
        "a.csv and others like it stay as an earlier run wrote them; they do not "
        "belong to the results of this one."
    ]
    assert {name: digest(out / name) for name in before} == before
    assert not any("earlier" in note for note in told(batch(out, kind="instances")))


@pytest.mark.parametrize(
    ("there", "kept"), [(BESIDE, BESIDE), ("a.csv", "a (edited).csv")]
)
def test_a_file_that_was_there_before_is_kept(batch, tmp_path, there, kept):
    out = tmp_path / "out"
    out.mkdir()
    (out / there).write_bytes(b"mine")
    batch(out, measure=True, probabilities=True)
    assert (out / kept).read_bytes() == b"mine"
    assert drain(api.iter_verify(out)).right == 3


def test_names_never_meet(tmp_path):
    """Whoever comes first, and whether or not a run before wrote probabilities."""
    images = (
        "a.tif", "a.probabilities.tif", "a.probabilities", "A.PROBABILITIES.png",
        "a.ome.probabilities.tif", "unet-report.tif", "a.probabilities.csv.tif",
    )  # fmt: skip
    config = BatchConfig(measure=True, probabilities=True)
    for order in itertools.islice(itertools.permutations(images), 0, None, 97):
        names = Names(tmp_path, {}, config.suffix)
        given = [
            fold(path.name)
            for image in order
            for path in files_of(tmp_path / names.name(f"in/{image}"), config).values()
        ]
        assert len({*given, *report.REPORTS}) == 3 * len(images) + len(report.REPORTS)


def test_from_the_command_line(images, network, tmp_path, capsys):
    from napari_unet import checkpoints

    model, out = tmp_path / "net.safetensors", tmp_path / "out"
    checkpoints.save(network, model)
    line = ["batch", str(images), "--model", str(model), "--output", str(out)]
    assert main([*line, "--device", "cpu", "--measure", "--probabilities"]) == 0
    assert {"a.ome.tif", "a.csv", BESIDE} <= {path.name for path in out.iterdir()}
    assert main([*line, "--kind", "probabilities", "--probabilities"]) == 2
    assert "the result itself is the probabilities" in capsys.readouterr().err
