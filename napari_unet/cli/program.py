"""From arguments to exit code."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import traceback
from typing import TYPE_CHECKING

from napari_unet.cli.answer import FAILED, STOPPED, USAGE, Answer
from napari_unet.cli.logs import logging_to_file
from napari_unet.cli.parser import parser
from napari_unet.cli.report import Report
from napari_unet.cli.stopping import stoppable
from napari_unet.errors import UNetError, UsageError
from napari_unet.events import Stopped
from napari_unet.execution import memory

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``napari-unet``.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program's name; those of the process when not given.

    Returns
    -------
    int
        0 done, 1 failed, 2 wrong usage, 3 some images failed, 130 stopped.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if argv is None:
        memory.keep()
    try:
        args = parser().parse_args(argv)
    except SystemExit as stop:
        return int(stop.code or 0)
    with logging_to_file() as log:
        answer = _answer(args, log)
    return _print(answer, as_json=args.json)


def _answer(args: argparse.Namespace, log: str) -> Answer:
    """Run the command; whatever goes wrong becomes one sentence."""
    report = Report()
    try:
        with contextlib.redirect_stdout(sys.stderr), stoppable(report.say) as cancel:
            from napari_unet.cli.commands import COMMANDS

            return COMMANDS[args.command](args, report, cancel)
    except (Stopped, KeyboardInterrupt) as stop:
        return _trouble(report, f"stopped. {stop}".rstrip(), STOPPED)
    except UNetError as error:
        _trace(args)
        code = USAGE if isinstance(error, UsageError) else FAILED
        return _trouble(report, str(error), code)
    except MemoryError:
        _trace(args)
        text = "there was not enough memory. Try a smaller --tile."
        return _trouble(report, text, FAILED)
    except Exception as error:
        _trace(args)
        text = f"it met an unexpected error ({type(error).__name__}: {error})."
        return _trouble(report, f"{text} {_note(log)}", FAILED)
    finally:
        report.close()


def _trouble(report: Report, text: str, code: int) -> Answer:
    """Say one sentence on stderr and keep it for the JSON."""
    report.close()
    report.say(f"napari-unet: {text}")
    return Answer({"error": text, "code": code}, code=code)


def _trace(args: argparse.Namespace) -> None:
    """Show the traceback to who asked for it."""
    if args.debug:
        traceback.print_exc()


def _note(log: str) -> str:
    """Log the error under way and say where."""
    import logging

    logging.getLogger("napari_unet").exception("unexpected error")
    where = f"Its details are in {log}." if log else "--debug shows its details."
    return where


def _print(answer: Answer, *, as_json: bool) -> int:
    """Write the answer; a reader that went away is no error."""
    text = answer.to_json() if as_json else answer.text
    try:
        if text:
            print(text, flush=True)
    except BrokenPipeError:
        # what is still buffered would fail again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return answer.code
