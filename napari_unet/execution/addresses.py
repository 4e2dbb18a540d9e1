"""Where a scheduler is, and whether it may be spoken to."""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from napari_unet.errors import UsageError


def address_of(told: str) -> str:
    """Complete the address of a scheduler, or read it from a scheduler file.

    Raises
    ------
    UsageError
        If the file holds none.
    """
    if Path(told).is_file():
        try:
            told = str(json.loads(Path(told).read_text())["address"])
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise UsageError(
                f"{told} is not the file of a scheduler",
                expected="JSON with an address, as dask scheduler writes",
            ) from error
    return told if "://" in told else f"tls://{told}"


def refuse_unencrypted(address: str) -> None:
    """Refuse a scheduler that any stranger on the network could speak to.

    Raises
    ------
    UsageError
        Unless the address is ``tls://``, or ``tcp://`` on this computer.
    """
    parts = urlsplit(address)
    if parts.scheme == "tls" or (
        parts.scheme == "tcp" and _is_loopback(parts.hostname)
    ):
        return
    raise UsageError(
        "This scheduler is not encrypted",
        found=address,
        expected="an address that begins with tls://, or tcp:// on this computer",
        hint="Whoever reaches it could run programs under your name. docs/cluster.md "
        "says how to make certificates.",
    )


def _is_loopback(host: str | None) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def security_for(distributed: Any, address: str, folder: str | Path | None) -> Any:
    """Say what to show to a scheduler, and what to expect from it.

    Parameters
    ----------
    distributed : module
        Dask's.
    address : str
        The scheduler.
    folder : path-like, optional
        Holds ca.pem, cert.pem and key.pem; Dask's own settings when not given.

    Raises
    ------
    UsageError
        If a certificate is missing.
    """
    if not address.startswith("tls"):
        return distributed.Security(require_encryption=False)
    if folder is None:
        return distributed.Security(require_encryption=True)
    names = ("ca.pem", "cert.pem", "key.pem")
    missing = [name for name in names if not (Path(folder) / name).is_file()]
    if missing:
        raise UsageError(
            f"The folder of certificates {folder} is not complete",
            found=f"no {', '.join(missing)}",
            expected="ca.pem, cert.pem and key.pem",
        )
    ca, cert, key = (str(Path(folder).absolute() / name) for name in names)
    return distributed.Security(
        require_encryption=True,
        tls_ca_file=ca,
        tls_client_cert=cert,
        tls_client_key=key,
    )
