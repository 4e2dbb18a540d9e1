"""Reports, states and verdicts about a folder of results."""

from __future__ import annotations

import csv
import io
import json
import random

import pytest

from napari_unet.batch import report
from napari_unet.batch.check import state, verify
from napari_unet.batch.inputs import gather
from napari_unet.batch.ledger import LEDGER
from napari_unet.batch.run import plan_batch, run_batch
from napari_unet.config import BatchConfig
from napari_unet.errors import UsageError
from napari_unet.events import Cancelled, CancelToken, drain


@pytest.fixture
def run(folder, tmp_path, network, segment):
    def run(**settings):
        inputs, out = gather([folder], tmp_path / "out"), tmp_path / "out"
        config = BatchConfig.build(**settings)
        return drain(run_batch(inputs, network, out, config, segment=segment))

    return run


def test_forty_bad_of_two_hundred(run, folder, tmp_path):
    bad = set(range(3, 200, 5))
    for number in range(200):
        text = "bad" if number in bad else f"image {number}"
        (folder / f"{number:03}.tif").write_text(text)
    summary = run()
    assert (summary.count("done"), summary.count("failed")) == (160, 40)
    for item in summary.items:
        number = int(item.input[-7:-4])
        assert (item.status == "failed") is (number in bad)
        assert (item.reason == "it is bad.") is (number in bad)
    out = tmp_path / "out"
    for number in set(range(200)) - bad:
        assert (out / f"{number:03}.ome.tif").read_text() == f"IMAGE {number}"
    text = (out / report.CSV).read_text()
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert len(rows) == 200
    assert {r["input"][-7:-4] for r in rows if r["outcome"] == "failed"} == {
        f"{number:03}" for number in bad
    }
    facts = json.loads((out / report.JSON).read_text())
    assert facts["counts"] == {"done": 160, "failed": 40}
    assert len(facts["images"]) == 200
    found = state(out)
    assert found.counts == facts["counts"]
    assert len(found.failures) == 40
    assert str(found).startswith("160 done, 40 failed; ")


def test_a_dry_run_writes_nothing_and_tells_what_the_run_does(
    run, folder, tmp_path, network
):
    for name in ("a", "bad", "c"):
        (folder / f"{name}.tif").write_text(name)

    def planned():
        inputs = gather([folder], tmp_path / "out")
        summary = plan_batch(inputs, network, tmp_path / "out", BatchConfig())
        return [item.status for item in summary.items], summary.listing()

    statuses, text = planned()
    assert statuses == ["to do"] * 3
    assert "a.tif -> " in text
    assert not (tmp_path / "out").exists()
    run()
    (folder / "c.tif").write_text("new c")
    assert planned()[0] == ["skipped", "failed", "to do"]


def test_every_flipped_bit_is_found(run, folder, tmp_path):
    for name in "abcd":
        (folder / f"{name}.tif").write_text(f"image {name}" * 5)
    run()
    out = tmp_path / "out"
    assert drain(verify(out, None)).wrong == {}
    targets = [out / LEDGER, *sorted(out.glob("*.ome.tif"))]
    flips = random.Random(5)
    for _ in range(1000):
        path = flips.choice(targets)
        before = path.read_bytes()
        place = flips.randrange(len(before) * 8)
        damaged = bytearray(before)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        verdict = drain(verify(out, None))
        # a line that is no record any more takes its result out of sight too
        assert path.name in verdict.wrong, (path.name, place)
        path.write_bytes(before)
    assert drain(verify(out, None)).wrong == {}


def test_flipped_bits_of_a_model_are_found(run, folder, network, tmp_path):
    from faults import small_batch

    from napari_unet import checkpoints

    (folder / "a.tif").write_text("image")
    path = tmp_path / "net.safetensors"
    network.digest = checkpoints.save(small_batch.network(), path)
    run()
    assert drain(verify(tmp_path / "out", path)).wrong == {}
    whole, flips = path.read_bytes(), random.Random(5)
    for _ in range(200):
        place = flips.randrange(len(whole) * 8)
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        assert path.name in drain(verify(tmp_path / "out", path)).wrong


def test_missing_and_edited_results_are_named(run, folder, tmp_path):
    for name in "abc":
        (folder / f"{name}.tif").write_text(name)
    run()
    out = tmp_path / "out"
    (out / "a.ome.tif").unlink()
    (out / "b.ome.tif").write_text("edited")
    verdict = drain(verify(out, None))
    assert verdict.right == 1
    assert verdict.wrong == {
        "a.ome.tif": "missing",
        "b.ome.tif": "other bytes than were written",
    }
    assert "1 files as they were written, 2 not" in str(verdict)
    token = CancelToken()
    token.set()
    assert isinstance(list(verify(out, None, token))[-1], Cancelled)


def test_a_folder_without_results(tmp_path):
    with pytest.raises(UsageError, match="holds no results"):
        state(tmp_path)


def test_no_text_becomes_a_formula():
    rows = [["=cmd|'/C calc'!A0", "-a.tif", "@x", "-1.5", 'a,"b\nc']]
    text = report.table(rows).decode()
    (read,) = csv.reader(io.StringIO(text, newline=""))
    assert read == ["'=cmd|'/C calc'!A0", "'-a.tif", "'@x", "-1.5", 'a,"b\nc']


def test_results_of_other_arithmetic_are_mentioned_once(run, folder, segment):
    from napari_unet.events import Finished, Warned

    threads = iter("1122")

    def one(source, target, network, config, cancel=None):
        target.write_text("x")
        yield Finished({"threads": next(threads)})

    said = []
    for name in "abcd":
        (folder / f"{name}.tif").write_text(name)
    inputs = gather([folder], folder.parent / "out")
    from napari_unet.networks.network import Network

    events = run_batch(
        inputs, _network(Network), folder.parent / "out", BatchConfig(), segment=one
    )
    said = [e.message for e in events if isinstance(e, Warned)]
    assert len(said) == 1
    assert "threads 1 and 2" in said[0]


def _network(kind):
    import torch

    from napari_unet.networks.spec import ModelSpec

    return kind(torch.nn.Identity(), ModelSpec(ndim=2, in_channels=1, out_channels=2))
