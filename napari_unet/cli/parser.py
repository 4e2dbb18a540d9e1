"""What can be typed."""

from __future__ import annotations

import argparse
import json
from typing import Any

from napari_unet import __version__
from napari_unet.cli.options import add_settings
from napari_unet.config import BatchConfig, ExportConfig, FinetuneConfig, PredictConfig

_CODES = """\
exit codes: 0 done, 1 failed, 2 wrong usage, 3 some of the images failed, 130 stopped
A name that begins with a dash is written ./-name. Put names before options that take
several values, or end those with another option."""


def parser() -> argparse.ArgumentParser:
    """Make the parser of ``napari-unet``; imports nothing heavy."""
    top = argparse.ArgumentParser(
        prog="napari-unet",
        description="Open any U-Net checkpoint, run it over large images in seamless "
        "tiles, fine-tune it from brush strokes, do folders of images.",
        epilog=_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    top.add_argument(
        "--version", action="version", version=f"unet-napari {__version__}"
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _inspect(_command(commands, "inspect", "Say what a checkpoint is."))
    _predict(_command(commands, "predict", "Run a model over one image."))
    _batch(_command(commands, "batch", "Run a model over many images, resumably."))
    _finetune(_command(commands, "finetune", "Train a model from brush strokes."))
    _evaluate(_command(commands, "evaluate", "Score a label image against the truth."))
    _export(_command(commands, "export", "Write a model for other programs."))
    _demo(_command(commands, "demo", "Show all of it on the sample data."))
    return top


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, text: str
) -> argparse.ArgumentParser:
    """Add a command with the options all commands have."""
    sub = commands.add_parser(
        name, help=text, description=text, epilog=_CODES, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    sub.add_argument(
        "--json", action="store_true", help="Write one JSON object on stdout, no text."
    )
    sub.add_argument(
        "--debug", action="store_true", help="Show where in the program an error arose."
    )
    return sub


def _model(sub: argparse._ActionsContainer, *, required: bool = True) -> None:
    """Add ``--model``."""
    sub.add_argument(
        "--model", required=required, metavar="CKPT", help="The checkpoint."
    )


def _inspect(sub: argparse.ArgumentParser) -> None:
    """Options of ``inspect``."""
    sub.add_argument("model", metavar="CKPT", help="The checkpoint.")
    sub.add_argument(
        "--set", dest="told", metavar="FIELD=VALUE", nargs="+", action="extend",
        type=_fact, default=[],
        help="Tell what the file leaves open, such as activation=sigmoid or "
        "architecture.strides=[[1,2,2],[2,2,2]]; remembered beside the checkpoint.",
    )  # fmt: skip
    sub.add_argument(
        "--image", metavar="IMAGE",
        help="An image like those of the training: find its intensity scaling from "
        "the statistics in the network.",
    )  # fmt: skip
    sub.add_argument("--axes", help="Axes of that image, such as ZYX.")


def _fact(text: str) -> tuple[str, Any]:
    """Read one told fact; a value that is no JSON is a word."""
    field, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not FIELD=VALUE")
    try:
        return field, json.loads(value)
    except (ValueError, RecursionError):
        return field, value


def _predict(sub: argparse.ArgumentParser) -> None:
    """Options of ``predict``."""
    sub.add_argument("image", metavar="IMAGE", help="The image.")
    _model(sub)
    what = sub.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--output",
        metavar="PATH",
        help="The result: .ome.tif, .imagej.tif, .ome.zarr or .npy.",
    )
    what.add_argument(
        "--plan", action="store_true",
        help="Only say how it would be done, in how much memory and how long.",
    )  # fmt: skip
    what.add_argument(
        "--seam", action="store_true",
        help="Only measure what changes at places where tiles meet if tiles lie "
        "otherwise.",
    )  # fmt: skip
    sub.add_argument(
        "--overwrite", action="store_true", help="Replace the output if it is there."
    )
    add_settings(sub, PredictConfig)


def _batch(sub: argparse.ArgumentParser) -> None:
    """Options of ``batch``."""
    sub.add_argument(
        "inputs", metavar="IMAGE_OR_FOLDER", nargs="*", help="Images, or their folders."
    )
    _model(sub, required=False)
    sub.add_argument(
        "--output", required=True, metavar="FOLDER",
        help="Folder of the results, and of the ledger by which a run goes on.",
    )  # fmt: skip
    instead = sub.add_mutually_exclusive_group()
    instead.add_argument(
        "--dry-run", action="store_true",
        help="Only say what would be done and under which names.",
    )  # fmt: skip
    instead.add_argument(
        "--status", action="store_true",
        help="Only say what the ledger of --output says, also of a run under way.",
    )  # fmt: skip
    instead.add_argument(
        "--verify", action="store_true",
        help="Only compare all results in --output, and --model if given, with the "
        "ledger; what was changed or damaged is named, with exit code 3.",
    )  # fmt: skip
    add_settings(sub, BatchConfig)


def _finetune(sub: argparse.ArgumentParser) -> None:
    """Options of ``finetune``."""
    painted = sub.add_mutually_exclusive_group(required=True)
    painted.add_argument(
        "--project", metavar="FOLDER",
        help="An annotation project of the dock, with its images, strokes and boxes.",
    )  # fmt: skip
    painted.add_argument(
        "--image", nargs="+", action="extend", metavar="I", dest="images", default=[],
        help="The images that were painted on.",
    )  # fmt: skip
    sub.add_argument(
        "--strokes", nargs="+", action="extend", metavar="S", default=[],
        help="The painted strokes, one label image for each --image; 0 is not painted.",
    )  # fmt: skip
    start = sub.add_mutually_exclusive_group(required=True)
    _model(start, required=False)
    start.add_argument("--new", action="store_true", help="Train a new network.")
    what = sub.add_mutually_exclusive_group(required=True)
    what.add_argument("--output", metavar="NEW", help="The new checkpoint.")
    what.add_argument(
        "--plan", action="store_true",
        help="Only say which network would learn, on which patches; the settings "
        "change it.",
    )  # fmt: skip
    sub.add_argument(
        "--earlier", nargs="+", action="extend", metavar="CKPT", default=[],
        help="Checkpoints of earlier rounds, oldest first: what judged them judges the "
        "new one, which is compared with the last of them.",
    )  # fmt: skip
    sub.add_argument(
        "--go-on", action="store_true",
        help="Continue the training of NEW that was stopped or killed.",
    )  # fmt: skip
    add_settings(sub, FinetuneConfig, flags={"strokes": "--stroke-ids"})


def _evaluate(sub: argparse.ArgumentParser) -> None:
    """Options of ``evaluate``."""
    sub.add_argument("prediction", metavar="PREDICTION", help="A label image.")
    sub.add_argument("truth", metavar="TRUTH", help="The true labels.")
    sub.add_argument(
        "--task", choices=("semantic", "instances"), default="semantic",
        help="Whether the numbers are classes or objects (default semantic).",
    )  # fmt: skip


def _export(sub: argparse.ArgumentParser) -> None:
    """Options of ``export``."""
    sub.add_argument("model", metavar="CKPT", help="The checkpoint.")
    sub.add_argument("--output", required=True, metavar="PATH", help="The new file.")
    sub.add_argument(
        "--overwrite", action="store_true", help="Replace the output if it is there."
    )
    add_settings(sub, ExportConfig)


def _demo(sub: argparse.ArgumentParser) -> None:
    """Options of ``demo``."""
    sub.add_argument(
        "--output", metavar="FOLDER", help="Where to write (default demo_output)."
    )
    sub.add_argument(
        "--seconds", type=float, default=45.0, metavar="N",
        help="Seconds of fine-tuning (default 45).",
    )  # fmt: skip
    sub.add_argument(
        "--no-viewer", action="store_true", help="Do not open napari at the end."
    )
