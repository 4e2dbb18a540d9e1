"""The commands: each calls the core and makes an answer."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_unet import api
from napari_unet.cli.answer import DONE, SOME_FAILED, STOPPED, Answer, plain, table
from napari_unet.cli.options import read_settings
from napari_unet.config import BatchConfig, ExportConfig, FinetuneConfig, PredictConfig
from napari_unet.errors import UsageError
from napari_unet.events import drain
from napari_unet.inference import card
from napari_unet.page import page

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from napari_unet.cli.report import Report
    from napari_unet.events import CancelToken, Event


def inspect(args: argparse.Namespace, report: Report, cancel: CancelToken) -> Answer:
    """Say what a checkpoint is."""
    events = api.iter_inspect(
        args.model,
        told=dict(args.told), image=args.image, axes=args.axes, cancel=cancel,
    )  # fmt: skip
    facts = drain(events, report)
    return Answer(facts, page(facts))


def predict(args: argparse.Namespace, report: Report, cancel: CancelToken) -> Answer:
    """Run a model over one image."""
    config = read_settings(PredictConfig, args)
    if args.plan:
        forecast = drain(api.iter_forecast(args.image, args.model, config), report)
        facts = plain(forecast)
        words = card.lines(facts).items()
        return Answer(
            facts, "\n".join(f"{name + ':':8} {text}" for name, text in words)
        )
    if args.seam:
        events = api.iter_seam(args.image, args.model, config, cancel=cancel)
        found = plain(drain(events, report))
        return Answer(found, table(found))
    begin = time.monotonic()
    events = api.iter_predict(
        args.image, args.model, args.output, config,
        overwrite=args.overwrite, cancel=cancel,
    )  # fmt: skip
    output = drain(events, report)
    seconds = round(time.monotonic() - begin, 3)
    facts = {"output": output, "seconds": seconds, "warnings": report.warnings}
    return Answer(facts, f"{output} ({seconds:.1f} s)")


def batch(args: argparse.Namespace, report: Report, cancel: CancelToken) -> Answer:
    """Run a model over many images, or look at what a run has done."""
    if args.status:
        state = api.batch_state(args.output)
        code = SOME_FAILED if state.failures or state.damaged else DONE
        return Answer(vars(state), str(state), code)
    if args.verify:
        events = api.iter_verify(args.output, args.model, cancel=cancel)
        verdict = drain(events, report)
        code = SOME_FAILED if verdict.wrong else DONE
        return Answer(vars(verdict), str(verdict), code)
    if not args.inputs or args.model is None:
        raise UsageError("A batch needs images and --model")
    config = read_settings(BatchConfig, args)
    run = api.iter_batch_plan if args.dry_run else api.iter_batch
    events = run(args.inputs, args.model, args.output, config, cancel=cancel)
    summary = drain(events, report)
    code = SOME_FAILED if summary.count("failed") else DONE
    text = summary.listing() if args.dry_run else str(summary)
    return Answer(summary.to_dict(), text, code)


def finetune(args: argparse.Namespace, report: Report, cancel: CancelToken) -> Answer:
    """Train a model from strokes."""
    events = _learning(args, read_settings(FinetuneConfig, args), cancel)
    made = drain(events, report)
    facts: dict[str, Any] = plain(made)
    if args.plan:
        return Answer(facts, table(facts))
    return Answer(facts, table(facts), STOPPED if made.stopped else DONE)


def _learning(
    args: argparse.Namespace, config: FinetuneConfig, cancel: CancelToken
) -> Iterator[Event]:
    """Choose what is learned from: a project, or images and their strokes."""
    if len(args.images) != len(args.strokes):
        raise UsageError(
            "Each image needs its strokes",
            found=f"{len(args.images)} images and {len(args.strokes)} stroke images",
        )
    if args.project is not None:
        return api.iter_finetune_project(
            args.project, args.model, args.output or "", config,
            earlier=args.earlier, go_on=args.go_on, only_plan=args.plan, cancel=cancel,
        )  # fmt: skip
    return api.iter_finetune(
        args.images, args.strokes, args.model, args.output or "", config,
        earlier=args.earlier, go_on=args.go_on, only_plan=args.plan, cancel=cancel,
    )  # fmt: skip


def evaluate(args: argparse.Namespace, report: Report, cancel: CancelToken) -> Answer:
    """Score a label image."""
    facts = api.evaluate(args.prediction, args.truth, args.task)
    return Answer(facts, table(facts))


def export(args: argparse.Namespace, report: Report, cancel: CancelToken) -> Answer:
    """Write a model for other programs."""
    config = read_settings(ExportConfig, args)
    events = api.iter_export(
        args.model, args.output, config, overwrite=args.overwrite, cancel=cancel
    )
    facts = plain(drain(events, report))
    lines = [
        facts["output"],
        f"read again, it gives the same output within {facts['difference']:.1g}",
        *facts["notes"],
    ]
    return Answer(facts, "\n".join(lines))


def demo(args: argparse.Namespace, report: Report, cancel: CancelToken) -> Answer:
    """Show all of it on the sample data."""
    from napari_unet import demo

    def watch(event: Event) -> None:
        if isinstance(event, demo.Said):
            report.say(event.text)
        else:
            report(event)

    result = drain(demo.run(args.output, args.seconds, cancel=cancel), watch)
    if demo.can_show() and not args.no_viewer:
        report.close()
        report.say("Opening napari; --no-viewer leaves this out.")
        demo.show(Path(result.folder))
    return Answer(plain(result), result.folder)


COMMANDS = {
    "inspect": inspect,
    "predict": predict,
    "batch": batch,
    "finetune": finetune,
    "evaluate": evaluate,
    "export": export,
    "demo": demo,
}
