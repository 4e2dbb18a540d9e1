"""The pages are built, with every warning an error."""

import re
import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


def test_the_pages_are_built(tmp_path):
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going"]
    built = subprocess.run(
        [*command, str(DOCS), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    settings = (tmp_path / "reference" / "settings.html").read_text("utf-8")
    command_line = (tmp_path / "reference" / "command.html").read_text("utf-8")
    assert "max_seconds" in settings
    assert "--max-seconds" in command_line


def test_every_picture_is_shown():
    text = "".join(page.read_text("utf-8") for page in DOCS.glob("**/*.md"))
    shown = set(re.findall(r"pictures/(\w+)\.png", text))
    assert shown == {picture.stem for picture in (DOCS / "pictures").glob("*.png")}
