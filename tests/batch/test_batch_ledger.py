import json

import pytest

from napari_unet.batch.ledger import LEDGER, Ledger, Record, latest
from napari_unet.errors import OutputError


def record(name="a.tif", **fields):
    usual = {
        "input": name,
        "size": 3,
        "mtime_ns": 5,
        "model": "m",
        "settings": "s",
        "version": "1",
        "output": "a.ome.tif",
        "outcome": "done",
    }
    return Record(**(usual | fields))


def test_last_record_of_each_image_counts(tmp_path):
    ledger = Ledger(tmp_path)
    ledger.append(record(size=1))
    ledger.append(record("b.tif"))
    ledger.append(record(size=2))
    again = Ledger(tmp_path)
    assert again["a.tif"].size == 2
    assert again["b.tif"] == record("b.tif")
    assert again["c.tif"] is None
    assert (tmp_path / LEDGER).read_bytes().count(b"\n") == 3


@pytest.mark.parametrize("keep", [1, 20, -2, -1])
def test_torn_last_line_is_ignored_and_closed(tmp_path, keep):
    Ledger(tmp_path).append(record("whole.tif"))
    Ledger(tmp_path).append(record("torn.tif"))
    path = tmp_path / LEDGER
    first, second, _ = path.read_bytes().split(b"\n")
    path.write_bytes(first + b"\n" + (second + b"\n")[:keep])
    ledger = Ledger(tmp_path)
    torn = (second + b"\n")[:keep] != second
    assert (ledger["torn.tif"] is None) is torn
    ledger.append(record("next.tif"))
    assert {"whole.tif", "next.tif"} <= set(latest(path))


def test_every_damaged_byte_is_noticed(tmp_path):
    Ledger(tmp_path).append(record())
    path = tmp_path / LEDGER
    line = path.read_bytes()
    for i in range(len(line) - 1):
        path.write_bytes(line[:i] + bytes([line[i] ^ 1]) + line[i + 1 :])
        # a flip may only show in the white space of the JSON, which says the same
        assert latest(path).get("a.tif", record()) == record()


def test_a_changed_value_breaks_the_checksum(tmp_path):
    Ledger(tmp_path).append(record(outcome="failed"))
    path = tmp_path / LEDGER
    path.write_text(path.read_text().replace('"failed"', '"done"'))
    assert latest(path) == {}


@pytest.mark.parametrize("name", ["../x.ome.tif", "/x", "a\\b", "..", "", "C:x"])
def test_output_names_that_leave_the_folder_are_not_believed(tmp_path, name):
    Ledger(tmp_path).append(record(output=name))
    assert latest(tmp_path / LEDGER) == {}


@pytest.mark.parametrize("line", [b"[]", b"null", b"{}", b"\xff", b'{"check": 1}'])
def test_foreign_lines_are_passed_over(tmp_path, line):
    (tmp_path / LEDGER).write_bytes(line + b"\n")
    assert latest(tmp_path / LEDGER) == {}


def test_names_that_are_no_text_survive(tmp_path):
    Ledger(tmp_path).append(record("\udc80 ü\n.tif"))
    assert "\udc80 ü\n.tif" in latest(tmp_path / LEDGER)


def test_later_versions_may_add_fields(tmp_path):
    from napari_unet.batch import ledger

    fields = {**record().model_dump(), "extra": 1}
    line = json.dumps({**fields, "check": ledger._checksum(fields)})
    (tmp_path / LEDGER).write_text(line + "\n")
    assert latest(tmp_path / LEDGER) == {"a.tif": record()}


def test_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        Ledger(tmp_path / "file" / "out")
