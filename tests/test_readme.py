"""What the README tells to type exists and means what it says."""

import ast
import re
import shlex
import tomllib
from pathlib import Path
from typing import get_args

import pytest

import napari_unet
from napari_unet import config
from napari_unet.cli.parser import parser

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def _option_row(option: str) -> set[str]:
    """Values of an option in the README's table."""
    (row,) = (line for line in README.splitlines() if line.startswith(f"| `{option}`"))
    return set(re.findall(r"`([^`]+)`", row.split("|")[2]))


@pytest.mark.parametrize(
    ("option", "choices"),
    [
        ("--kind", config.Kind),
        ("--tiling", config.Tiling),
        ("--precision", config.Precision),
        ("--device", config.Device),
        ("--normalize", config.Normalize),
    ],
)
def test_choices_are_those_of_the_settings(option, choices):
    assert _option_row(option) == set(get_args(choices))


def test_python_example_uses_what_there_is():
    (code,) = _blocks("python")
    used = {
        node.attr
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
        if node.value.id == "unet"
    }
    assert used == {"predict", "finetune", "evaluate", "run_batch"}
    assert used < set(napari_unet.__all__)


def test_commands_are_understood():
    (block,) = (text for text in _blocks("sh") if "napari-unet predict " in text)
    typed = [shlex.split(line)[1:] for line in block.splitlines()]
    commands = [parser().parse_args(words).command for words in typed]
    fixed = ["inspect", "predict", "batch", "finetune", "evaluate", "export", "demo"]
    assert commands == fixed


def test_options_of_the_table_exist(capsys):
    named = set(re.findall(r"`(--[a-z-]+)`", README))
    offered = set()
    for command in ("inspect", "predict", "batch", "finetune", "evaluate", "export"):
        with pytest.raises(SystemExit):
            parser().parse_args([command, "--help"])
        offered |= set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    assert {"--axes", "--json"} <= named <= offered


def test_exit_codes_are_those_the_command_tells():
    told = re.findall(r"^\| (\d+) \|", README, re.MULTILINE)
    (line,) = (x for x in parser().epilog.splitlines() if x.startswith("exit codes"))
    assert told == re.findall(r"\d+", line)


def test_sample_files_named_in_the_readme_exist():
    for name in re.findall(r'sample\("([^"]+)"\)', README):
        assert (ROOT / "sample_data" / name).exists(), name


def test_plain_commands_are_those_behind_make():
    script = (ROOT / ".ci" / "environment").read_text("utf-8")
    plain = script.replace("\\\n", " ").replace('".venv', ".venv")
    wanted = [" ".join(line.split()) for line in plain.splitlines() if "$pip" in line]
    (block,) = (b for b in _blocks("sh") if "constraints.txt" in b)
    for line in block.splitlines():
        if "pip install" not in line:
            continue
        packages = line.partition("constraints.txt")[2].split()
        assert any(set(packages) <= set(command.split()) for command in wanted), line


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for target in re.findall(r"^make ([\w-]+)", README, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_continuous_integration_runs_make_test():
    assert "make test" in (ROOT / ".ci" / "run").read_text("utf-8")


def test_every_declared_package_is_pinned():
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pinned = {_plain(line.partition("==")[0]) for line in lines if "==" in line}
    groups = [
        PROJECT["project"]["dependencies"],
        *PROJECT["project"]["optional-dependencies"].values(),
        *PROJECT["dependency-groups"].values(),
    ]
    declared = {_plain(re.split(r"[\[<>=~! ]", d)[0]) for g in groups for d in g}
    assert declared - pinned == {"unet-napari"}


def test_names_are_the_fixed_ones():
    assert PROJECT["project"]["name"] == "unet-napari"
    assert PROJECT["project"]["scripts"] == {"napari-unet": "napari_unet.cli:main"}


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
