"""What does opening the dock cost beyond napari?

    xvfb-run -a -s "-screen 0 1400x900x24" python -m benchmarks.opening [--rounds 5]

Each round opens a dock in a fresh napari window, once ours and once an empty widget,
imports and the first second on the screen included. Printed are the medians of the
processor time (which does not count what other programs take) and of the time from the
click to the first look at the event loop; and whether torch was imported.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any


def main() -> None:
    """Print a row for each kind of dock."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one", choices=("empty", "ours"), help="in this process")
    args = parser.parse_args()
    if args.one:
        print(json.dumps(opened(args.one)))
        return
    rounds: dict[str, list[dict[str, Any]]] = {"empty": [], "ours": []}
    for _ in range(args.rounds):
        for kind, told in rounds.items():
            told.append(in_fresh_process(kind))
    for kind, told in rounds.items():
        cpu, wall = (statistics.median(t[k] for t in told) for k in ("cpu", "wall"))
        torch = any(t["torch"] for t in told)
        print(f"{kind:6} {cpu:.3f} s of a core, {wall:.3f} s, torch imported: {torch}")


def in_fresh_process(kind: str) -> dict[str, Any]:
    """Open one dock in a Python of its own."""
    command = [sys.executable, "-m", "benchmarks.opening", "--one", kind]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def opened(kind: str) -> dict[str, Any]:
    """Open a dock in a napari window and measure that."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NAPARI_CONFIG"] = str(Path(folder) / "settings.yaml")
        os.environ["XDG_DATA_HOME"] = folder
        import napari
        from qtpy.QtTest import QTest

        viewer = napari.Viewer()
        QTest.qWait(2000)
        begin, busy = time.perf_counter(), time.process_time()
        if kind == "ours":
            from napari_unet.gui.dock import dock_for

            dock_for(viewer)
        else:
            from qtpy.QtWidgets import QWidget

            viewer.window.add_dock_widget(QWidget(), name="empty", area="right")
        QTest.qWait(0)
        wall = time.perf_counter() - begin
        QTest.qWait(1000)
        busy = time.process_time() - busy
        viewer.close()
    return {"cpu": busy, "wall": wall, "torch": "torch" in sys.modules}


if __name__ == "__main__":
    main()
