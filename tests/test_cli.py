import argparse
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from napari_unet import __version__, api
from napari_unet.batch.summary import BatchSummary, Item
from napari_unet.checkpoints.exports import Exported
from napari_unet.cli import main
from napari_unet.cli.answer import plain, table
from napari_unet.cli.options import add_settings, read_settings
from napari_unet.cli.parser import parser
from napari_unet.config import BatchConfig, ExportConfig, FinetuneConfig, PredictConfig
from napari_unet.errors import ModelError, UsageError
from napari_unet.events import (
    Cancelled,
    Finished,
    Metric,
    Progress,
    Started,
    Warned,
)
from napari_unet.samples import sample
from napari_unet.training.rounds import Round

PREDICT = ["predict", "a.tif", "--model", "m.pt", "--output", "o.npy"]


@pytest.fixture(autouse=True)
def log_folder(tmp_path, monkeypatch):
    folder = tmp_path / "logs"
    monkeypatch.setattr("platformdirs.user_log_dir", lambda *_, **__: str(folder))
    return folder


@pytest.fixture
def core(monkeypatch):
    """Puts events, or an error, in place of a generator of the core."""

    class Core:
        calls: list = []  # noqa: RUF012

        def gives(self, name, *events, error=None):
            def generator(*args, **kwargs):
                self.calls.append((args, kwargs))
                yield from events
                if error is not None:
                    raise error

            self.calls = []
            monkeypatch.setattr(api, f"iter_{name}", generator)

    return Core()


def test_help_and_version(capsys):
    assert main(["--help"]) == 0
    assert main(["--version"]) == 0
    assert __version__ in capsys.readouterr().out
    for command in (
        "inspect",
        "predict",
        "batch",
        "finetune",
        "evaluate",
        "export",
        "demo",
    ):
        assert main([command, "--help"]) == 0
    assert "exit codes: 0 done" in capsys.readouterr().out


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from napari_unet.cli import main; main(['predict', '--help']);"
        "print([m for m in ('torch', 'numpy', 'napari', 'scipy', 'tqdm')"
        " if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["nonsense"],
        ["predict"],
        [*PREDICT, "--kind", "colours"],
        [*PREDICT, "--tile", "x"],
        [*PREDICT, "--tile", "0"],
        [*PREDICT, "--overlap", "1.5"],
        ["finetune", "--image", "a", "--strokes", "b", "--output", "c"],
        ["finetune", "--image", "a", "b", "--strokes", "c", "--new", "--output", "d"],
        ["finetune", "--image", "a", "--strokes", "b", "--new", "--model", "m"],
    ],
)
def test_wrong_usage_is_2(argv, capsys):
    assert main(argv) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert "Traceback" not in output.err


def test_every_setting_has_an_option_and_arrives(core):
    core.gives("predict", Finished("o.npy"))
    options = {
        "kind": "logits", "tiling": "exact", "tile": (8, 16), "overlap": 0.5,
        "precision": "float32", "device": "cpu", "axes": "ZYX", "series": "1",
        "channels": (1, 0), "normalize": "minmax", "nan": "zero", "threshold": 0.25,
        "batch_size": 3, "window": "hann", "tta": "flips", "gpus": 2,
        "backend": "eager", "memory": 1.5,
    }  # fmt: skip
    assert set(options) == set(PredictConfig.model_fields)
    argv = list(PREDICT)
    for name, value in options.items():
        values = value if isinstance(value, tuple) else (value,)
        argv += [f"--{name.replace('_', '-')}", *map(str, values)]
    assert main(argv) == 0
    (args, kwargs) = core.calls[0]
    assert args == ("a.tif", "m.pt", "o.npy", PredictConfig.build(**options))
    assert kwargs["overwrite"] is False


@pytest.mark.parametrize("config", [PredictConfig, BatchConfig, FinetuneConfig])
def test_options_left_out_are_the_defaults(config):
    options = argparse.ArgumentParser()
    add_settings(options, config)
    assert read_settings(config, options.parse_args([])) == config()


def test_help_tells_range_default_and_choices():
    text = " ".join(parser().format_help().split())
    assert "inspect" in text
    options = argparse.ArgumentParser(prog="p")
    add_settings(options, PredictConfig, leave_out=["axes"])
    text = " ".join(options.format_help().split())
    assert "(at least 0 and at most 0.9)" in text
    assert "--axes" not in text


def test_finetune_tells_stroke_files_from_stroke_ids(core, capsys):
    made = Round(Path("n"), "d1", "d0", 0.5, 0.75)
    core.gives("finetune", Finished(made))
    argv = ["finetune", "--image", "a", "--strokes", "s", "--new", "--output", "n"]
    assert main([*argv, "--stroke-ids", "classes", "--no-augment", "--seed", "3"]) == 0
    images, strokes, model, output, config = core.calls[0][0]
    assert (images, strokes, model, output) == (["a"], ["s"], None, "n")
    assert config == FinetuneConfig(strokes="classes", augment=False, seed=3)
    assert "score after: 0.75" in capsys.readouterr().out
    core.gives("finetune", Finished(replace(made, stopped=True)))
    assert main(argv) == 130


def test_json_is_one_object_and_alone(core, capsys):
    def noisy():
        print("a library that prints")
        return "warned"

    core.gives("predict", Started("Predicting"), Warned("odd"), Finished("ö.npy"))
    noisy()
    capsys.readouterr()
    assert main([*PREDICT, "--json"]) == 0
    output = capsys.readouterr()
    answer = json.loads(output.out)
    assert output.out.count("\n") == 1
    assert (answer["output"], answer["warnings"]) == ("ö.npy", ["odd"])
    assert output.err.splitlines() == ["Predicting", "odd"]


def test_prints_of_libraries_do_not_reach_stdout(monkeypatch, capsys):
    def inspect(*_, **__):
        print("noise")
        yield Finished({"name": "net", "nan": float("nan")})

    monkeypatch.setattr(api, "iter_inspect", inspect)
    assert main(["inspect", "m.pt", "--json"]) == 0
    output = capsys.readouterr()
    assert json.loads(output.out) == {"name": "net", "nan": None}
    assert output.err == "noise\n"


def test_errors_are_one_sentence(core, capsys):
    core.gives("predict", error=ModelError("No checkpoint", found="a poem"))
    assert main(PREDICT) == 1
    assert main([*PREDICT, "--json"]) == 1
    output = capsys.readouterr()
    sentence = "No checkpoint: found a poem."
    assert output.err == 2 * f"napari-unet: {sentence}\n"
    assert json.loads(output.out) == {"error": sentence, "code": 1}
    core.gives("predict", error=UsageError("no such axis"))
    assert main(PREDICT) == 2


def test_names_with_control_characters_cannot_steer_the_terminal(core, capsys):
    core.gives("predict", error=ModelError("\x1b[2Jbad\nname"))
    main(PREDICT)
    assert capsys.readouterr().err == "napari-unet:  [2Jbad name.\n"


def test_an_unexpected_error_is_one_sentence_and_logged(core, capsys, log_folder):
    core.gives("predict", error=ZeroDivisionError("oh"))
    assert main(PREDICT) == 1
    error = capsys.readouterr().err
    assert "ZeroDivisionError: oh" in error
    assert error.count("\n") == 1
    log = log_folder / "napari-unet.log"
    assert str(log) in error
    assert "Traceback" in log.read_text()
    assert main([*PREDICT, "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_without_a_log_folder(core, capsys, log_folder):
    log_folder.write_text("in the way")
    core.gives("predict", error=ZeroDivisionError("oh"))
    assert main(PREDICT) == 1
    assert "--debug" in capsys.readouterr().err


def test_memory_is_told(core, capsys):
    core.gives("predict", error=MemoryError())
    assert main(PREDICT) == 1
    assert "not enough memory" in capsys.readouterr().err


def test_stopped_is_130(core, capsys):
    core.gives("predict", Cancelled("half way"))
    assert main(PREDICT) == 130
    assert "stopped. half way" in capsys.readouterr().err


def test_ctrl_c_once_sets_the_token_twice_stops(monkeypatch, capsys):
    seen = []

    def predict(*_, cancel, **__):
        yield Progress(0, 1)
        os.kill(os.getpid(), signal.SIGINT)
        seen.append(cancel.is_set())
        os.kill(os.getpid(), signal.SIGINT)
        seen.append("not reached")
        yield Finished()

    monkeypatch.setattr(api, "iter_predict", predict)
    before = signal.getsignal(signal.SIGINT)
    assert main(PREDICT) == 130
    assert seen == [True]
    assert signal.getsignal(signal.SIGINT) is before
    assert "Ctrl-C again" in capsys.readouterr().err


def test_batch_with_failures_is_3(core, capsys):
    items = (Item("a", "o/a", "done"), Item("b", "", "failed", "bad"))
    core.gives("batch", Finished(BatchSummary("o", items)))
    argv = ["batch", "in", "--model", "m", "--output", "o"]
    assert main([*argv, "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["failed"] == 1
    core.gives("batch", Finished(BatchSummary("o", items[:1])))
    assert main(argv) == 0
    assert "1 done" in capsys.readouterr().out


def test_batch_looks_at_what_a_run_did(tmp_path, capsys):
    from napari_unet.batch.ledger import Ledger, Record

    usual = {"size": 1, "mtime_ns": 1, "model": "m", "settings": "", "version": ""}
    out = tmp_path / "out"
    argv = ["batch", "--output", str(out)]
    assert main([*argv, "--status"]) == 2
    assert main(argv) == 2
    ledger = Ledger(out)
    ledger.append(Record(input="a", output="a.ome.tif", outcome="done", **usual))
    assert main([*argv, "--status"]) == 0
    ledger.append(
        Record(input="b", output="b", outcome="failed", reason="bad.", **usual)
    )
    capsys.readouterr()
    assert main([*argv, "--status"]) == 3
    text = capsys.readouterr().out
    assert text.splitlines() == [f"1 done, 1 failed; results in {out}", "b: bad."]
    assert main([*argv, "--status", "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["failures"] == {"b": "bad."}
    assert main([*argv, "--verify"]) == 3
    assert "a.ome.tif: missing" in capsys.readouterr().out
    assert main([*argv, "--verify", "--status"]) == 2


def test_dry_run_lists(core, capsys):
    items = (Item("a", "o/a", "to do"), Item("b", "", "failed", "bad"))
    core.gives("batch_plan", Finished(BatchSummary("o", items)))
    argv = ["batch", "in", "--model", "m", "--output", "o", "--dry-run"]
    assert main(argv) == 3
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["to do: a -> o/a", "failed: b (bad)"]


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="no SIGUSR1 here")
def test_a_warning_of_the_scheduler_may_come_often(monkeypatch, capsys):
    def predict(*_, cancel, **__):
        yield Progress(0, 1)
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGUSR1)
        yield Cancelled("half way") if cancel.is_set() else Finished()

    monkeypatch.setattr(api, "iter_predict", predict)
    assert main(PREDICT) == 130
    assert capsys.readouterr().err.count("Stopping after this piece") == 1


def test_export_arrives_and_tells_what_was_written(core, capsys):
    made = Exported("n.pth", "state-dict", "ab", 0.0, ("A bare state dict.",))
    core.gives("export", Finished(made))
    argv = ["export", "m.pt", "--output", "n.pth", "--to", "state-dict"]
    assert main([*argv, "--authors", "A B", "C", "--license", "MIT"]) == 0
    config = ExportConfig(to="state-dict", authors=("A B", "C"), license="MIT")
    args, kwargs = core.calls[0]
    assert args == ("m.pt", "n.pth", config)
    assert kwargs["overwrite"] is False
    assert capsys.readouterr().out.splitlines()[0::2] == ["n.pth", "A bare state dict."]
    assert main([*argv, "--json", "--overwrite"]) == 0
    assert json.loads(capsys.readouterr().out)["target"] == "state-dict"


def test_inspect_is_a_page_for_people(capsys):
    assert main(["inspect", str(sample("nuclei.safetensors"))]) == 0
    text = capsys.readouterr().out
    for part in (
        "Input and output\n  in: 1 channel, axes Y X",
        "exact: tiles give the same output",
        "receptive field: 103 x 103 pixels",
        "for a tile of 512 x 512 pixels (estimate)",
        "SHA-256: ",
    ):
        assert part in text
    assert "assumed" not in text


def test_odd_names_pass(core):
    core.gives("predict", Finished("x"))
    names = ["./-a b.tif", "--model=-m.pt", "--output=ü \n.npy"]
    assert main(["predict", *names]) == 0
    assert core.calls[0][0][:3] == ("./-a b.tif", "-m.pt", "ü \n.npy")
    assert main(["predict", "--model", "m", "--output", "o", "--", "-a.tif"]) == 0
    assert core.calls[1][0][0] == "-a.tif"


def test_a_person_sees_a_bar(core, capsys, monkeypatch):
    events = [Started("Working", 2), Progress(1, 2, "a.tif"), Metric("loss", 0.5, 1)]
    core.gives("predict", *events, Warned("odd"), Progress(2, 2), Finished("x"))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert main(PREDICT) == 0
    error = capsys.readouterr().err
    assert "Working" in error
    assert "a.tif" in error
    assert "loss 0.5" in error
    assert "odd\n" in error


def test_a_log_file_gets_a_line_now_and_then(core, capsys, monkeypatch):
    monkeypatch.setattr("napari_unet.cli.report._EVERY", 0.0)
    core.gives("predict", Started("Working"), Progress(1, 4, "a"), Finished("x"))
    assert main(PREDICT) == 0
    assert "Working: 25% a" in capsys.readouterr().err


def test_a_reader_that_went_away(tmp_path):
    code = f"import sys; sys.path.insert(0, {os.getcwd()!r})\n"
    code += "from napari_unet.cli.program import _print, Answer\n"
    code += "sys.exit(_print(Answer({}, 'x' * 100000), as_json=False))"
    read, write = os.pipe()
    os.close(read)
    run = subprocess.run(
        [sys.executable, "-c", code], stdout=write, stderr=subprocess.PIPE
    )
    os.close(write)
    assert (run.returncode, run.stderr) == (0, b"")


def test_plain_values_and_table():
    facts = {"a": np.float32(0.5), "b": (1, None), "c": {"d e": np.arange(2)}, "f": ""}
    assert plain(facts) == {"a": 0.5, "b": [1, None], "c": {"d e": [0, 1]}, "f": ""}
    assert table(facts) == "a: 0.5\nb: 1, -\nc\n  d e: 0, 1\nf: -"
    facts = {"classes": {"1": {"dice": 0.5, "pixels": 3}, "2": {}}, "g": [{"h": True}]}
    assert table(facts) == "classes\n  1: dice 0.5, pixels 3\n  2: -\ng\n  h: yes"
    assert table({"k": [(3, 3), (2, 2)]}) == "k: 3 x 3, 2 x 2"


def test_plan_says_what_it_takes_and_writes_nothing(tmp_path, capsys):
    image, model = str(sample("timelapse.ome.tif")), str(sample("nuclei.safetensors"))
    assert main(["predict", image, "--model", model, "--plan"]) == 0
    lines = capsys.readouterr().out.splitlines()
    words = [line.partition(":")[0] for line in lines]
    assert words == ["way", "pieces", "device", "memory", "result", "time"]
    assert "12 x 256 x 256, 786 kB" in lines[4]
    assert main(["predict", image, "--model", model, "--plan", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["output_shape"] == [12, 256, 256]
    assert facts["pieces"] == 12


def test_the_seam_is_measured_and_nothing_is_written(capsys):
    image, model = str(sample("timelapse.ome.tif")), str(sample("nuclei.safetensors"))
    tiles = ["--tiling", "blend", "--tile", "96", "--seam"]
    assert main(["predict", image, "--model", model, *tiles, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["maximum"] > facts["mean"] > 0
    assert 0 <= facts["flips"] < 0.2
    assert facts["places"] > 1
    assert main(["predict", image, "--model", model, *tiles]) == 0
    assert "blended patches of 96 x 96" in capsys.readouterr().out


def test_a_plan_or_an_output_but_not_both(capsys):
    assert main(["predict", "i.tif", "--model", "m"]) == 2
    assert "--output --plan --seam is required" in capsys.readouterr().err
    assert main(["predict", "i.tif", "--model", "m", "--plan", "--output", "o"]) == 2
