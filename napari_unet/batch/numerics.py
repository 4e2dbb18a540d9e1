"""What decides the last bits of a result, beyond image, model and settings."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_unet.config import PredictConfig

_PACKAGES = ("torch", "numpy", "scipy", "scikit-image", "tifffile", "imagecodecs")


def fingerprint(config: PredictConfig) -> dict[str, str]:
    """Describe the arithmetic of this process.

    Results are byte-identical only at an equal fingerprint: another number of threads
    adds up in another order, another version or processor rounds otherwise.

    Parameters
    ----------
    config : PredictConfig
        Says which device and precision are used.

    Returns
    -------
    dict of str to str
        Device, precision as asked for, threads, processor and versions.

    Raises
    ------
    DeviceError
        If the device is absent.
    """
    import torch

    from napari_unet.networks.device import choose_device

    place = choose_device(config.device)
    found = {
        "device": place.words,
        "precision": config.precision,
        "threads": str(torch.get_num_threads()),
        "processor": f"{platform.machine()} {_capability(torch)}",
        "system": platform.system(),
    }
    if place.device.type == "cuda":
        cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
        found["cuda"] = f"{torch.version.cuda}, cuDNN {cudnn}"
    return found | versions()


def versions() -> dict[str, str]:
    """Give the version of each package that takes part in the arithmetic."""
    return {name: _version(name) for name in _PACKAGES}


def difference(old: dict[str, str], new: dict[str, str]) -> str:
    """Say where two fingerprints differ; empty where one is not known or they agree."""
    if not old or not new:
        return ""
    names = [name for name in new if old.get(name) != new[name]]
    return ", ".join(f"{n} {old.get(n, 'unknown')} and {new[n]}" for n in names)


def _capability(torch: object) -> str:
    return str(torch.backends.cpu.get_cpu_capability())  # type: ignore[attr-defined]


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"
