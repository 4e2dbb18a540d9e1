"""Prove that the attacks are real: open each as a careless program does.

``python -m hostile.controls FOLDER`` prints, for every attack with such a program, what
it did. Everything runs in this process and its working folder; nothing but the files
MARK and what the attacks themselves build is written.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from pathlib import Path

from hostile import files
from hostile.attacks import CORPUS, Attack


def fires(attack: Attack, folder: Path) -> bool:
    """Whether a careless program runs code, reads elsewhere or would grow."""
    folder.mkdir(parents=True)
    os.chdir(folder)
    path = folder / attack.name
    files.beside(path)
    attack.build(path)
    got = None
    with suppress(Exception):  # many fail after the harm is done
        got = attack.careless(path)
    if attack.goal == "run":
        return (folder / files.MARK).exists()
    if attack.goal == "read":
        return got == (folder / files.SECRET).read_bytes()
    return got > 100 * _size(path)


def _size(path: Path) -> int:
    return sum(p.stat().st_size for p in [path, *path.rglob("*")])


def main() -> None:
    sys.path.insert(0, "")  # a careless program imports from where it stands
    place = Path(sys.argv[1]).resolve()
    done = {
        str(attack): fires(attack, place / str(n))
        for n, attack in enumerate(CORPUS)
        if attack.careless is not None
    }
    print(json.dumps(done))


if __name__ == "__main__":
    main()
