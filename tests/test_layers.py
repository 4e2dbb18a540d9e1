"""The layout holds: imports run one way, and nothing heavy is imported too early."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DEEP_LEARNING = {"torch"}
CLUSTERS = {"dask", "distributed"}
WINDOWS = {"napari", "qtpy", "magicgui", "superqt", "vispy"}


def test_imports_run_one_way():
    # in a process of its own: it switches off the loggers that are there
    code = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_package_and_its_settings_are_light():
    loaded = _loaded_by("import napari_unet, napari_unet.config, napari_unet.events")
    assert not loaded & (DEEP_LEARNING | WINDOWS)


def test_the_command_line_needs_no_window_and_starts_without_torch():
    assert not _loaded_by("import napari_unet.cli") & (DEEP_LEARNING | WINDOWS)


def test_a_batch_without_workers_knows_no_dask():
    loaded = _loaded_by(
        "import napari_unet.batch.run, napari_unet.batch.crew, napari_unet.batch.remote"
        ", napari_unet.execution.cluster"
    )
    assert not loaded & CLUSTERS


def test_the_dock_is_imported_without_torch():
    loaded = _loaded_by("import napari_unet.gui.dock")
    assert "qtpy" in loaded
    assert not loaded & DEEP_LEARNING


@pytest.mark.parametrize("name", ["predict", "finetune", "run_batch", "evaluate"])
def test_public_functions_are_there_on_first_use(name):
    code = f"import napari_unet; assert callable(napari_unet.{name})"
    assert not _loaded_by(code) & WINDOWS


def _loaded_by(code: str) -> set[str]:
    """Top-level modules a fresh Python has loaded after running `code`."""
    show = "import sys; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{show}"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())
