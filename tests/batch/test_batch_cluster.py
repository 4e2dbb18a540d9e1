"""Images done by workers of a Dask cluster: who may, what comes out, what may die."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import numpy as np
import psutil
import pytest
import tifffile

distributed = pytest.importorskip("distributed")

from faults import small_batch  # noqa: E402

from napari_unet import api, checkpoints  # noqa: E402
from napari_unet.batch import crew as crews  # noqa: E402
from napari_unet.batch import remote  # noqa: E402
from napari_unet.batch.admission import Admission  # noqa: E402
from napari_unet.batch.crew import Crew  # noqa: E402
from napari_unet.batch.divided import Notebook  # noqa: E402
from napari_unet.batch.inputs import gather  # noqa: E402
from napari_unet.batch.ledger import LEDGER, latest  # noqa: E402
from napari_unet.batch.locks import Locks  # noqa: E402
from napari_unet.batch.run import run_batch  # noqa: E402
from napari_unet.config import BatchConfig  # noqa: E402
from napari_unet.errors import UNetError, UsageError  # noqa: E402
from napari_unet.events import Cancelled, CancelToken, Finished, Progress, Warned  # noqa: E402
from napari_unet.execution import cluster as clusters  # noqa: E402
from napari_unet.images.sinks import OutputSpec, sink_for  # noqa: E402

pytestmark = pytest.mark.timeout(300)


class Kept:
    """The cluster of all tests here, which no crew closes."""

    def __init__(self, cluster):
        self.cluster, self.client, self.mend = cluster, cluster.client, cluster.mend

    def close(self):
        pass


@pytest.fixture(scope="module")
def cluster():
    made = clusters.LocalCluster(2)
    made.client.wait_for_workers(2, timeout=120)
    yield Kept(made)
    made.close()
    for process in made.processes:
        assert process.returncode is not None


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Five images, a model, and what one process makes of them."""
    folder = tmp_path_factory.mktemp("cluster")
    checkpoints.save(small_batch.network(), folder / "net.safetensors")
    small_batch.images(folder / "in", 5)
    api.run_batch(
        [folder / "in"], folder / "net.safetensors", folder / "alone",
        device="cpu", measure=True,
    )  # fmt: skip
    return folder


@pytest.fixture
def output(work, tmp_path):
    """A folder beside that of the one process: the tables name images from there."""
    return work / tmp_path.name


@pytest.fixture
def run(cluster, work, output, monkeypatch):
    monkeypatch.setattr(remote, "leave", stay)  # the workers keep the model for all

    def run(prepare=lambda crew: None, cancel=None, source=work / "in", **settings):
        model = work / "net.safetensors"
        config = BatchConfig(device="cpu", measure=True, **settings)
        crew = Crew(cluster, model, output, config, {})
        prepare(crew)
        try:
            yield from run_batch(
                gather([source], output), checkpoints.load(model), output, config,
                segment=crew, crew=crew, cancel=cancel,
            )  # fmt: skip
        finally:
            crew.close()

    return run


async def stay(folder):
    """Do not leave."""


@pytest.fixture(scope="module")
def stack(work):
    """A stack of planes as OME-Zarr, and what one process makes of it."""
    folder = work / "stack"
    sink = sink_for(folder / "stack.ome.zarr")
    pixels = np.random.default_rng(2).integers(0, 200, (9, 25, 31), np.uint8)
    sink.open(OutputSpec("TYX", pixels.shape, pixels.dtype, "image"))
    sink.write(tuple(slice(0, n) for n in pixels.shape), pixels)
    sink.close()
    api.run_batch(
        [folder / "stack.ome.zarr"], work / "net.safetensors", work / "stack alone",
        device="cpu", suffix=".ome.zarr", measure=True,
    )  # fmt: skip
    return folder / "stack.ome.zarr"


def test_workers_write_the_probabilities_too(run, work, output):
    list(run(probabilities=True))
    beside = sorted(output.glob("*.probabilities.ome.tif"))
    assert len(beside) == 5
    assert list(api.iter_verify(output))[-1].result.wrong == {}
    for path in beside:
        name = path.name.replace(".probabilities", "")
        assert (output / name).read_bytes() == (work / "alone" / name).read_bytes()


def cut_small(crew):
    crew.least = 1


def slabs_in(output):
    """Journals of divided stacks."""
    return list(output.glob(".unet-*.slabs/slabs.journal"))


def test_a_stack_is_divided_and_a_killed_worker_changes_no_byte(
    run, cluster, work, output, stack
):
    begun, workers = iter(range(100)), set()

    def before(address):
        workers.add(address)
        if next(begun) == 3:
            pid = cluster.client.run(os.getpid, workers=[address])[address]
            os.kill(pid, signal.SIGKILL)

    def prepare(crew):
        cut_small(crew)
        at_each_image(crew, before)

    events = list(run(prepare, source=stack, suffix=".ome.zarr"))
    assert isinstance(events[-1], Finished)
    assert [item.status for item in events[-1].result.items] == ["done"]
    said = [e.message for e in events if isinstance(e, Warned)]
    assert any("is computed again" in text for text in said), said
    assert len(workers) >= 2
    assert next(begun) == 1 + 9 + 1 + 1  # the beginning, slabs, the killed one, the end
    assert small_batch.tree(output) == small_batch.tree(work / "stack alone")
    (record,) = latest(output / LEDGER).values()
    assert record.deaths == 1


def test_a_divided_stack_goes_on_from_its_journal(run, work, output, stack):
    """The process with the ledger is gone in the middle; other workers may be there."""
    wish = {"source": stack, "suffix": ".ome.zarr"}
    batch = run(cut_small, **wish)
    for event in batch:
        if isinstance(event, Progress) and event.done > 0.4:
            break
    batch.close()
    (journal,) = slabs_in(output)
    with Notebook(journal.parent) as book:
        pass
    assert 2 <= len(book.done) < 9
    chunks = journal.parent / book.head["part"] / "0" / "c"
    written = {n: (chunks / f"{n}/0/0").stat().st_mtime_ns for n in book.done}
    events = list(run(cut_small, **wish))
    assert isinstance(events[-1], Finished)
    assert small_batch.tree(output) == small_batch.tree(work / "stack alone")
    chunks = output / "stack.ome.zarr" / "0" / "c"
    assert {n: (chunks / f"{n}/0/0").stat().st_mtime_ns for n in written} == written


def test_what_one_worker_has_to_do_alone_is_said(run, output, stack):
    events = list(
        run(
            cut_small,
            source=stack,
            suffix=".ome.zarr",
            tiling="blend",
            kind="instances",
        )
    )
    assert [item.status for item in events[-1].result.items] == ["done"]
    said = [e.message for e in events if isinstance(e, Warned)]
    assert any("One worker does all of it, since objects" in t for t in said), said
    assert not slabs_in(output)


def at_each_image(crew, before):
    """Have `before` called with the address of each worker that gets an image."""
    submit = crew._submit

    def submitting(work, *args, address, key=""):
        if key:
            before(address)
        return submit(work, *args, address=address, key=key)

    crew._submit = submitting


def test_killed_workers_cost_a_try_and_change_no_byte(run, cluster, work, output):
    """One is killed over an image, one with a result that nobody has fetched yet."""
    begun, ended = iter(range(100)), iter(range(100))

    def kill(address):
        pid = cluster.client.run(os.getpid, workers=[address])[address]
        os.kill(pid, signal.SIGKILL)

    def prepare(crew):
        at_each_image(crew, lambda address: next(begun) == 1 and kill(address))
        result = crew._result

        def resulting(future):
            if future.done() and next(ended) == 2:
                kill(next(iter(cluster.client.who_has([future])[future.key])))
            return result(future)

        crew._result = resulting

    events = list(run(prepare))
    assert isinstance(events[-1], Finished)
    assert [item.status for item in events[-1].result.items] == ["done"] * 5
    assert any("is gone" in e.message for e in events if isinstance(e, Warned))
    assert small_batch.tree(output) == small_batch.tree(work / "alone")
    ours, theirs = (latest(d / LEDGER) for d in (output, work / "alone"))
    assert sum(record.deaths for record in ours.values()) == 2
    assert [r.numerics for r in ours.values()] == [r.numerics for r in theirs.values()]
    again = list(run())[-1].result
    assert [item.status for item in again.items] == ["skipped"] * 5


def test_a_stop_reaches_the_worker(run, output, tmp_path, monkeypatch):
    monkeypatch.setattr(crews, "_STOP_AFTER", 1e6)  # nobody gives up on it before
    tifffile.imwrite(tmp_path / "slow.tif", np.arange(3000 * 3000).reshape(3000, 3000))
    token = CancelToken()

    def prepare(crew):
        at_each_image(crew, lambda _: token.set())

    slow = {"source": tmp_path / "slow.tif", "tiling": "exact", "tile": (16,)}
    assert isinstance(list(run(prepare, token, **slow))[-1], Cancelled)
    record = next(iter(latest(output / LEDGER).values()))
    assert (record.outcome, record.deaths, record.elsewhere) == ("stopped", 0, True)


def test_a_worker_stops_when_its_run_is_gone(tmp_path):
    """As if the process with the ledger had been killed, or the network cut."""
    (tmp_path / "out").mkdir()
    locks = Locks(tmp_path / "out")
    lock = locks.take("run")
    leave = remote._Leave(locks, lock.path)
    assert not leave.is_set()
    lock.path.unlink()
    leave._looked = 0.0
    assert leave.is_set()
    locks.close()


def test_nothing_listens_off_this_computer(cluster):
    processes = [os.getpid(), *(p.pid for p in cluster.cluster.processes)]
    listening = [
        (pid, sockets.laddr.ip)
        for pid in processes
        for sockets in psutil.Process(pid).net_connections("inet")
        if sockets.status == psutil.CONN_LISTEN
    ]
    assert {pid for pid, _ in listening} == set(processes)
    assert {ip for _, ip in listening} == {"127.0.0.1"}


def touch(address, security, path):
    """Have a scheduler execute something, as who may can."""
    with distributed.Client(
        address, security=security, timeout=2, set_as_default=False
    ) as client:
        client.run_on_scheduler(Path.touch, path)


def answer(address):
    """What is said to somebody who does not even speak TLS."""
    host, port = address.rpartition("/")[2].split(":")
    with socket.create_connection((host, int(port)), 5) as stranger:
        stranger.sendall(b"\0" * 64)
        try:
            return stranger.recv(4096)
        except ConnectionError:
            return b""


def test_a_stranger_executes_nothing(cluster, tmp_path):
    """Without a certificate, or with one of his own, he is not even answered."""
    own, path = cluster.cluster._security, tmp_path / "executed"
    scheduler = cluster.client.scheduler.address
    for address in (scheduler, *cluster.client.nthreads()):
        plain = address.replace("tls", "tcp")
        other = distributed.Security.temporary()
        for where, security in ((plain, None), (address, other)):
            with pytest.raises((OSError, TimeoutError)):
                touch(where, security, path)
        assert b"compression" not in answer(address)  # Dask's greeting
    assert not path.exists()
    touch(scheduler, own, path)
    assert path.exists()


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ("tcp://10.0.0.1:8786", "not encrypted"),
        ("tcp://example.org:8786", "not encrypted"),
        ("ws://127.0.0.1:8786", "not encrypted"),
        ("127.0.0.1:1", "cannot be joined"),
        ("tcp://127.0.0.1:1", "cannot be joined"),
    ],
)
def test_a_scheduler_that_is_not_there_or_not_safe(told, words, monkeypatch):
    monkeypatch.setattr(clusters, "_CONNECT", 0.5)
    with pytest.raises(UsageError, match=words):
        clusters.JoinedCluster(told)


def test_settings_that_make_no_sense(work, tmp_path):
    for settings in (
        {"workers": 2, "scheduler": "127.0.0.1:1"},
        {"certificates": "here"},
        {"dashboard": True},
        {"workers": 0},
    ):
        with pytest.raises(UsageError):
            BatchConfig.build(**settings)
    net = small_batch.network()
    with pytest.raises(UsageError, match="open the model themselves"):
        api.run_batch([work / "in"], net, tmp_path / "out", workers=1)


HERE = {"unet-napari": "1", "torch": "2"}
SLOW, FAST = {"threads": "1"}, {"threads": "4"}


def facts(mark="m", versions=HERE, run="run", numerics=SLOW):
    return {"mark": mark, "versions": versions, "run": run, "numerics": numerics}


def test_only_those_that_compute_alike_take_part():
    admission = Admission(HERE, "run", {})
    admission.hear("a", facts(numerics=FAST))
    assert list(admission.decide(more=True)) == []  # the others may be more
    admission.hear("b", facts("n"))
    admission.hear("c", facts("o"))
    admission.hear("d", facts(versions=HERE | {"torch": "3"}))
    admission.hear("e", facts(run=None))
    admission.hear("f", "No module named napari_unet")
    refused = dict(admission.decide(more=False))
    assert admission.marks == {"b": "n", "c": "o"}
    assert "threads 1 and 4" in refused["a"]
    assert "torch 2 and 3" in refused["d"]
    assert "does not see the folder" in refused["e"]
    assert "No module" in refused["f"]
    admission.refuse_empty()
    admission.forget("b")
    admission.forget("c")
    with pytest.raises(UsageError, match="No worker"):
        admission.refuse_empty()


def test_the_arithmetic_of_older_results_goes_before_that_of_most():
    admission = Admission(HERE, "run", FAST)
    for address, numerics in {"a": SLOW, "b": SLOW, "c": FAST}.items():
        admission.hear(address, facts(numerics=numerics))
    assert [address for address, _ in admission.decide(more=True)] == ["a", "b"]
    assert list(admission.marks) == ["c"]


def test_workers_that_compute_otherwise_are_refused_with_words(run, cluster):
    with pytest.raises(UNetError, match=r"No worker.*other versions"):
        list(run(lambda crew: crew._admission.versions.update(torch="1.0")))


def test_a_scheduler_is_joined_with_its_certificates(cluster, work, output, tmp_path):
    security = cluster.cluster._security
    for name, text in {
        "ca.pem": security.tls_ca_file,
        "cert.pem": security.tls_client_cert,
        "key.pem": security.tls_client_key,
    }.items():
        (tmp_path / name).write_text(text)
    told = tmp_path / "scheduler.json"
    told.write_text(f'{{"address": "{cluster.client.scheduler.address}"}}')
    summary = api.run_batch(
        [work / "in"], work / "net.safetensors", output, measure=True,
        device="cpu", scheduler=str(told), certificates=str(tmp_path),
    )  # fmt: skip
    assert summary.count("done") == 5
    assert small_batch.tree(output) == small_batch.tree(work / "alone")
    assert len(cluster.client.nthreads()) == 2  # it was left as it was
