"""The sample images are what their README says, and what their scripts make."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy import ndimage as ndi

from napari_unet.samples import sample

SCRIPTS = Path(__file__).parents[1] / "sample_data" / "scripts"
STROKED = [0, 5, 8]


@pytest.fixture(scope="module")
def timelapse():
    """Image, truth and strokes of the time-lapse."""
    names = "timelapse.ome.tif", "timelapse_truth.ome.tif", "timelapse_strokes.ome.tif"
    return [tifffile.imread(sample(name)) for name in names]


@pytest.fixture
def make_images(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import make_images

    yield make_images
    for name in ("make_images", "simulate"):
        sys.modules.pop(name, None)


def test_the_timelapse_is_a_stack_with_truth_and_strokes(timelapse):
    image, truth, strokes = timelapse
    assert image.shape == truth.shape == strokes.shape == (12, 256, 256)
    assert (image.dtype, truth.dtype, strokes.dtype) == (np.uint16, np.uint16, np.uint8)


def test_the_file_tells_axes_and_physical_sizes():
    with tifffile.TiffFile(sample("timelapse.ome.tif")) as file:
        assert file.series[0].axes == "TYX"
        for fact in ('PhysicalSizeX="0.5"', 'PhysicalSizeXUnit="µm"'):
            assert fact in file.ome_metadata
        assert 'TimeIncrement="5.0"' in file.ome_metadata
    with tifffile.TiffFile(sample("batch/stack_3_planes.tif")) as file:
        assert file.series[0].axes == "ZYX"
        assert 'PhysicalSizeZ="2.0"' in file.ome_metadata


def test_nuclei_vary_touch_and_keep_their_ids(timelapse):
    _, truth, _ = timelapse
    areas = np.bincount(truth[0].ravel())[1:]
    assert areas.max() > 3 * areas[areas > 0].min()
    assert len(np.unique(truth[0])) > ndi.label(truth[0] > 0)[1] + 5
    assert all(set(np.unique(frame)) <= set(range(39)) for frame in truth)
    still = (truth[0] == truth[-1])[truth[0] > 0].mean()
    assert 0.5 < still < 0.95


def test_strokes_are_few_and_right(timelapse):
    _, truth, strokes = timelapse
    assert np.unique(np.nonzero(strokes)[0]).tolist() == STROKED
    assert set(np.unique(strokes)) == {0, 1, 2}
    assert (truth[strokes == 2] > 0).all()
    assert (truth[strokes == 1] == 0).all()
    assert (strokes[STROKED] > 0).mean() < 0.06


def test_strokes_are_as_wide_as_a_brush(timelapse):
    inner = ndi.distance_transform_edt(timelapse[2][0] == 1)
    assert 2 <= np.percentile(inner[inner > 0], 99) <= 6


def test_the_batch_has_truth_and_an_odd_size():
    files = sorted(path.name for path in sample("batch").iterdir())
    shapes = {name: tifffile.imread(sample(f"batch/{name}")).shape for name in files}
    assert len(files) == 5
    assert {(199, 173), (3, 160, 160)} <= set(shapes.values())
    for name, shape in shapes.items():
        truth = tifffile.imread(sample(f"batch_truth/{name}"))
        assert truth.shape == shape
        assert truth.max() > 8


def test_everything_is_small():
    total = sum(p.stat().st_size for p in sample().rglob("*") if p.is_file())
    assert total < 6_000_000


def test_the_script_makes_these_images(make_images, timelapse):
    """Up to rounding: sine and cosine differ in their last digit between machines."""
    scene = make_images.replace(make_images.TISSUE, planes=1)
    image, truth = make_images.simulate(scene, 11)
    wanted, true = timelapse[0][0], timelapse[1][0]
    assert np.mean(truth[0] != true) < 1e-3
    apart = ndi.gaussian_filter(image[0].astype(float) - wanted, 3.0)
    assert np.abs(apart).mean() < 3.0


def test_the_stroke_script_paints_only_what_is_true(make_images, timelapse):
    image, truth, _ = timelapse
    strokes = make_images.draw_strokes(image, truth, np.random.default_rng(99))
    assert (truth[strokes == 2] > 0).all()
    assert (truth[strokes == 1] == 0).all()
    assert 0 < (strokes == 2).sum() < (strokes > 0).sum()


def test_the_readme_names_every_file():
    text = sample("README.md").read_text("utf-8")
    for path in sample().iterdir():
        if path.name not in ("README.md", "scripts"):
            assert f"`{path.name}{'/' if path.is_dir() else ''}`" in text


def test_an_unknown_sample_is_told():
    with pytest.raises(FileNotFoundError, match="no sample named nothing"):
        sample("nothing.tif")


def test_the_checkpoint_scores_as_its_card_says(timelapse):
    """A whole-frame forward pass in plain torch, normalised by hand."""
    torch = pytest.importorskip("torch")
    from safetensors import safe_open

    from napari_unet.networks.unet import UNet, UNetSpec

    with safe_open(sample("nuclei.safetensors"), framework="pt") as file:
        spec = json.loads(file.metadata()["unet"])
        state = {name: file.get_tensor(name) for name in file.keys()}
    module = UNet(UNetSpec(**spec["architecture"])).eval()
    module.load_state_dict(state)
    image, truth, _ = timelapse
    low, high = np.percentile(image, [1.0, 99.8])
    scaled = torch.from_numpy(((image[3:5] - low) / (high - low)).astype(np.float32))
    with torch.inference_mode():
        found = module(scaled[:, None]).softmax(1)[:, 1:].sum(1).numpy() >= 0.5
    both = 2 * (found & (truth[3:5] > 0)).sum()
    dice = both / (found.sum() + (truth[3:5] > 0).sum())
    assert dice == pytest.approx(_card()["Sample time-lapse"], abs=0.03)


@pytest.mark.parametrize(
    ("command", "names"),
    [
        ("sample_timelapse", ["nuclei"]),
        ("sample_strokes", ["nuclei", "nuclei · strokes"]),
        ("sample_truth", ["nuclei", "nuclei · truth"]),
    ],
)
def test_samples_are_napari_layers_with_physical_size(command, names):
    napari = pytest.importorskip("napari")
    from napari_unet.gui import contributions

    data = getattr(contributions, command)()
    layers = [napari.layers.Layer.create(*layer) for layer in data]
    assert [layer.name for layer in layers] == names
    for layer in layers:
        assert layer.data.shape == (12, 256, 256)
        assert tuple(layer.scale) == (5.0, 0.5, 0.5)
        assert [str(unit) for unit in layer.units] == ["minute", *["micrometer"] * 2]
        assert layer.axis_labels == ("t", "y", "x")


@pytest.mark.gui
def test_the_menu_makes_strokes_for_the_selected_image(make_napari_viewer_proxy):
    from napari_unet.gui.contributions import new_strokes

    viewer = make_napari_viewer_proxy()
    for name in ("first", "second"):
        viewer.add_image(np.zeros((8, 8)), name=name)
    new_strokes()
    added = [layer.name for layer in viewer.layers if hasattr(layer, "brush_size")]
    assert added == ["second · strokes"]


def test_the_checkpoint_reader_takes_one_file():
    from napari_unet.gui.contributions import checkpoint_reader

    assert callable(checkpoint_reader("model.pt"))
    assert callable(checkpoint_reader(["model.pt"]))
    assert checkpoint_reader(["a.pt", "b.pt"]) is None


def _card() -> dict[str, float]:
    """Dice by image set, from the model card's table."""
    lines = sample("MODEL_CARD.md").read_text("utf-8").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: float(row[2]) for row in rows if row[-1].startswith("0.")}
