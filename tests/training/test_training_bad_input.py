"""What people do by mistake: told in words, and nothing is spoiled."""

import math

import numpy as np
import pytest
import torch
from training_images import class_strokes, example, quick, two_tone

from napari_unet import checkpoints
from napari_unet.config import FinetuneConfig
from napari_unet.errors import (
    DeviceError,
    ImageError,
    StrokesError,
    UsageError,
)
from napari_unet.events import Warned
from napari_unet.images.stack import ImageStack
from napari_unet.training.annotations import AnnotationSet, Example
from napari_unet.training.finetune import finetune
from napari_unet.training.trainer import Trainer


def learn(path, examples, network=None, steps=3, **settings):
    config = quick(**settings, max_steps=steps)
    return list(finetune(examples, network, config, path))


def said(events):
    return [e.message for e in events if isinstance(e, Warned)]


def painted(strokes=None, image=None):
    image = two_tone()[0] if image is None else image
    return example(image, class_strokes() if strokes is None else strokes)


@pytest.mark.parametrize("rate", [0, -1e-3, 1e6, math.nan, math.inf])
def test_absurd_learning_rates_are_refused(rate):
    with pytest.raises(UsageError, match="learning_rate"):
        FinetuneConfig.build(learning_rate=rate)


def test_the_greatest_rate_there_is_saves_no_spoiled_weights(tmp_path):
    path = tmp_path / "a.safetensors"
    learn(path, [painted()], steps=60, learning_rate=1.0)
    state = checkpoints.load(path).module.state_dict()
    assert all(torch.isfinite(t).all() for t in state.values())


def test_growing_losses_are_rolled_back(tmp_path, monkeypatch):
    step, seen = Trainer.step, []

    def growing(self, progress):
        loss = step(self, progress)
        seen.append(self.rate)
        return loss * (100 if 20 < len(seen) <= 40 else 1)

    monkeypatch.setattr(Trainer, "step", growing)
    events = learn(tmp_path / "a.safetensors", [painted()], steps=60)
    assert any("diverged" in note for note in said(events))
    assert seen[50] == seen[0] / 2


def test_ids_that_leave_classes_out_are_told(tmp_path):
    strokes = class_strokes()
    strokes[strokes == 2] = 4
    events = learn(tmp_path / "a.safetensors", [painted(strokes)], strokes="classes")
    assert any("Classes 2, 3 are not painted" in note for note in said(events))
    assert checkpoints.load(tmp_path / "a.safetensors").spec.out_channels == 4


def test_huge_ids_are_no_classes(tmp_path):
    strokes = class_strokes()
    strokes[strokes == 2] = 4000
    with pytest.raises(StrokesError, match=r"id 4000.*1 to 64"):
        learn(tmp_path / "a.safetensors", [painted(strokes)], strokes="classes")


def test_strokes_of_another_scale_are_refused_with_both():
    image = ImageStack(two_tone()[0], "YX", scale={"Y": 0.5, "X": 0.5})
    right = ImageStack(class_strokes(), "YX", scale={"Y": 0.5, "X": 0.501})
    AnnotationSet.gather([Example(image, right)])
    AnnotationSet.gather([Example(image, ImageStack(class_strokes(), "YX"))])
    wrong = ImageStack(class_strokes(), "YX", scale={"Y": 0.5, "X": 0.25})
    with pytest.raises(StrokesError, match=r"0\.25 a pixel along X.*0\.5"):
        AnnotationSet.gather([Example(image, wrong)])


def test_strokes_on_one_plane_say_nothing_of_the_others(tmp_path):
    volume = np.stack([two_tone(n)[0] for n in range(5)])
    strokes = np.zeros(volume.shape, np.uint16)
    strokes[3] = class_strokes()
    annotations = AnnotationSet.gather([example(volume, strokes, "ZYX")])
    assert [plane.index for plane in annotations.planes] == [{"Z": 3}]
    learn(tmp_path / "a.safetensors", [example(volume, strokes, "ZYX")])
    assert checkpoints.load(tmp_path / "a.safetensors").spec.ndim == 2


def test_nan_in_an_image_is_refused_or_left_out(tmp_path):
    image = two_tone()[0]
    image[:20, 23] = np.nan
    with pytest.raises(ImageError, match="NaN"):
        learn(tmp_path / "a.safetensors", [painted(image=image)])
    events = learn(tmp_path / "b.safetensors", [painted(image=image)], nan="zero")
    assert any("NaN in the image and left out" in note for note in said(events))
    state = checkpoints.load(tmp_path / "b.safetensors").module.state_dict()
    assert all(torch.isfinite(t).all() for t in state.values())


def test_a_batch_without_paint_moves_no_weight(tmp_path, monkeypatch):
    from napari_unet.training.sampling import PatchSampler

    draw, calls = PatchSampler.draw, []

    def empty_at_first(self, size, generator):
        batch = draw(self, size, generator)
        calls.append(1)
        if len(calls) % 3:
            return batch._replace(targets=batch.targets * 0)
        return batch

    monkeypatch.setattr(PatchSampler, "draw", empty_at_first)
    learn(tmp_path / "a.safetensors", [painted()], steps=4)
    assert len(calls) == 12
    monkeypatch.setattr(
        PatchSampler,
        "draw",
        lambda *args: draw(*args)._replace(targets=draw(*args).targets * 0),
    )
    with pytest.raises(StrokesError, match="No stroke lies where"):
        learn(tmp_path / "b.safetensors", [painted()], steps=4)


def short_of_memory(monkeypatch, most):
    forward, sizes = Trainer._forward, []

    def limited(self, images):
        if len(images) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        sizes.append(len(images))
        return forward(self, images)

    monkeypatch.setattr(Trainer, "_forward", limited)
    return sizes


def test_short_memory_splits_batches_and_is_told(tmp_path, monkeypatch):
    sizes = short_of_memory(monkeypatch, 5)
    events = learn(tmp_path / "a.safetensors", [painted()])
    assert any("in 4 parts" in note for note in said(events))
    assert set(sizes) == {4}
    assert len(sizes) == 3 * 4  # 16 patches a step, three steps


def test_a_patch_that_does_not_fit_is_told(tmp_path, monkeypatch):
    short_of_memory(monkeypatch, 0)
    with pytest.raises(DeviceError, match="memory does not suffice"):
        learn(tmp_path / "a.safetensors", [painted()])
    assert not (tmp_path / "a.safetensors").exists()


def test_patches_are_made_on_the_cpu_where_a_gpu_has_no_room():
    done = []

    class Full:
        def draw(self, size, generator):
            done.append(size)
            if "cpu" not in done:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return "batch"

        def to(self, device):
            done.append(device.type)

    trainer = Trainer.__new__(Trainer)
    trainer._device, trainer._generator = torch.device("cuda"), None
    assert trainer._drawn(Full(), 4) == "batch"
    assert done == [4, "cpu", 4]
    trainer._device = torch.device("cpu")
    done.clear()
    with pytest.raises(torch.OutOfMemoryError):
        trainer._drawn(Full(), 4)
