"""Rounds in the dock, without Qt: from their base, joined, compared, cut short."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from conftest import Desk
from test_gui_controller import finish_round, painted, train

from napari_unet.errors import ModelError
from napari_unet.events import Cancelled, Finished, Metric, Progress
from napari_unet.execution.protocol import Failed
from napari_unet.gui import glimpses, rounds
from napari_unet.gui.learning import Begun


@pytest.fixture
def ready(desk):
    """A desk with a model, an image and strokes of two classes."""
    desk.add_image()
    painted(desk, 1, 2)
    desk.open_model("nuclei.pt")
    desk.controller.catch_up()
    return desk


def play_round(desk, before=0.5, after=0.9, **more):
    """Train a round whose checkpoint is there afterwards."""
    job = train(desk)
    path = Path(job.arguments["output"])
    path.touch()
    result = {"path": str(path), "score_before": before, "score_after": after}
    job.play(Finished({**result, "stopped": False, "strokes": 7, **more}))
    if desk.job is not job:
        desk.job.play(Finished({"ndim": 2, "in_channels": 1, "out_channels": 2}))
    return str(path)


def table(desk):
    return [(r.name, r.strokes, r.score, r.used) for r in desk.view.rounds]


def test_every_round_starts_from_the_base_and_is_compared_with_the_last(ready):
    one = play_round(ready)
    two = play_round(ready, scores={"dice_interval": [0.8, 0.96]})
    job = train(ready)
    assert job.arguments["model"] == "nuclei.pt"
    assert job.arguments["earlier"] == [one, two]
    assert job.arguments["listen"]
    assert table(ready) == [
        ("nuclei.pt", "", "", False),
        ("Round 1", "7", "0.90", False),
        ("Round 2", "7", "0.90 ± 0.08", True),
    ]


def test_rounds_of_a_new_network_start_anew_each_time(desk):
    desk.add_image()
    painted(desk, 1, 2)
    play_round(desk, before=None)
    assert desk.view.from_scratch
    job = train(desk)
    assert job.arguments["model"] is None
    assert len(job.arguments["earlier"]) == 1


def test_back_and_forth_and_any_round_of_the_table(ready):
    one, two = play_round(ready), play_round(ready)
    versions = ready.controller.versions
    versions.undo()
    assert ready.state.model.path == one
    versions.undo()
    assert ready.state.model.path == "nuclei.pt"
    versions.redo()
    versions.redo()
    assert ready.state.model.path == two
    assert not ready.view.redo.enabled
    versions.use(one)
    ready.job.play(Finished({"ndim": 2, "in_channels": 1, "out_channels": 2}))
    assert ready.state.model.path == one
    versions.undo()
    assert ready.state.model.path == two


def test_a_kept_round_cannot_be_deleted_and_only_our_files_go(ready):
    one, two = play_round(ready), play_round(ready)
    other = Path(one).with_suffix(".txt")
    other.touch()
    versions = ready.controller.versions
    versions.keep(one)
    versions.delete(one)
    versions.delete(two)  # in use
    versions.delete("nuclei.pt")
    assert Path(one).exists()
    assert Path(two).exists()
    versions.keep(one)
    versions.delete(one)
    left = {path.name for path in Path(one).parent.iterdir()} - {"recent.json"}
    assert left == {
        other.name, Path(two).name, Path(two).stem + ".round.json"
    }  # fmt: skip
    assert [r.path for r in ready.state.rounds] == [two]
    versions.undo()
    assert ready.state.model.path == "nuclei.pt"


def test_rounds_are_listed_again_in_another_session(ready, tmp_path):
    one = play_round(ready)
    ready.controller.versions.keep()
    again = Desk(tmp_path)
    again.add_image()
    again.open_model("other.pt")
    again.controller.catch_up()
    assert len(again.view.rounds) == 1
    again.open_model("nuclei.pt")
    again.controller.catch_up()
    (made,) = again.state.rounds
    assert (made.path, made.kept, made.strokes) == (one, True, 7)


def test_what_is_painted_meanwhile_is_told_once(ready):
    layer = ready.viewer.layers["cells · strokes"]
    job = train(ready)
    ready.controller.catch_up()
    assert job.told == []
    layer.data[:4, 20:] = 2
    ready.controller.painting.recount()
    ready.controller.catch_up()
    ready.controller.catch_up()
    ((source,),) = job.told
    np.testing.assert_array_equal(np.load(source.path), layer.data)
    job.play(Metric("strokes", 9.0, 20))
    assert "strokes" not in ready.view.curves


def test_a_training_rests_and_goes_on(ready):
    assert ready.view.pause is None
    job = train(ready)
    assert not ready.view.pause.enabled
    job.play(Progress(10, 60, "step 9, loss 0.1"))
    assert ready.view.status.endswith("step 9, loss 0.1, up to 50 s left")
    ready.controller.training.pause()
    assert job.paused
    assert (ready.view.pause.text, ready.view.status) == (
        "Go on",
        "Fine-tuning · paused",
    )
    ready.controller.training.pause()
    assert not job.paused


def keep_state(path, seconds):
    """A training state, of which only the head is read."""
    told = json.dumps({"key": {}, "facts": {"seconds": seconds, "limit": 50.0}})
    head = json.dumps({"__metadata__": {"unet-training": told}}).encode()
    state = Path(path).with_suffix(".training")
    state.write_bytes(len(head).to_bytes(8, "little") + head)


def test_a_round_that_was_cut_short_is_offered_and_goes_on(ready, tmp_path):
    job = train(ready, {"max_seconds": 50.0})
    keep_state(job.arguments["output"], 31.0)
    job.play(Failed(ModelError("The computing process died")))
    assert ready.view.go_on.text == "Go on with round 1 (62%)"
    again = Desk(tmp_path)
    again.add_image()
    again.controller.catch_up()
    assert not again.view.go_on.enabled
    painted(again, 1, 2)
    again.controller.training.go_on()
    assert again.job.arguments["model"] == "nuclei.pt"
    again.job.play(Finished({"ndim": 2, "in_channels": 1, "out_channels": 2}))
    sent = again.job.arguments
    assert sent["go_on"]
    for name in ("model", "output", "config", "earlier"):
        assert sent[name] == job.arguments[name], name
    assert again.view.go_on is None
    finish_round(again, again.job)
    assert rounds.interrupted(tmp_path / "rounds", "cells") is None


def stop_early(desk, job, share=0.5):
    """Stop a training as a person does: its best is a round, and its state is kept."""
    desk.controller.stop()
    path = Path(job.arguments["output"])
    path.touch()
    keep_state(path, 50 * share)
    scores = {"score_before": 0.5, "score_after": 0.7, "strokes": 7}
    job.play(Finished({"path": str(path), "stopped": True, **scores}))
    desk.job.play(Finished({"ndim": 2, "in_channels": 1, "out_channels": 2}))
    return str(path)


def test_a_round_that_was_stopped_is_used_and_goes_on(ready):
    job = train(ready)
    path = stop_early(ready, job)
    assert ready.state.model.path == path
    assert ready.view.go_on.text == "Go on with round 1 (50%)"
    ready.controller.training.go_on()
    assert (ready.job.arguments["go_on"], ready.job.arguments["output"]) == (True, path)
    ready.job.play(Failed(ModelError("The computing process died")))
    assert ready.view.status.endswith("Go on continues round 1.")
    assert [made.path for made in rounds.known(*known(ready))] == [path]
    ready.controller.training.go_on()
    Path(path).with_suffix(".training").unlink()
    result = {"path": path, "score_before": 0.5, "score_after": 0.9, "strokes": 7}
    ready.job.play(Finished(result))
    ready.job.play(Finished({"ndim": 2, "in_channels": 1, "out_channels": 2}))
    assert ready.view.go_on is None
    assert ready.view.score.startswith("Dice 0.50 → 0.90")
    ready.controller.versions.undo()
    assert ready.state.model.path == "nuclei.pt"
    assert not ready.view.undo.enabled


def known(desk):
    """Where the rounds of a desk are, and what they are of."""
    return desk.controller.versions.folder, "nuclei.pt", "cells"


def test_a_round_that_is_finished_gives_up_one_that_was_stopped(ready):
    stopped = Path(stop_early(ready, train(ready)))
    play_round(ready)
    assert ready.view.go_on is None
    assert stopped.exists()
    assert not stopped.with_suffix(".training").exists()
    assert len(ready.state.rounds) == 2


@pytest.mark.parametrize("saved", [False, True])
def test_what_was_trained_when_the_window_closed_is_offered_next_time(
    ready, tmp_path, saved
):
    if saved:
        ready.controller.projects.save_as(tmp_path / "mine")
    job = train(ready, {"max_seconds": 50.0})
    assert ("mine" in job.arguments["output"]) is saved
    keep_state(job.arguments["output"], 31.0)
    ready.controller.close()
    ready.viewer.layers.clear()
    ready.controller.projects.close()
    again = Desk(tmp_path)
    again.add_image()
    if saved:
        again.controller.projects.open(tmp_path / "mine")
    again.controller.catch_up()
    assert again.view.go_on.text == "Go on with round 1 (62%)"
    if saved:
        again.controller.projects.project.close()


def test_a_round_of_another_napari_that_runs_is_left_to_it(tmp_path, monkeypatch):
    path = tmp_path / "a-round-4.safetensors"
    rounds.note(Begun(str(path), "a.pt", "cells"))
    keep_state(path, 10.0)
    assert rounds.interrupted(tmp_path, "cells").number == 4
    assert rounds.interrupted(tmp_path, "other") is None
    monkeypatch.setattr(rounds.os, "getpid", lambda: -1)
    assert rounds.interrupted(tmp_path, "cells") is None
    note = tmp_path / "a-round-4.round.json"
    os.utime(note, (1, 1))  # the program that wrote it was another of that number
    assert rounds.interrupted(tmp_path, "cells").number == 4
    note.write_text("{")
    assert rounds.known(tmp_path, "a.pt", "cells") == []


def test_the_view_is_shown_while_it_learns_one_glimpse_at_a_time(ready, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(glimpses.time, "monotonic", lambda: now[0])
    job = train(ready)
    step = Progress(1, 60, "step 1, loss 0.5")
    for seconds in (0.0, 1.0, 1.9):
        now[0] = 100.0 + seconds
        job.play(step)
    assert ready.job is job
    now[0] = 102.0
    job.play(step)
    look = ready.job
    assert (look.name, look.turn) == ("iter_training_view", "first")
    assert look.arguments["training"] == job.arguments["output"]
    now[0] = 103.0
    job.play(step)
    assert ready.job is look
    shape = [part.stop - part.start for part in look.arguments["region"].values()]
    np.save(look.arguments["output"], np.ones(shape, np.uint8))
    look.play(Finished(None))
    assert "cells · preview" in ready.viewer.layers
    now[0] = 105.5  # three times as long as it took
    job.play(step)
    assert ready.job is look
    now[0] = 106.5
    job.play(step)
    ready.job.play(Failed(ModelError("No view")))
    assert ready.notes == []
    job.play(Finished({"path": job.arguments["output"], "score_after": 0.5}))
    ready.job.play(Finished({"ndim": 2, "in_channels": 1, "out_channels": 2}))
    assert ready.job.name == "iter_predict"


def spots(*places):
    found = [{"place": {"Y": y, "X": x}, "doubt": 0.9} for y, x in places]
    return {"axes": "YX", "doubt": np.ones((32, 48), "f4"), "spots": found}


def test_next_spot_flies_from_one_to_the_next(ready):
    ready.controller.doubting.next_spot()
    job = ready.job
    assert job.name == "iter_where_next"
    assert job.arguments["region"] == {"Y": slice(0, 32), "X": slice(0, 48)}
    assert job.arguments["strokes"] is not None
    job.play(Finished(spots((5, 40), (20, 3))))
    assert ready.viewer.scene.camera.center[-2:] == (5, 40)
    assert "1 more" in ready.view.status
    ready.controller.doubting.next_spot()
    assert ready.viewer.scene.camera.center[-2:] == (20, 3)
    assert ready.job is job
    ready.controller.doubting.next_spot()
    assert ready.job is not job
    ready.job.play(Finished(spots()))
    assert "in doubt nowhere" in ready.view.status


def test_doubt_is_shown_and_taken_away(ready):
    ready.controller.doubting.show(True)
    ready.job.play(Finished(spots((5, 40))))
    assert "cells · doubt" in ready.viewer.layers
    ready.controller.doubting.show(False)
    assert "cells · doubt" not in ready.viewer.layers


def test_spots_of_a_stack_move_the_sliders(desk):
    desk.add_image((4, 32, 48), ("z", "y", "x"), scale=(3, 2, 2))
    desk.layers.go_to("cells", {"Z": 3, "Y": 10, "X": 20})
    assert desk.viewer.dims.point[0] == 9
    assert desk.viewer.scene.camera.center[-2:] == (20, 40)


def suspect(painted, found, sure, image=0, **place):
    return {
        "image": image, "place": place, "painted": painted, "found": found,
        "contradiction": sure, "pixels": 9,
    }  # fmt: skip


def test_strokes_that_may_be_wrong_are_listed_and_gone_to(ready):
    ready.controller.auditing.check({"max_seconds": 8.0})
    assert ready.job.name == "iter_audit"
    found = [suspect(2, 0, 0.93, Y=4, X=7), suspect(1, 0, 0.2, Y=1, X=1)]
    ready.job.play(Finished(found))
    assert ready.view.suspects == ("nucleus: rather background, 93% (Y 4, X 7)",)
    ready.controller.auditing.go_to(0)
    assert ready.viewer.scene.camera.center[-2:] == (4, 7)


def test_strokes_of_all_images_are_checked_and_a_click_shows_their_image(ready):
    other = np.full((16, 16), 7, np.uint16)
    ready.viewer.add_image(other, name="others", axis_labels=("y", "x"))
    ready.controller.choose_image("others")
    ready.controller.painting.new()
    ready.viewer.layers["others · strokes"].data[:, :2] = [1, 2]
    ready.controller.painting.recount()
    ready.controller.auditing.check({})
    names = [source.name for source in ready.job.arguments["strokes"]]
    assert names == ["others · strokes", "cells · strokes"]
    found = [suspect(2, 0, 0.9, image=1, Y=4, X=7), suspect(1, 1, 0.8, Y=3, X=0)]
    ready.job.play(Finished(found))
    assert ready.view.suspects == (
        "cells · nucleus: rather background, 90% (Y 4, X 7)",
        "others · background: rather nucleus, 80% (Y 3, X 0)",
    )
    ready.controller.auditing.go_to(0)
    assert ready.view.image == "cells"
    assert ready.state.strokes.name == "cells · strokes"
    assert ready.viewer.scene.camera.center[-2:] == (4, 7)
    ready.controller.auditing.go_to(1)
    assert ready.view.image == "others"
    assert ready.viewer.scene.camera.center[-2:] == (3, 0)


def test_the_map_of_doubt_follows_the_plane_and_the_model(desk):
    desk.add_image((4, 32, 48), ("t", "y", "x"))
    desk.open_model("nuclei.pt")
    doubting = desk.controller.doubting
    doubting.show(True)
    desk.job.play(Finished(spots_at(desk)))
    first = desk.job
    desk.controller.catch_up()
    assert desk.job is first
    desk.viewer.dims.set_point(0, 2)
    desk.controller.catch_up()
    job = desk.job
    assert (job.name, job.turn) == ("iter_where_next", "last")
    assert job.arguments["region"]["T"] == slice(2, 3)
    assert not desk.view.busy
    center = desk.viewer.scene.camera.center
    job.play(Finished(spots_at(desk)))
    assert desk.viewer.layers["cells · doubt"].translate[0] == 2
    assert desk.viewer.scene.camera.center == center
    desk.open_model("other.pt")
    desk.controller.catch_up()
    assert desk.job.arguments["model"] == "other.pt"
    desk.job.play(Cancelled("replaced"))
    desk.controller.catch_up()
    asked = desk.job
    asked.play(Failed(ModelError("No")))
    assert desk.view.status == "No."
    desk.controller.catch_up()
    assert desk.job is asked
    doubting.show(False)
    desk.viewer.dims.set_point(0, 1)
    desk.controller.catch_up()
    assert desk.job is asked


def spots_at(desk):
    """What a look at one plane finds."""
    found = spots((5, 40))
    return {**found, "axes": "TYX", "doubt": found["doubt"][None]}


def test_the_round_before_is_shown_while_the_key_is_held(ready):
    ready.controller.compare.press()
    assert "no round before" in ready.view.status
    ready.controller.previews.ask({})
    finish_view(ready)
    play_round(ready)
    finish_view(ready)
    now = ready.viewer.layers["cells · preview"]
    ready.controller.compare.press()
    assert ready.job.arguments["model"] == "nuclei.pt"
    finish_view(ready)
    before = ready.viewer.layers["cells · before"]
    assert before.visible
    assert not now.visible
    ready.controller.compare.release()
    assert now.visible
    assert not before.visible
    job = ready.job
    ready.controller.compare.press()
    assert ready.job is job
    assert before.visible
    ready.controller.compare.release()
    assert now.visible


def finish_view(desk):
    region = desk.job.arguments["region"]
    shape = [part.stop - part.start for part in region.values()]
    np.save(desk.job.arguments["output"], np.ones(shape, np.uint8))
    desk.job.play(Finished(None))


def test_stopped_before_anything_was_learned_leaves_no_round(ready):
    job = train(ready)
    job.play(Cancelled("stopped before training"))
    assert ready.state.rounds == ()
    assert ready.view.go_on is None
    assert not ready.view.busy
