"""napari finds the manifest and the samples in a wheel and in an editable install."""

import json
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
from npe2 import PluginManifest

ROOT = Path(__file__).parents[1]
OFFLINE = ["--no-index", "--no-deps", "--no-build-isolation", "--quiet"]
ASK_NPE2 = """
import json
from importlib.resources import files
from npe2 import PluginManager, PluginManifest
import napari_unet
from napari_unet.samples import sample

manager = PluginManager()
manager.discover()
manifest = PluginManifest.from_distribution("unet-napari")
print(json.dumps({
    "known": "unet-napari" in manager,
    "text": (files("napari_unet_data") / "napari.yaml").read_text("utf-8"),
    "widgets": [widget.command for widget in manifest.contributions.widgets],
    "reader": [r.command for r in manager.iter_compatible_readers(["a/b.safetensors"])],
    "samples": [s.key for s in manifest.contributions.sample_data],
    "files": sorted(p.name for p in sample().iterdir()),
    "package": napari_unet.__file__,
}))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    _run(sys.executable, "-m", "build", "-nwo", folder, ROOT)
    return next(folder.glob("unet_napari-*.whl"))


@pytest.fixture(scope="module", params=["wheel", "editable"])
def answer(request, tmp_path_factory):
    """What npe2 says in a fresh environment that the package was installed into."""
    what = request.getfixturevalue("wheel") if request.param == "wheel" else f"-e{ROOT}"
    python = _environment(tmp_path_factory.mktemp(request.param))
    _run(python, "-m", "pip", "install", *OFFLINE, what)
    told = json.loads(_run(python, "-W", "ignore", "-c", ASK_NPE2))
    return told | {"editable": request.param == "editable"}


def test_napari_finds_the_manifest(answer):
    assert answer["known"]
    assert answer["widgets"] == ["unet-napari.open_dock"]
    assert answer["reader"] == ["unet-napari.read_checkpoint"]
    assert answer["samples"] == ["timelapse", "strokes", "truth"]


def test_the_manifest_is_the_one_at_the_top_level(answer):
    assert answer["text"] == (ROOT / "napari.yaml").read_text("utf-8")


def test_samples_come_along_without_their_scripts(answer):
    there = {p.name for p in (ROOT / "sample_data").iterdir()} - {"scripts"}
    assert set(answer["files"]) == there


def test_editable_runs_the_checkout_and_the_wheel_its_copy(answer):
    assert Path(answer["package"]).is_relative_to(ROOT) == answer["editable"]


def test_the_wheel_is_typed_and_holds_no_tests(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert "napari_unet/py.typed" in names
    assert {name.split("/")[0] for name in names} == {
        "napari_unet",
        "napari_unet_data",
        f"{wheel.name.rsplit('-', 3)[0]}.dist-info",
    }


def test_every_command_of_the_manifest_can_be_imported():
    manifest = PluginManifest.from_file(ROOT / "napari.yaml")
    manifest.validate_imports()
    ids = {command.id for command in manifest.contributions.commands}
    used = {
        item.command
        for items in manifest.contributions.menus.values()
        for item in items
    }
    assert used <= ids
    assert {"unet-napari.open_dock", "unet-napari.new_strokes"} <= used


def test_this_environment_has_the_manifest_of_the_checkout():
    """Fails after an edit of napari.yaml: run ``pip install -e .`` again."""
    data = pytest.importorskip("napari_unet_data", reason="not installed here")
    installed = Path(next(iter(data.__path__))) / "napari.yaml"
    assert installed.read_text("utf-8") == (ROOT / "napari.yaml").read_text("utf-8")


def _environment(folder: Path) -> Path:
    """A fresh environment that sees the packages of this one, but not our install."""
    venv.create(folder, with_pip=True)
    scripts = "Scripts" if sys.platform == "win32" else "bin"
    python = folder / scripts / "python"
    own = _run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))")
    borrowed = _borrow(folder / "borrowed")
    (Path(own.strip()) / "borrowed.pth").write_text(str(borrowed))
    return python


def _borrow(folder: Path) -> Path:
    """Links to the installed packages, all but our own."""
    folder.mkdir()
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        ours = path.name.startswith(("napari_unet", "unet_napari", "_unet_napari"))
        if not ours and not path.name.startswith("pip"):
            (folder / path.name).symlink_to(path)
    return folder


def _run(*command: object) -> str:
    """Run a command away from the checkout; show its output where it fails."""
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(sys.executable).parent,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
