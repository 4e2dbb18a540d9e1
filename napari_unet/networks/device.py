"""Where a network runs: device, arithmetic and free memory, said in words."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch

from napari_unet.errors import DeviceError

_CGROUP = Path("/sys/fs/cgroup")
_PRECISIONS = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
_MEMORY_WORDS = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "cublas_status_alloc_failed",
    "cudnn_status_alloc_failed",
)


@dataclass(frozen=True)
class Placement:
    """A device and its name for people, such as ``"CPU, 2 threads"``."""

    device: torch.device
    words: str


def choose_device(name: str = "auto") -> Placement:
    """Choose where networks run.

    A CUDA device no longer rounds convolutions in float32 to TF32 afterwards, in the
    whole process.

    Parameters
    ----------
    name : str
        "cpu", "cuda", "mps", or "auto" for a GPU where there is one; "cuda:1" for the
        second GPU.

    Raises
    ------
    DeviceError
        If the device that was asked for is absent, with the reason.
    """
    if name == "cpu":
        return _cpu()
    if name == "cuda":
        return _cuda()
    if name.startswith("cuda:"):
        return _cuda(int(name.partition(":")[2]))
    if name == "mps":
        return _mps()
    if name != "auto":
        raise DeviceError(
            "The device is unknown", found=name, expected="auto, cpu, cuda or mps"
        )
    if torch.cuda.is_available():
        return _cuda()
    return _mps() if torch.backends.mps.is_available() else _cpu()


def further_gpus(device: torch.device, count: int) -> list[str]:
    """Name `count` GPUs of this machine beside `device`.

    Raises
    ------
    DeviceError
        If there are not so many.
    """
    on_cuda = device.type == "cuda"
    here = torch.cuda.device_count() if on_cuda else 0
    others = [f"cuda:{n}" for n in range(here) if n != device.index]
    if count > len(others):
        raise DeviceError(
            "There are not so many GPUs",
            found=f"{here} CUDA device{'' if here == 1 else 's'} in use or free",
            expected=str(count + 1),
            hint="Use --gpus 1.",
        )
    return others[:count]


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """Choose the arithmetic of a network on a device.

    "auto" is float32: half the digits change labels and cost a restored image its
    grey levels. Where labels allow it `napari_unet.inference.precision` finds out.

    Raises
    ------
    DeviceError
        If the device cannot compute in what was asked for.
    """
    if name == "auto":
        return torch.float32
    if name not in _PRECISIONS:
        raise DeviceError(
            "The precision is unknown", found=name, expected=", ".join(_PRECISIONS)
        )
    if name == "float16" and device.type == "cpu":
        raise DeviceError(
            "A CPU does not compute in float16", hint="Use bfloat16 or float32."
        )
    if name == "bfloat16" and device.type == "cuda" and not has_bfloat16(device):
        raise DeviceError("This GPU has no bfloat16", hint="Use float16 or float32.")
    return _PRECISIONS[name]


def training_precision(name: str, device: torch.device, ndim: int) -> torch.dtype:
    """Choose the arithmetic of a network of `ndim` spatial axes in training.

    "auto" is bfloat16 where the device computes in it: it keeps the range of float32,
    so no activation overflows, and a step takes about 0.6 of the time on a CPU with
    AVX-512 BF16 or AMX, with the same outcome. Not in 3D on a CPU: there PyTorch 2.13
    (oneDNN 3.12) reads memory nobody wrote when it computes bfloat16 gradients of thin
    volumes, seen as NaN.

    Raises
    ------
    DeviceError
        If the device cannot train in what was asked for.
    """
    if name == "float16":
        raise DeviceError(
            "Training cannot run in float16", hint="Use auto, bfloat16 or float32."
        )
    on_cpu = device.type == "cpu"
    if name == "bfloat16" and on_cpu and ndim == 3:
        raise DeviceError(
            "Training a 3D network in bfloat16 on a CPU gives wrong gradients",
            hint="Use auto or float32.",
        )
    if name == "auto":
        fast = has_bfloat16(device) and not (on_cpu and ndim == 3)
        return torch.bfloat16 if fast else torch.float32
    return choose_precision(name, device)


def free_memory(device: torch.device) -> int:
    """Bytes that can still be taken on a device; on a CPU within its group's limit."""
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(
            device
        )
        return int(torch.cuda.mem_get_info(device)[0]) + cached
    if device.type == "mps":
        taken = torch.mps.driver_allocated_memory()
        return max(0, torch.mps.recommended_max_memory() - taken)
    return min(int(psutil.virtual_memory().available), *_limits())


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on any device."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(w in text for w in _MEMORY_WORDS)


def _cpu() -> Placement:
    threads = torch.get_num_threads()
    words = f"CPU, {threads} thread{'' if threads == 1 else 's'}"
    return Placement(torch.device("cpu"), words)


def _cuda(number: int | None = None) -> Placement:
    if not torch.cuda.is_available():
        reason = (
            "PyTorch sees no NVIDIA GPU or its driver is too old"
            if torch.backends.cuda.is_built()  # type: ignore[no-untyped-call]
            else f"PyTorch {torch.__version__} is built without CUDA"
        )
        raise DeviceError("There is no CUDA device", found=reason, hint=_INSTEAD)
    # Convolutions in float32 would round to TF32, three digits; that is no float32.
    torch.backends.cudnn.allow_tf32 = False
    number = torch.cuda.current_device() if number is None else number
    device = torch.device("cuda", number)
    facts = torch.cuda.get_device_properties(device)
    size = facts.total_memory / 2**30
    return Placement(device, f"CUDA, {facts.name}, {size:.0f} GiB")


def _mps() -> Placement:
    if not torch.backends.mps.is_available():
        reason = (
            "macOS gives no access to its GPU"
            if torch.backends.mps.is_built()
            else f"PyTorch {torch.__version__} for {platform.system()} has no Metal"
        )
        raise DeviceError("There is no Apple GPU", found=reason, hint=_INSTEAD)
    return Placement(torch.device("mps"), "Apple GPU")


_INSTEAD = "Use the device auto or cpu."


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies bfloat16 itself instead of emulating it.

    A processor does with AVX-512 BF16 or AMX.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    facts: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    is_able = bool(facts.get("avx512_bf16") or facts.get("amx_bf16"))
    return device.type == "cpu" and is_able


def _limits() -> list[int]:
    """Bytes left under the limits of the control group, empty where there are none."""
    left = []
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            total = int((_CGROUP / limit).read_text())
            left.append(max(0, total - int((_CGROUP / used).read_text())))
        except (OSError, ValueError):
            continue
    return left or [2**62]
