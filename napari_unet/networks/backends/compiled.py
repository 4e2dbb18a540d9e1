"""Layers compiled by TorchInductor, ahead of time, into a program that is kept.

``torch.compile`` compiles in the same way but in every process again, and runs without
after some shapes without saying so. On a CPU this needs a C++ compiler.
"""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from napari_unet.files import commit
from napari_unet.networks.backends.folder import build_folder
from napari_unet.networks.backends.quiet import quiet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from torch import nn

_WORK = "TORCHINDUCTOR_CACHE_DIR"
_SETTINGS = {"freezing": True, "compile_threads": 1}
"""Weights are laid out while it is built, and no helper processes stay behind."""


def build(
    module: nn.Module, image: torch.Tensor, facts: str
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Compile the layers for inputs like `image`, or load what was compiled before."""
    folder = build_folder(module, image, facts, "inductor")
    path = folder / "program.pt2"
    if not path.exists():
        with commit(path) as part, _working_in(folder / "work"):
            _compile(module, image, part)
    run: Callable[[torch.Tensor], Any] = torch._inductor.aoti_load_package(str(path))

    def forward(batch: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = run(batch)
        return result

    return forward


def _compile(module: nn.Module, image: torch.Tensor, path: Path) -> None:
    """Write the program; its name must end in .pt2 while it is made."""
    made = path.with_suffix(".pt2")
    with torch.no_grad(), quiet():
        program = torch.export.export(module, (image,))
        torch._inductor.aoti_compile_and_package(
            program, package_path=str(made), inductor_configs=_SETTINGS
        )
    made.replace(path)


@contextmanager
def _working_in(folder: Path) -> Iterator[None]:
    """Have the compiler work in a private folder and not in the shared one in /tmp."""
    before = os.environ.get(_WORK)
    os.environ[_WORK] = str(folder)
    try:
        yield
    finally:
        os.environ.pop(_WORK, None)
        if before is not None:
            os.environ[_WORK] = before
        shutil.rmtree(folder, ignore_errors=True)
