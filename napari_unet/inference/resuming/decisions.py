"""What a run is about, and what it decided before its first pixel.

A run goes on where another one stopped only if both are about the same, and then with
the decisions of the first: they depend on the free memory at its time.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import napari_unet
from napari_unet.config import PredictConfig
from napari_unet.images.intensity import Scaling
from napari_unet.inference import shared
from napari_unet.inference.job import known_row_cost
from napari_unet.inference.plan import Memory, RowCost
from napari_unet.networks.device import choose_device

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_unet.images.stack import ImageStack
    from napari_unet.inference.job import Job
    from napari_unet.networks.network import Network

WORDS = {
    "image": "the image changed",
    "model": "the model changed",
    "settings": "the settings changed",
    "versions": "the program or a library changed",
    "device": "the device changed",
}
"""What a difference between two runs is called."""


@dataclass(frozen=True)
class Decisions:
    """What a run decided before its first pixel.

    Attributes
    ----------
    memory : Memory, optional
        What the plan was made for; None where there is no such plan.
    scaling : Scaling
        Intensity scaling.
    precision : str
        Arithmetic of the network.
    """

    memory: Memory | None
    scaling: Scaling
    precision: str

    @classmethod
    def of(cls, job: Job, scaling: Scaling) -> Decisions:
        """Return those of a job that is about to run."""
        memory, cost = job.memory, known_row_cost(job.network)
        if memory is not None:
            memory = replace(memory, rows=lambda: cost)
        return cls(memory, scaling, str(job.placed.dtype).removeprefix("torch."))

    def settle(self, job: Job) -> Job:
        """Return a job with the arithmetic decided on."""
        if str(job.placed.dtype) == f"torch.{self.precision}":
            return job
        placed = shared.placed(job.network, job.config.device, self.precision)
        return replace(job, placed=placed)

    def to_json(self) -> dict[str, Any]:
        """Give all of it as plain values."""
        memory = self.memory and {
            "budget": self.memory.budget,
            "per_pixel": self.memory.per_pixel,
            "comfort": self.memory.comfort,
            "rows": (cost := self.memory.rows()) and asdict(cost),
        }
        scaling = asdict(self.scaling)
        return {"memory": memory, "scaling": scaling, "precision": self.precision}

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> Decisions | None:
        """Read what `to_json` gave; None where it makes no sense."""
        try:
            memory, scaling = facts["memory"], facts["scaling"]
            own = {k: v if k == "nan" else tuple(v) for k, v in scaling.items()}
            numbers = Scaling(**own)  # type: ignore[arg-type]
            found = cls(memory and _memory(memory), numbers, facts["precision"])
        except (TypeError, ValueError, KeyError, AttributeError):
            return None
        is_known = found.precision in ("float32", "bfloat16", "float16")
        is_sound = all(map(_is_number, (*numbers.gain, *numbers.offset)))
        is_sound &= len(numbers.gain) == len(numbers.offset) == len(numbers.clip)
        return found if is_known and is_sound else None


def identity(
    stack: ImageStack,
    network: Network,
    config: PredictConfig,
    scaling: Scaling | None,
) -> dict[str, Any] | None:
    """Tell what decides the bytes of a result, as plain values.

    Returns
    -------
    dict or None
        None where the image or the model is not from a file, so that it cannot be told
        whether it is the same one later.

    Raises
    ------
    DeviceError
        If the device is absent.
    """
    state = _state(Path(stack.source)) if stack.source else None
    if state is None or not network.digest:
        return None
    settings = config.model_dump(mode="json", include=set(PredictConfig.model_fields))
    pixels = stack.axes, stack.shape, stack.dtype.str, stack.name, stack.channel_names
    found = {
        "image": [*state, pixels, dict(stack.scale), dict(stack.units)],
        "model": [network.digest, network.spec.model_dump(mode="json")],
        "settings": [settings, scaling and asdict(scaling)],
        "versions": [napari_unet.__version__, torch.__version__, np.__version__],
        "device": [choose_device(config.device).words, *_processor()],
    }
    plain: dict[str, Any] = json.loads(json.dumps(found, default=str))
    return plain


def _processor() -> list[Any]:
    """Tell what decides how a processor adds up."""
    facts: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return [
        torch.get_num_threads(),
        torch.backends.cpu.get_cpu_capability(),
        sorted(facts.items()),
    ]


def _state(path: Path) -> list[Any] | None:
    """Tell the bytes of a file or folder and its last change; None if it is none."""
    try:
        files = [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]
        states = [os.stat(p) for p in files]
    except OSError:
        return None
    newest = max((s.st_mtime_ns for s in states), default=0)
    return [str(path.resolve()), len(files), sum(s.st_size for s in states), newest]


def _memory(facts: Mapping[str, Any]) -> Memory:
    """Read what a plan was made for."""
    cost = facts["rows"] and RowCost(**facts["rows"])
    numbers = [facts["budget"], facts["per_pixel"], facts["comfort"] or 0]
    numbers += [cost.held, cost.moving, cost.chunk] if cost else []
    if not all(_is_number(n) and n >= 0 for n in numbers):
        raise ValueError("no memory")
    if cost and not (isinstance(cost.chunk, int) and cost.chunk > 0):
        raise ValueError("no rows")
    return Memory(
        int(facts["budget"]), facts["per_pixel"], facts["comfort"], lambda: cost
    )


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)
