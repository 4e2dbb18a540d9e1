"""``napari-unet demo``: the main job from end to end on the sample data."""

from napari_unet.demo.steps import DemoResult, Said, run
from napari_unet.demo.viewer import can_show, show

__all__ = ["DemoResult", "Said", "can_show", "run", "show"]
