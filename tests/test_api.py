import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

import napari_unet
from napari_unet import api, checkpoints, warm
from napari_unet.config import PredictConfig
from napari_unet.errors import ImageError, UsageError
from napari_unet.events import Cancelled, CancelToken, Finished, drain
from napari_unet.images import intensity
from napari_unet.images.intensity import Normalization
from napari_unet.networks.network import Network
from napari_unet.networks.spec import ModelSpec
from napari_unet.networks.unet import UNet, UNetSpec


def make_model(path: Path, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    shape = UNetSpec(widths=(4, 8), norm="none")
    spec = ModelSpec(
        ndim=2,
        in_channels=1,
        out_channels=2,
        architecture=shape.model_dump(mode="json"),
        normalization=(Normalization(kind="zscore"),),
    )
    checkpoints.save(Network(UNet(shape), spec), path, overwrite=True)
    return path


@pytest.fixture(scope="session")
def shipped(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("model") / "net.safetensors")


@pytest.fixture
def model(shipped, tmp_path):
    path = tmp_path / "net.safetensors"
    path.write_bytes(shipped.read_bytes())
    return path


@pytest.fixture
def plane():
    return np.random.default_rng(0).normal(100, 20, (24, 32)).astype(np.float32)


@pytest.fixture
def image(plane, tmp_path):
    np.save(tmp_path / "image.npy", plane)
    return tmp_path / "image.npy"


def reference(model, plane):
    """Logits of the whole plane, with nothing of ours but the layers."""
    module = checkpoints.load(model).module
    scaled = (plane - plane.mean(dtype=float)) / (plane.std(dtype=float) + 1e-6)
    with torch.inference_mode():
        return module(torch.from_numpy(scaled.astype(np.float32))[None, None])[
            0
        ].numpy()


def test_predict_gives_what_the_layers_give(model, image, plane):
    logits = napari_unet.predict(image, model, kind="logits")
    np.testing.assert_allclose(logits, reference(model, plane), atol=1e-5)
    labels = napari_unet.predict(plane, model)
    np.testing.assert_array_equal(labels, reference(model, plane).argmax(0))


def test_predict_fills_an_array_or_a_file(model, image, plane, tmp_path):
    mine = np.zeros(plane.shape, np.uint8)
    assert napari_unet.predict(image, model, mine) is mine
    assert mine.any()
    path = napari_unet.predict(image, model, tmp_path / "out.ome.tif")
    np.testing.assert_array_equal(tifffile.imread(path), mine)


@pytest.mark.parametrize("name", ["image.npy", "net.safetensors", "there.npy"])
def test_predict_overwrites_nothing(model, image, tmp_path, name):
    (tmp_path / "there.npy").touch()
    before = (tmp_path / name).read_bytes()
    with pytest.raises(UsageError):
        napari_unet.predict(image, model, tmp_path / name)
    assert (tmp_path / name).read_bytes() == before


def test_predict_overwrites_on_purpose_but_never_its_sources(
    model, image, tmp_path, monkeypatch
):
    (tmp_path / "there.npy").touch()
    napari_unet.predict(image, model, tmp_path / "there.npy", overwrite=True)
    assert np.load(tmp_path / "there.npy").shape == (24, 32)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="replace the image"):
        napari_unet.predict(image, model, "image.npy", overwrite=True)
    os.link(image, tmp_path / "twin.npy")
    with pytest.raises(UsageError, match="replace the image"):
        napari_unet.predict(image, model, "twin.npy", overwrite=True)


def test_unknown_settings_are_told(model, image):
    with pytest.raises(UsageError, match="colour"):
        napari_unet.predict(image, model, colour="red")


def test_the_last_model_stays_loaded_until_its_file_changes(model):
    first = warm.network(model)
    assert warm.network(str(model)) is first
    make_model(model, seed=1)
    second = warm.network(model)
    assert second is not first
    assert second.digest != first.digest
    assert api.load_model(model) is not second
    assert warm.network(first) is first


def test_a_region_has_the_values_of_the_whole(model, image, monkeypatch):
    measured = []
    original = intensity.measure

    def counting(*args, **kwargs):
        measured.append(args)
        return original(*args, **kwargs)

    monkeypatch.setattr(intensity, "measure", counting)
    monkeypatch.setattr(warm, "_last_scaling", None)
    whole = napari_unet.predict(image, model, kind="logits")
    measured.clear()
    config = PredictConfig(kind="logits")
    for start in (0, 8):
        region = {"Y": slice(start, start + 16), "X": slice(4, 20)}
        part = drain(api.iter_predict(image, model, None, config, region=region))
        expected = whole[:, start : start + 16, 4:20]
        np.testing.assert_allclose(part, expected, atol=1e-5)
    assert len(measured) == 0
    np.save(image, np.load(image) * 2 + 1)
    os.utime(image, ns=(1, 1))
    drain(api.iter_predict(image, model, None, config, region=region))
    napari_unet.predict(image, model, kind="logits")
    assert len(measured) == 1


def test_finetune_takes_the_axes_of_the_image_for_plain_strokes(model, tmp_path):
    rng = np.random.default_rng(0)
    stack = rng.integers(0, 50, (3, 48, 48)).astype(np.uint8)
    stack[:, 10:24, 10:24] += 150
    strokes = np.zeros(stack.shape, np.uint8)
    strokes[0, 12:20, 14:18] = 2
    strokes[0, 30:40, 30:33] = 1
    tifffile.imwrite(tmp_path / "i.ome.tif", stack, metadata={"axes": "TYX"})
    np.save(tmp_path / "s.npy", strokes)
    made = napari_unet.finetune(
        [tmp_path / "i.ome.tif"],
        [tmp_path / "s.npy"],
        tmp_path / "new.safetensors",
        model,
        max_seconds=1,
    )
    assert Path(made.path).exists()
    assert made.parent_digest == api.load_model(model).digest
    assert napari_unet.load_model(made.path).digest == made.digest


def test_finetune_overwrites_nothing(model, image, tmp_path):
    with pytest.raises(UsageError, match="there already"):
        napari_unet.finetune([image], [image], model)
    with pytest.raises(UsageError, match="needs its strokes"):
        napari_unet.finetune([image], [], tmp_path / "new.safetensors")


def test_batch_of_two(model, image, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.npy").write_bytes(image.read_bytes())
    (folder / "b.npy").write_text("no image")
    summary = napari_unet.run_batch(
        [folder], model, tmp_path / "out", suffix=".ome.tif"
    )
    assert [item.status for item in summary.items] == ["done", "failed"]
    labels = tifffile.imread(tmp_path / "out" / "a.ome.tif")
    np.testing.assert_array_equal(labels, napari_unet.predict(image, model))


def test_batch_is_planned_measured_and_verified(model, image, tmp_path):
    from napari_unet.config import BatchConfig

    out, config = tmp_path / "out", BatchConfig(measure=True)
    planned = drain(api.iter_batch_plan([image], model, out, config))
    assert [item.status for item in planned.items] == ["to do"]
    assert not out.exists()
    loaded = napari_unet.load_model(model)  # one in memory is run in this process
    summary = drain(api.iter_batch([image], loaded, out, config))
    assert [item.output for item in summary.items] == [planned.items[0].output]
    table = (out / "unet-measurements.csv").read_text().splitlines()
    labels = napari_unet.predict(image, model)
    assert len(table) == 1 + len(np.unique(labels[labels > 0]))
    assert drain(api.iter_verify(out, model)).wrong == {}
    again = drain(api.iter_batch([image], model, out, config))
    assert [item.status for item in again.items] == ["skipped"]
    assert api.batch_state(out).counts == {"done": 1}


def test_batch_checks_the_inputs_before_the_model(tmp_path):
    with pytest.raises(UsageError, match="does not exist"):
        napari_unet.run_batch([tmp_path / "gone"], tmp_path / "no", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_cancelled_before_the_first_tile(model, image, tmp_path):
    token = CancelToken()
    token.set()
    config = PredictConfig()
    path = tmp_path / "out.npy"
    *_, last = api.iter_predict(image, model, path, config, cancel=token)
    assert isinstance(last, Cancelled)
    assert not path.exists()


def test_evaluate_takes_the_axes_of_the_other(tmp_path):
    labels = np.zeros((2, 8, 8), np.uint8)
    labels[:, :4] = 1
    other = labels.copy()
    other[:, 3] = 0
    tifffile.imwrite(tmp_path / "p.ome.tif", labels, metadata={"axes": "ZYX"})
    np.save(tmp_path / "t.npy", other)
    pair = tmp_path / "p.ome.tif", tmp_path / "t.npy"
    for prediction, truth in (pair, pair[::-1]):
        scores = napari_unet.evaluate(prediction, truth)
        assert scores["dice"] == pytest.approx(2 * 48 / (64 + 48))
    assert napari_unet.evaluate(other, labels)["dice"] == scores["dice"]
    with pytest.raises(ImageError, match="axes"):
        napari_unet.evaluate(tmp_path / "t.npy", tmp_path / "t.npy")


def test_inspect_ends_with_plain_facts(model):
    *_, last = api.iter_inspect(model)
    assert isinstance(last, Finished)
    assert last.result["ndim"] == 2
    assert last.result["device"].split(",")[0] in ("CPU", "CUDA", "Apple GPU")
