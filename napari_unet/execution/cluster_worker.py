"""A worker of our own cluster; it ends with the process that started it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
from typing import Any

_SECONDS = 60.0
"""How long the scheduler may take to answer."""


def main() -> None:
    """Serve a scheduler until standard input ends, whose first line says which.

    That line holds the key too, so neither arguments nor environment nor disk do.
    """
    for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP"):  # the parent's to handle
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    told = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    asyncio.run(_serve(told))


def _end_with_the_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


async def _serve(told: dict[str, Any]) -> None:
    import dask
    from distributed import Security, Worker

    dask.config.set(told["config"])
    security = Security(
        require_encryption=True,
        tls_ca_file=told["certificate"],
        tls_worker_cert=told["certificate"],
        tls_worker_key=told["key"],
    )
    async with Worker(
        told["address"],
        name=told["name"],
        nthreads=1,
        host="127.0.0.1",
        protocol="tls://",
        security=security,
        local_directory=told["folder"],
        memory_limit=0,  # what computes is a process of its own, with its own limits
        dashboard=False,
        death_timeout=_SECONDS,
    ) as worker:
        await worker.finished()
