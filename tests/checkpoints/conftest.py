from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from napari_unet.checkpoints import formats, weights

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read foreign files without the child, which takes seconds to start."""

    monkeypatch.setattr(weights, "read_foreign", formats.read)


@pytest.fixture
def no_mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Work in an empty folder where MARK must not appear."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert not (tmp_path / "MARK").exists()
