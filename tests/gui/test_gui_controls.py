"""Every field of every form changes what runs, and every other control has a test."""

import pytest
from controls import controls, untested
from magicgui.widgets import CheckBox, ComboBox, LineEdit

from napari_unet.gui.batch_panel import BatchPanel
from napari_unet.gui.footer import Footer
from napari_unet.gui.form import Form
from napari_unet.gui.model_panel import ImagePanel
from napari_unet.gui.predict_panel import PredictPanel
from napari_unet.gui.train_panel import TrainPanel

pytestmark = pytest.mark.gui

TYPED = {
    "validation": "0.3",
    "overlap": "0.5",
    "depth": "3",
    "poolings": "2",
    "learning_rate": "0.01",
    "table": "some.csv",
}
"""What is typed where 16 would not do."""


PANELS = "test_gui_panels.test_"
TESTS = {
    "image": {
        "Image": PANELS + "image_is_picked",
        "Axes": PANELS + "axes_are_typed",
        "Channels": PANELS + "channels_are_typed",
    },
    "predict": {
        "Preview view": PANELS + "preview_button_works_while_a_prediction_runs",
        "Live": PANELS + "live_is_switched_with_the_mouse_and_follows_the_form",
        "Predict all": PANELS + "predict_page_runs_with_its_settings",
        "Measure objects": "test_gui_result_panel.test_objects_are_measured",
        **dict.fromkeys(
            ("Show the result as", "Threshold", "Split touching objects"),
            "test_gui_result_panel.test_every_control_changes_the_look_and_the_run",
        ),
    },
    "batch": {
        **dict.fromkeys(
            ("Folder …", "Files …", "Change …"),
            "test_gui_batch.test_folders_and_files_are_chosen",
        ),
        **dict.fromkeys(
            ("Pattern", "Copy as command line", "Run 1 file"),
            "test_gui_batch.test_the_copied_command_does_the_same",
        ),
        "Pause": "test_gui_batch.test_a_paused_batch_goes_on_with_what_is_left",
        "Retry failed": "test_gui_batch.test_failed_files_are_retried",
        "Files": "test_gui_batch.test_a_row_opens_its_image_and_result",
    },
    "footer": {"Stop": PANELS + "footer_shows_stop_only_while_something_runs"},
}
"""Where a control that is no field of a form is tested, by page and name."""


def touch(field, name):
    """Change a widget as a person would, to anything else than it shows."""
    if isinstance(field, CheckBox):
        field.native.click()
    elif name == "kind":
        field.value = "instances"
    elif isinstance(field, ComboBox):
        field.native.setCurrentIndex((field.native.currentIndex() + 1) % 2)
    elif isinstance(field, LineEdit):
        field.native.setText(TYPED.get(name, "16"))
        field.native.editingFinished.emit()
    else:
        field.native.setValue(field.value + field.step)


def ready(desk, tmp_path):
    """A desk where everything can run."""
    (tmp_path / "a.tif").write_bytes(b"x")
    desk.add_image((6, 32, 48), ("t", "y", "x"))
    desk.viewer.scene.camera.center = (0, 16, 24)
    desk.open_model()
    desk.controller.painting.new()
    desk.viewer.layers["cells · strokes"].data[:, :2] = [[1], [2]]
    desk.controller.painting.recount()
    desk.controller.batch.choose([str(tmp_path)])


def pages(desk, qtbot):
    """The three pages, as the dock has them."""
    predict = PredictPanel(desk.controller)
    made = {
        "predict": predict,
        "train": TrainPanel(desk.controller),
        "batch": BatchPanel(desk.controller, predict),
        "image": ImagePanel(desk.controller),
        "footer": Footer(desk.controller),
    }
    for page in made.values():
        qtbot.addWidget(page)
        desk.controller.session.subscribe(page.show_view)
    return made


def run(desk, page):
    """Press the blue button, take the settings that run, and end the job."""
    from napari_unet.events import Cancelled

    button = {"predict": "predict", "train": "train", "batch": "run"}
    name = next(n for n, p in desk.pages.items() if p is page)
    getattr(page, button[name]).click()
    config = desk.job.arguments["config"]
    desk.job.play(Cancelled())
    return config


def fields_of(page):
    """All fields of the forms of a page."""
    return {n: f for form in page.findChildren(Form) for n, f in form.fields.items()}


@pytest.mark.parametrize("name", ["predict", "train", "batch"])
def test_every_field_changes_what_runs(desk, qtbot, tmp_path, name):
    ready(desk, tmp_path)
    desk.pages = pages(desk, qtbot)
    page = desk.pages[name]
    before = run(desk, page)
    fields = fields_of(page)
    assert len(fields) > 5
    for field_name, field in fields.items():
        touch(field, field_name)
        after = run(desk, page)
        changed = {n for n, value in after if value != getattr(before, n)}
        assert changed == {field_name}, field_name
        before = after


@pytest.mark.parametrize("name", TESTS)
def test_every_other_control_has_a_test(desk, qtbot, tmp_path, name):
    """A control that is new and not in the table fails here."""
    ready(desk, tmp_path)
    assert controls(pages(desk, qtbot)[name]) == TESTS[name].keys()
    assert untested(TESTS[name]) == set()


def test_the_fields_of_the_predict_page_count_in_a_batch(desk, qtbot, tmp_path):
    ready(desk, tmp_path)
    desk.pages = pages(desk, qtbot)
    touch(desk.pages["predict"].options.fields["tile"], "tile")
    assert run(desk, desk.pages["batch"]).tile == (16,)
